package hypervisor

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"libvirt.org/go/libvirt"
)

// DefaultLogDir is where libvirt writes QEMU's logs.
const DefaultLogDir = "/var/log/libvirt/qemu"

// Options says how to reach libvirtd.
type Options struct {
	URI     string        // default qemu:///system
	Timeout time.Duration // of each call but Migrate; default 5 s
	RunDir  string        // where QEMU's pid files are; default /run/libvirt/qemu
	ProcDir string        // default /proc
	LogDir  string        // where libvirt writes QEMU's logs; default DefaultLogDir
	// SharedPaths are folders that the operator knows to be the same on every
	// host, beside those that show it by their file system (NFS, CephFS, ...).
	SharedPaths []string
	Logger      *slog.Logger
}

// Calls under way of each sort, hung ones included. Together they stay below the
// twenty that libvirtd works on for all its clients (max_workers).
const (
	maxLooks = 4
	maxActs  = 8
	maxMoves = 4
)

// stopWait is how long Close waits for calls that are under way: the agent has five
// seconds to end, of which leaving the cluster takes up to three.
const stopWait = time.Second

// Libvirt is a driver on one libvirtd. All methods may be called concurrently.
type Libvirt struct {
	o Options
	// looks lists and describes; acts changes, and answers single questions;
	// moves migrates: none of them has to wait for another.
	looks, acts, moves *pool
	link               *link
	feed               *feed
	completed          completions
	stop               context.CancelFunc
	closing            sync.Once
	wg                 sync.WaitGroup
	pids               pidTable
	storage            storageTable

	mu     sync.Mutex
	info   *HostInfo // guarded by mu
	infoAt time.Time // guarded by mu
}

// eventLoop starts libvirt's event loop, once per process: libvirt has no way to
// take it back.
var eventLoop = sync.OnceValue(func() error {
	if err := libvirt.EventRegisterDefaultImpl(); err != nil {
		return fmt.Errorf("libvirt event loop: %w", err)
	}
	go func() {
		for {
			if libvirt.EventRunDefaultImpl() != nil {
				time.Sleep(10 * time.Millisecond) // an interrupted poll; never spin on it
			}
		}
	}()
	return nil
})

// Open connects to libvirtd and keeps the connection until Close. A libvirtd
// that does not answer is no error: the driver tries again, and says so by
// Connected. A missing library is ErrLibvirtMissing.
func Open(ctx context.Context, o Options) (*Libvirt, error) {
	o.defaults()
	if err := libraryPresent(); err != nil {
		return nil, err
	}
	if err := eventLoop(); err != nil {
		return nil, err
	}
	keepCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	d := &Libvirt{o: o, stop: stop, feed: newFeed(time.Now)}
	d.pids = pidTable{runDir: o.RunDir, procDir: o.ProcDir}
	fresh := func() (*libvirt.Connect, error) { return dial(o.URI) }
	d.looks, d.acts, d.moves = newPool(maxLooks, fresh), newPool(maxActs, fresh), newPool(maxMoves, fresh)
	d.link = &link{d: d, err: fmt.Errorf("%w yet", ErrNotConnected)}
	d.link.connect(ctx)
	d.wg.Go(func() { d.link.keep(keepCtx) })
	return d, nil
}

func (o *Options) defaults() {
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
	if o.LogDir == "" {
		o.LogDir = DefaultLogDir
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

func (d *Libvirt) pools() []*pool { return []*pool{d.looks, d.acts, d.moves} }

// LibraryVersion is the version of the libvirt library on this host, as
// major*1,000,000 + minor*1,000 + release. No daemon is asked. A missing library is
// ErrLibvirtMissing.
func LibraryVersion() (uint32, error) {
	v, err := libvirt.GetVersion()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrLibvirtMissing, err)
	}
	return v, nil
}

// libraryPresent calls the library once; without it the call reports so.
func libraryPresent() error {
	if _, err := libvirt.GetVersion(); err != nil {
		return fmt.Errorf("%w: %w", ErrLibvirtMissing, err)
	}
	return nil
}

// subscribe asks for the life of all domains and the ends of their jobs.
func (d *Libvirt) subscribe(c *watcher) error {
	id, err := c.DomainEventLifecycleRegister(nil, d.lifecycle)
	if err != nil {
		return fmt.Errorf("domain events: %w", err)
	}
	c.callbacks = append(c.callbacks, id)
	id, err = c.DomainEventJobCompletedRegister(nil, d.jobCompleted)
	if isCode(err, libvirt.ERR_NO_SUPPORT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("job events: %w", err)
	}
	c.callbacks = append(c.callbacks, id)
	return nil
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
	switch {
	case ev.Event == libvirt.DOMAIN_EVENT_SUSPENDED && ev.Detail == int(libvirt.DOMAIN_EVENT_SUSPENDED_MIGRATED),
		ev.Event == libvirt.DOMAIN_EVENT_STOPPED && ev.Detail == int(libvirt.DOMAIN_EVENT_STOPPED_MIGRATED),
		ev.Event == libvirt.DOMAIN_EVENT_RESUMED && ev.Detail == int(libvirt.DOMAIN_EVENT_RESUMED_MIGRATED):
		out.Detail = "migrated"
	}
	d.feed.emit(out)
}

// Events are what happened to domains; there is one consumer. What a slow
// consumer loses is followed by EventLost: list the domains then.
func (d *Libvirt) Events() <-chan Event { return d.feed.ch }

// DroppedEvents is how many events a slow consumer has lost.
func (d *Libvirt) DroppedEvents() uint64 { return d.feed.dropped.Load() }

// Connected says whether libvirtd answers, and why not.
func (d *Libvirt) Connected() (bool, error) {
	err := d.link.state()
	return err == nil, err
}

// Hanging is how many calls were given up and have not returned from libvirt.
func (d *Libvirt) Hanging() int {
	n := 0
	for _, p := range d.pools() {
		n += p.hanging()
	}
	return n
}

// Close ends the connections and waits for the driver's goroutines, and a little
// for calls under way; those that hang in libvirt are left there, and so are
// migrations, which libvirt finishes alone. It never fails.
func (d *Libvirt) Close() error {
	d.closing.Do(d.shut)
	return nil
}

func (d *Libvirt) shut() {
	d.stop()
	d.wg.Wait()
	d.link.close()
	limit := time.NewTimer(stopWait)
	defer limit.Stop()
	for _, p := range d.pools() {
		p.flush()
		if p == d.moves {
			continue
		}
		for range cap(p.places) { // a place that can be taken is free, and stays taken
			select {
			case p.places <- struct{}{}:
			case <-limit.C:
				d.o.Logger.Warn("calls hang in libvirt; leaving them", "hanging", d.Hanging())
				return
			}
		}
	}
}

// feed is the bounded channel of events.
type feed struct {
	ch      chan Event
	dropped atomic.Uint64
	now     func() time.Time

	mu  sync.Mutex
	gap bool // something was lost that the consumer was not told of; guarded by mu
}

// eventBuffer is how many events wait for the consumer.
const eventBuffer = 256

func newFeed(now func() time.Time) *feed { return &feed{ch: make(chan Event, eventBuffer), now: now} }

// emit hands an event over and never blocks; what does not fit is counted.
func (f *feed) emit(ev Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ev.At = f.now()
	if f.gap {
		select {
		case f.ch <- Event{At: ev.At, Kind: EventLost, Detail: "the consumer was too slow"}:
			f.gap = false
		default:
		}
	}
	select {
	case f.ch <- ev:
	default:
		f.dropped.Add(1)
		f.gap = true
	}
}
