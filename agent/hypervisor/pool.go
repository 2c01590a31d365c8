package hypervisor

import (
	"context"
	"fmt"
	"sync"
	"time"

	"libvirt.org/go/libvirt"
)

// pool bounds the calls that are under way in libvirt, those that were given up
// and hang there included, and keeps the connections that they are made on.
//
// A connection has one call at a time. libvirtd works on five calls of one
// connection and leaves the others unread (max_client_requests); and up to
// libvirt 9 at least, the library can forget to send a call while another one of
// the same connection waits for its answer. Either way a hung domain would hold
// up calls that have nothing to do with it.
type pool struct {
	dial   func() (*libvirt.Connect, error)
	places chan struct{}

	mu   sync.Mutex
	hung map[string]int // calls given up and not returned, by subject; guarded by mu
	idle []*libvirt.Connect
	era  int // counts flushes: connections of an earlier era are not used again; guarded by mu
}

func newPool(size int, dial func() (*libvirt.Connect, error)) *pool {
	return &pool{dial: dial, places: make(chan struct{}, size), hung: map[string]int{}}
}

// take returns a connection for one call, and the era that it belongs to.
func (p *pool) take() (*libvirt.Connect, int, error) {
	p.mu.Lock()
	era := p.era
	if last := len(p.idle) - 1; last >= 0 {
		c := p.idle[last]
		p.idle = p.idle[:last]
		p.mu.Unlock()
		return c, era, nil
	}
	p.mu.Unlock()
	c, err := p.dial()
	return c, era, err
}

// give puts a connection back, or ends it when it is of no use any more.
func (p *pool) give(c *libvirt.Connect, era int, useless bool) {
	p.mu.Lock()
	if !useless && era == p.era {
		p.idle = append(p.idle, c) // no more than there are places
		c = nil
	}
	p.mu.Unlock()
	if c != nil {
		_, _ = c.Close() // it is broken or unwanted; there is nobody to tell
	}
}

// flush ends the idle connections, and those in use when their call returns.
func (p *pool) flush() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.era = nil, p.era+1
	p.mu.Unlock()
	for _, c := range idle {
		_, _ = c.Close() // as above
	}
}

// hanging is how many calls were given up and have not returned.
func (p *pool) hanging() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, k := range p.hung {
		n += k
	}
	return n
}

// refuse says why no call on the subject may start: one that hangs already is not
// asked again, so that one hung domain cannot take all places.
func (p *pool) refuse(subject string) error {
	all := p.hanging()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.hung[subject] > 0:
		return fmt.Errorf("%w: an earlier call still hangs", ErrTimeout)
	case all >= cap(p.places):
		return fmt.Errorf("%w: all %d hang", ErrOverloaded, all)
	}
	return nil
}

// flight is one call under way.
type flight struct {
	p               *pool
	subject         string
	givenUp, landed bool // guarded by p.mu
}

// land notes that the call has returned, and says whether anyone still waits.
func (f *flight) land() (awaited bool) {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	f.landed = true
	if f.givenUp {
		if f.p.hung[f.subject]--; f.p.hung[f.subject] == 0 {
			delete(f.p.hung, f.subject)
		}
	}
	return !f.givenUp
}

// giveUp stops waiting; false when the call has returned just now.
func (f *flight) giveUp() bool {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	if f.landed {
		return false
	}
	f.givenUp = true
	f.p.hung[f.subject]++
	return true
}

// answer is what a call came back with.
type answer[T any] struct {
	v   T
	err error
}

// job is a call to make.
type job[T any] struct {
	subject string // what hangs when it hangs: «look up» and the domain's id
	limit   time.Duration
	fn      func() (T, error)
	late    func(T) // takes the value of a call that was given up; may be nil
}

// run makes the call on a goroutine of its own and gives it up after its limit.
// What was given up keeps its place until it returns.
func run[T any](ctx context.Context, p *pool, j job[T]) (T, error) {
	var zero T
	if err := p.refuse(j.subject); err != nil {
		return zero, err
	}
	timer := time.NewTimer(j.limit)
	defer timer.Stop()
	select {
	case p.places <- struct{}{}:
	case <-timer.C:
		return zero, fmt.Errorf("%w: no place within %v", ErrOverloaded, j.limit)
	case <-ctx.Done():
		return zero, ctx.Err()
	}
	f := &flight{p: p, subject: j.subject}
	ch := make(chan answer[T], 1)
	go func() {
		defer func() { <-p.places }()
		v, err := j.fn()
		if f.land() {
			ch <- answer[T]{v, err}
		} else if err == nil && j.late != nil {
			j.late(v)
		}
	}()
	var why error
	select {
	case a := <-ch:
		return a.v, typed(a.err)
	case <-timer.C:
		why = fmt.Errorf("%w (%v)", ErrTimeout, j.limit)
	case <-ctx.Done():
		why = ctx.Err()
	}
	if f.giveUp() {
		return zero, why
	}
	a := <-ch
	return a.v, typed(a.err)
}
