package hypervisor

import (
	"context"
	"fmt"
	"sync"
	"time"

	"libvirt.org/go/libvirt"
)

// pool bounds the calls that are under way in libvirt, those that were given up
// and hang there included.
type pool struct {
	places chan struct{}

	mu   sync.Mutex
	hung map[string]int // calls given up and not returned, by subject; guarded by mu
}

func newPool(size int) *pool {
	return &pool{places: make(chan struct{}, size), hung: map[string]int{}}
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
	subject string // what hangs when it hangs: «lookup» and the domain's id
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

// call runs fn on a link's connection.
func call[T any](ctx context.Context, d *Libvirt, l *link, subject string, fn func(*libvirt.Connect) (T, error)) (T, error) {
	return run(ctx, l.pool, job[T]{subject: subject, limit: d.o.Timeout, fn: func() (T, error) { return on(l, fn) }})
}

// on runs fn on the link's connection, which is not closed meanwhile.
func on[T any](l *link, fn func(*libvirt.Connect) (T, error)) (T, error) {
	conn, err := l.acquire()
	if err != nil {
		var zero T
		return zero, err
	}
	defer conn.users.Done()
	return fn(conn.Connect)
}

// onDomain runs fn on one domain.
func onDomain[T any](ctx context.Context, d *Libvirt, l *link, id, what string, fn func(*libvirt.Domain) (T, error)) (T, error) {
	v, err := call(ctx, d, l, what+" "+id, func(c *libvirt.Connect) (T, error) {
		dom, err := c.LookupDomainByUUIDString(id)
		if err != nil {
			var zero T
			return zero, err
		}
		defer func() { _ = dom.Free() }() // fails only for a domain that is not one
		return fn(dom)
	})
	if err != nil {
		return v, fmt.Errorf("%s domain %s: %w", what, id, err)
	}
	return v, nil
}

// do is onDomain for acts without a value.
func (d *Libvirt) do(ctx context.Context, id, what string, fn func(*libvirt.Domain) error) error {
	_, err := onDomain(ctx, d, d.acts, id, what, func(dom *libvirt.Domain) (struct{}, error) { return struct{}{}, fn(dom) })
	return err
}
