package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"libvirt.org/go/libvirt"
)

// Options says how to reach libvirtd.
type Options struct {
	URI     string        // default qemu:///system
	Timeout time.Duration // of each call but Migrate; default 5 s
	RunDir  string        // where QEMU's pid files are; default /run/libvirt/qemu
	ProcDir string        // default /proc
	Logger  *slog.Logger
}

const (
	maxCalls     = 32  // calls under way, hung ones included
	eventBuffer  = 256 // domain events waiting for the consumer
	backoffMin   = 200 * time.Millisecond
	backoffMax   = 10 * time.Second
	aliveEvery   = 2 * time.Second
	keepAliveSec = 5
	keepAliveNum = 5
)

// Libvirt is a driver on one libvirtd. All methods may be called concurrently.
type Libvirt struct {
	o      Options
	calls  chan struct{} // a place for each call under way
	events chan Event
	lost   atomic.Uint64
	broken chan struct{} // signals that the connection is gone
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	conn *libvirt.Connect // nil while not connected; guarded by mu
	err  error            // why not connected; guarded by mu
	info *HostInfo        // of this connection; guarded by mu
}

// eventLoop starts libvirt's event loop, once per process: libvirt has no way to
// take it back.
var eventLoop = sync.OnceValue(func() error {
	if err := libvirt.EventRegisterDefaultImpl(); err != nil {
		return fmt.Errorf("libvirt event loop: %w", err)
	}
	go func() {
		for {
			// An error here is an interrupted poll; the loop goes on.
			_ = libvirt.EventRunDefaultImpl()
		}
	}()
	return nil
})

// Open connects to libvirtd and keeps the connection until Close. A libvirtd
// that does not answer is no error: the driver tries again, and says so by
// Connected. A missing library is ErrLibvirtMissing.
func Open(ctx context.Context, o Options) (*Libvirt, error) {
	if o.URI == "" {
		o.URI = "qemu:///system"
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.RunDir == "" {
		o.RunDir = "/run/libvirt/qemu"
	}
	if o.ProcDir == "" {
		o.ProcDir = "/proc"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := libraryPresent(); err != nil {
		return nil, err
	}
	if err := eventLoop(); err != nil {
		return nil, err
	}
	keepCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	d := &Libvirt{
		o: o, calls: make(chan struct{}, maxCalls), events: make(chan Event, eventBuffer),
		broken: make(chan struct{}, 1), stop: stop, err: fmt.Errorf("%w yet", ErrNotConnected),
	}
	d.connect(ctx)
	d.wg.Go(func() { d.keep(keepCtx) })
	return d, nil
}

// libraryPresent calls the library once; without it the call reports so.
func libraryPresent() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrLibvirtMissing, r)
		}
	}()
	if _, err := libvirt.GetVersion(); err != nil {
		return fmt.Errorf("%w: %w", ErrLibvirtMissing, err)
	}
	return nil
}

