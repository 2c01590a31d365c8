package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"libvirt.org/go/libvirt"
)

const (
	backoffMin   = 200 * time.Millisecond
	backoffMax   = 10 * time.Second
	aliveEvery   = 2 * time.Second
	keepAliveSec = 5
	keepAliveNum = 5
)

// link keeps one connection to libvirtd. libvirtd works on at most five calls of
// one connection at a time (max_client_requests) and leaves the others unread,
// so a driver has several: looks that hang must not hold up an act, nor a
// migration of hours the looks.
type link struct {
	name string
	d    *Libvirt
	pool *pool
	// subscribe registers what the connection shall tell; it returns the ids
	// of the callbacks.
	subscribe func(*libvirt.Connect) ([]int, error)
	// changed is told of each made and each broken connection; may be nil.
	changed func(Event)

	mu     sync.Mutex
	conn   *connection // nil while not connected; guarded by mu
	err    error       // why not connected; guarded by mu
	closed bool        // no connection is made any more; guarded by mu
}

// connection is one that was made.
type connection struct {
	*libvirt.Connect
	callbacks []int
	// users are the calls under way on it. libvirt frees a connection under the
	// feet of a call; a link adds none once it has let go of the connection.
	users sync.WaitGroup
	gone      chan struct{} // gets a value when libvirt says that it broke
}

// state is nil when connected, else why not.
func (l *link) state() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// acquire returns the connection with a user more, or why there is none.
func (l *link) acquire() (*connection, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return nil, l.err
	}
	l.conn.users.Add(1)
	return l.conn, nil
}

// holds says whether conn is still the link's connection.
func (l *link) holds(conn *connection) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn == conn
}

// keep makes the connection anew whenever it breaks, until ctx ends.
func (l *link) keep(ctx context.Context) {
	wait := backoffMin
	alive := time.NewTicker(aliveEvery)
	defer alive.Stop()
	for {
		if conn, err := l.acquire(); err == nil {
			conn.users.Done() // gone is no call
			wait = backoffMin
			select {
			case <-ctx.Done():
				return
			case <-conn.gone:
				l.drop(errors.New("libvirtd closed the connection"))
			case <-alive.C:
				if ok, err := on(l, (*libvirt.Connect).IsAlive); err == nil && !ok {
					l.drop(errors.New("libvirtd is gone"))
				}
			}
			continue
		}
		retry := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			retry.Stop()
			return
		case <-retry.C:
		}
		if wait = min(2*wait, backoffMax); l.connect(ctx) && l.changed != nil {
			l.changed(Event{Kind: EventConnected})
		}
	}
}

// connect tries once.
func (l *link) connect(ctx context.Context) bool {
	conn, err := run(ctx, l.pool, job[*connection]{subject: "connect", limit: l.d.o.Timeout, fn: l.dial,
		late: func(c *connection) { c.release() }})
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		l.err = fmt.Errorf("%w: %s: %w", ErrNotConnected, l.d.o.URI, err)
		return false
	case l.closed:
		l.release(conn)
		return false
	}
	l.conn, l.err = conn, nil
	return true
}

// dial makes a connection with keep-alives, and registers the callbacks.
func (l *link) dial() (*connection, error) {
	c, err := libvirt.NewConnect(l.d.o.URI)
	if err != nil {
		return nil, err
	}
	conn := &connection{Connect: c, gone: make(chan struct{}, 1)}
	// Drivers without a daemon (test:///) know neither keep-alives nor a close.
	_ = c.SetKeepAlive(keepAliveSec, keepAliveNum)
	err = c.RegisterCloseCallback(func(*libvirt.Connect, libvirt.ConnectCloseReason) {
		select {
		case conn.gone <- struct{}{}:
		default:
		}
	})
	if err != nil && !isCode(err, libvirt.ERR_NO_SUPPORT) {
		conn.release()
		return nil, fmt.Errorf("close callback: %w", err)
	}
	if conn.callbacks, err = l.subscribe(c); err != nil {
		conn.release()
		return nil, err
	}
	return conn, nil
}

// release ends a connection when the last call on it has returned. Each callback holds a reference to it: unless they
// are taken back first, the connection and its socket stay for ever. On one that
// broke all of this fails, and takes effect all the same.
func (c *connection) release() {
	c.users.Wait()
	for _, id := range c.callbacks {
		_ = c.DomainEventDeregister(id)
	}
	_ = c.UnregisterCloseCallback()
	_, _ = c.Close()
}

// drop gives the connection up.
func (l *link) drop(why error) {
	l.mu.Lock()
	conn := l.conn
	l.conn, l.err = nil, fmt.Errorf("%w: %w", ErrNotConnected, why)
	l.mu.Unlock()
	if conn == nil {
		return
	}
	if l.changed != nil {
		l.d.o.Logger.Warn("libvirtd is gone; reconnecting", "uri", l.d.o.URI, "why", why)
		l.changed(Event{Kind: EventLost, Detail: why.Error()})
	}
	l.release(conn)
}

// release ends a connection beside the caller: closing may wait for calls that
// hang in it. With no place left the connection is leaked rather than waited for.
func (l *link) release(conn *connection) {
	select {
	case l.pool.places <- struct{}{}:
		go func() {
			defer func() { <-l.pool.places }()
			conn.release()
		}()
	default:
	}
}

// close ends the link; keep must have been stopped, or be about to.
func (l *link) close() {
	l.mu.Lock()
	conn := l.conn
	l.conn, l.closed, l.err = nil, true, fmt.Errorf("%w: the driver is closed", ErrNotConnected)
	l.mu.Unlock()
	if conn != nil {
		l.release(conn)
	}
}
