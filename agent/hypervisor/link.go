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

// link keeps the connection on which libvirtd tells what happens. No call is made
// on it; that it is there says that libvirtd is.
type link struct {
	d *Libvirt

	mu     sync.Mutex
	conn   *watcher // nil while not connected; guarded by mu
	err    error    // why not connected, nil when it is; guarded by mu
	closed bool     // no connection is made any more; guarded by mu
}

// watcher is a connection with its callbacks.
type watcher struct {
	*libvirt.Connect
	callbacks []int
	gone      chan struct{} // gets a value when libvirt says that it broke
}

// state is nil when connected, else why not.
func (l *link) state() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *link) current() *watcher {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn
}

// keep makes the connection anew whenever it breaks, until ctx ends.
func (l *link) keep(ctx context.Context) {
	wait := backoffMin
	alive := time.NewTicker(aliveEvery)
	defer alive.Stop()
	for {
		if conn := l.current(); conn != nil {
			wait = backoffMin
			select {
			case <-ctx.Done():
				return
			case <-conn.gone:
				l.drop(conn, errors.New("libvirtd closed the connection"))
			case <-alive.C: // asks the library and not libvirtd
				if ok, err := conn.IsAlive(); err == nil && !ok {
					l.drop(conn, errors.New("libvirtd is gone"))
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
		if wait = min(2*wait, backoffMax); l.connect(ctx) {
			l.d.feed.emit(Event{Kind: EventConnected})
		}
	}
}

// connect tries once.
func (l *link) connect(ctx context.Context) bool {
	conn, err := run(ctx, l.d.acts, job[*watcher]{subject: "connect", limit: l.d.o.Timeout, fn: l.dial, late: (*watcher).release})
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil && l.closed:
		return false
	case err != nil:
		if l.err = fmt.Errorf("%s: %w", l.d.o.URI, err); !errors.Is(err, ErrNotConnected) {
			l.err = fmt.Errorf("%w: %w", ErrNotConnected, l.err)
		}
		return false
	case l.closed:
		conn.release()
		return false
	}
	l.conn, l.err = conn, nil
	return true
}

// dial makes a connection with keep-alives.
func dial(uri string) (*libvirt.Connect, error) {
	c, err := libvirt.NewConnect(uri)
	if err != nil {
		return nil, err
	}
	_ = c.SetKeepAlive(keepAliveSec, keepAliveNum) // drivers without a daemon (test:///) know none
	return c, nil
}

// dial makes a connection and registers the callbacks.
func (l *link) dial() (*watcher, error) {
	c, err := dial(l.d.o.URI)
	if err != nil {
		return nil, err
	}
	conn := &watcher{Connect: c, gone: make(chan struct{}, 1)}
	err = c.RegisterCloseCallback(func(*libvirt.Connect, libvirt.ConnectCloseReason) {
		select {
		case conn.gone <- struct{}{}:
		default:
		}
	})
	if err == nil || isCode(err, libvirt.ERR_NO_SUPPORT) {
		err = l.d.subscribe(conn)
	}
	if err != nil {
		conn.release()
		return nil, err
	}
	return conn, nil
}

// release ends a connection. Each callback holds a reference to it: unless they
// are taken back first, the connection and its socket stay for ever. On one that
// broke all of this fails, and takes effect all the same.
func (c *watcher) release() {
	for _, id := range c.callbacks {
		_ = c.DomainEventDeregister(id)
	}
	_ = c.UnregisterCloseCallback()
	_, _ = c.Close()
}

// drop gives a broken connection up, and those for calls with it.
func (l *link) drop(conn *watcher, why error) {
	l.mu.Lock()
	if l.conn != conn { // Close took it
		l.mu.Unlock()
		return
	}
	l.conn, l.err = nil, fmt.Errorf("%w: %w", ErrNotConnected, why)
	l.mu.Unlock()
	l.d.o.Logger.Warn("libvirtd is gone; reconnecting", "uri", l.d.o.URI, "why", why)
	l.d.feed.emit(Event{Kind: EventLost, Detail: why.Error()})
	for _, p := range l.d.pools() {
		p.flush()
	}
	conn.release()
}

// close ends the link once keep has been stopped.
func (l *link) close() {
	l.mu.Lock()
	conn := l.conn
	l.conn, l.closed, l.err = nil, true, fmt.Errorf("%w: the driver is closed", ErrNotConnected)
	l.mu.Unlock()
	if conn != nil {
		conn.release()
	}
}