// keep makes the connection anew whenever it breaks, until ctx ends.
func (d *Libvirt) keep(ctx context.Context) {
	wait := backoffMin
	alive := time.NewTicker(aliveEvery)
	defer alive.Stop()
	for {
		if d.current() != nil {
			wait = backoffMin
			select {
			case <-ctx.Done():
				return
			case <-d.broken:
				d.drop(errors.New("libvirtd closed the connection"))
			case <-alive.C:
				d.checkAlive(ctx)
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
		if wait = min(2*wait, backoffMax); d.connect(ctx) {
			d.emit(Event{Kind: EventConnected})
		}
	}
}

func (d *Libvirt) current() *libvirt.Connect {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.conn
}

// checkAlive asks the connection whether it still is one.
func (d *Libvirt) checkAlive(ctx context.Context) {
	alive, err := call(ctx, d, func(c *libvirt.Connect) (bool, error) { return c.IsAlive() })
	if err == nil && !alive {
		d.drop(errors.New("libvirtd is gone"))
	}
}

// drop gives the connection up.
func (d *Libvirt) drop(why error) {
	d.mu.Lock()
	conn := d.conn
	d.conn, d.info, d.err = nil, nil, fmt.Errorf("%w: %w", ErrNotConnected, why)
	d.mu.Unlock()
	if conn == nil {
		return
	}
	d.o.Logger.Warn("libvirtd is gone; reconnecting", "uri", d.o.URI, "why", why)
	d.emit(Event{Kind: EventLost, Detail: why.Error()})
	d.release(conn)
}

// release closes a connection beside the caller: closing waits for calls that
// hang in it.
func (d *Libvirt) release(conn *libvirt.Connect) {
	select {
	case d.calls <- struct{}{}:
		d.wg.Go(func() {
			defer func() { <-d.calls }()
			_, _ = conn.Close() // it is gone already; there is nobody to tell
		})
	default: // every place hangs: the connection is leaked rather than waited for
	}
}

// connect tries once.
func (d *Libvirt) connect(ctx context.Context) bool {
	conn, err := within(ctx, d, "connect", func() (*libvirt.Connect, error) {
		c, err := libvirt.NewConnect(d.o.URI)
		if err != nil {
			return nil, err
		}
		return c, d.subscribe(c)
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.err = fmt.Errorf("%w: %s: %w", ErrNotConnected, d.o.URI, err)
		return false
	}
	d.conn, d.err = conn, nil
	return true
}

// subscribe asks for keep-alives, the close and the domain events.
func (d *Libvirt) subscribe(c *libvirt.Connect) error {
	// Drivers without a daemon (test:///) know no keep-alive.
	_ = c.SetKeepAlive(keepAliveSec, keepAliveNum)
	if err := c.RegisterCloseCallback(func(*libvirt.Connect, libvirt.ConnectCloseReason) {
		select {
		case d.broken <- struct{}{}:
		default:
		}
	}); err != nil && !isCode(err, libvirt.ERR_NO_SUPPORT) {
		return fmt.Errorf("close callback: %w", err)
	}
	if _, err := c.DomainEventLifecycleRegister(nil, d.lifecycle); err != nil {
		return fmt.Errorf("domain events: %w", err)
	}
	return nil
}

// emit hands an event over; when the consumer is slow it is lost and counted.
func (d *Libvirt) emit(ev Event) {
	ev.At = time.Now()
	select {
	case d.events <- ev:
	default:
		d.lost.Add(1)
	}
}

var lifecycleKinds = map[libvirt.DomainEventType]EventKind{
	libvirt.DOMAIN_EVENT_DEFINED: EventDefined, libvirt.DOMAIN_EVENT_UNDEFINED: EventUndefined,
	libvirt.DOMAIN_EVENT_STARTED: EventStarted, libvirt.DOMAIN_EVENT_SUSPENDED: EventSuspended,
	libvirt.DOMAIN_EVENT_RESUMED: EventResumed, libvirt.DOMAIN_EVENT_STOPPED: EventStopped,
	libvirt.DOMAIN_EVENT_CRASHED: EventCrashed,
}

// lifecycle is called from libvirt's event loop and must not block.
func (d *Libvirt) lifecycle(_ *libvirt.Connect, dom *libvirt.Domain, ev *libvirt.DomainEventLifecycle) {
	out := Event{Kind: lifecycleKinds[ev.Event]}
	if out.Kind == "" {
		out.Kind = EventOther
	}
	out.ID, _ = dom.GetUUIDString()
	out.Name, _ = dom.GetName()
	if ev.Event == libvirt.DOMAIN_EVENT_SUSPENDED && ev.Detail == int(libvirt.DOMAIN_EVENT_SUSPENDED_MIGRATED) {
		out.Detail = "migrated"
	}
	d.emit(out)
}

// Events are what happened to domains; there is one consumer. Lost events show as
// a gap that the next list of domains closes.
func (d *Libvirt) Events() <-chan Event { return d.events }

// Connected says whether libvirtd answers, and why not.
func (d *Libvirt) Connected() (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.conn != nil, d.err
}

// Hanging is how many calls are under way, those that were given up included.
func (d *Libvirt) Hanging() int { return len(d.calls) }

// Close ends the connection and waits for the driver's goroutines, but not for
// calls that hang in libvirt.
func (d *Libvirt) Close() error {
	d.stop()
	d.mu.Lock()
	conn := d.conn
	d.conn, d.err = nil, fmt.Errorf("%w: the driver is closed", ErrNotConnected)
	d.mu.Unlock()
	if conn != nil {
		d.release(conn)
	}
	done := make(chan struct{})
	go func() {
		d.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(d.o.Timeout):
		d.o.Logger.Warn("calls hang in libvirt; leaving them", "calls", d.Hanging())
	}
	return nil
}

func isCode(err error, codes ...libvirt.ErrorNumber) bool {
	var e libvirt.Error
	if !errors.As(err, &e) {
		return false
	}
	for _, c := range codes {
		if e.Code == c {
			return true
		}
	}
	return false
}

// typed gives libvirt's errors the kinds that callers decide on.
func typed(err error) error {
	switch {
	case err == nil:
		return nil
	case isCode(err, libvirt.ERR_NO_DOMAIN):
		return fmt.Errorf("%w: %w", ErrNoSuchDomain, err)
	case isCode(err, libvirt.ERR_OPERATION_TIMEOUT), isCode(err, libvirt.ERR_RESOURCE_BUSY):
		return fmt.Errorf("%w: %w", ErrJobActive, err)
	case broken(err):
		return fmt.Errorf("%w: %w", ErrNotConnected, err)
	}
	return err
}

// broken says that the connection failed and not the operation.
func broken(err error) bool {
	if isCode(err, libvirt.ERR_RPC, libvirt.ERR_NO_CONNECT, libvirt.ERR_INVALID_CONN) {
		return true
	}
	var e libvirt.Error
	return errors.As(err, &e) && e.Code == libvirt.ERR_SYSTEM_ERROR && strings.Contains(e.Message, "Cannot write data")
}
