package handover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"headroom/agent/hypervisor"
	"headroom/planner/negotiate"
)

// ErrBusy means that the desk cannot take another request now: try again.
var ErrBusy = errors.New("hand-over desk is busy")

// ErrStopped means that the desk has stopped. What it had begun is in the
// journal, and the desk that runs next on it goes on.
var ErrStopped = errors.New("hand-over desk has stopped")

// ErrUnderWay means that the VM has an attempt already that has not ended.
var ErrUnderWay = errors.New("an attempt to move this VM has not ended")

const (
	inboxSize  = 512         // events waiting for the desk
	maxJobs    = 32          // calls to libvirt and peers under way
	stopWait   = time.Second // for calls under way, when the desk stops
	messageTry = 3 * time.Second
)

// Hypervisor is what a hand-over does to VMs.
type Hypervisor interface {
	Lookup(ctx context.Context, id string) (hypervisor.Domain, bool, error)
	Migrate(ctx context.Context, r hypervisor.MigrateRequest) (hypervisor.MigrateResult, error)
	Progress(ctx context.Context, id string) (hypervisor.JobProgress, error)
	AbortJob(ctx context.Context, id string) error
	SetMetadata(ctx context.Context, id string, m hypervisor.Metadata) error
	SetAutostart(ctx context.Context, id string, on bool) error
	Resume(ctx context.Context, id string) error
	Destroy(ctx context.Context, id string) error
}

// Journal keeps the negotiation records. Put is durable when it returns.
type Journal interface {
	Put(key string, value []byte) error
	Delete(key string) error
	Each(fn func(key string, value []byte) error) error
}

// Options says what a Desk works with; every function must be safe to call from
// any goroutine.
type Options struct {
	Self       negotiate.HostID
	Hypervisor Hypervisor
	Journal    Journal
	// Post sends one encoded message to a peer's desk, once.
	Post func(ctx context.Context, to negotiate.HostID, message []byte) error
	// DestURI is where the peer's libvirtd is reached by ours.
	DestURI func(to negotiate.HostID) (string, error)
	// Admit judges a Reserve against the host as it is now and the leases of
	// other VMs; nil admits. It is called from the desk's goroutine.
	Admit func(from negotiate.HostID, m negotiate.Message, leases []negotiate.Lease) *negotiate.Refusal
	// Notify tells of each change; it is called from the desk's goroutine and
	// must not block.
	Notify func(Update)
	// Now is the wall clock, for metadata; Since is monotonic.
	Now    func() time.Time
	Since  func() time.Duration
	Random func() uint64

	Timing        negotiate.Timing
	Limits        negotiate.Limits
	BandwidthMiBs float64
	MaxDowntime   time.Duration
	// NoProgress is how long a copy may send nothing new, or not shrink its rest;
	// 0 is for ever.
	NoProgress   time.Duration
	AutoConverge bool
	Parallel     int
	TLS          bool // encrypt the copied memory
	// RefuseByHand keeps VMs out that come in without a lease.
	RefuseByHand bool
	Logger       *slog.Logger
}

// Desk runs the host's side of every hand-over.
type Desk struct {
	o     Options
	inbox chan item
	jobs  chan struct{} // bounds the calls under way
	wg    sync.WaitGroup
	// copies counts the live migrations under way, which nobody waits for.
	copies atomic.Int32
	gone   chan struct{} // closed when Run stops: nothing is taken any more

	// The rest belongs to the goroutine of Run.
	sources map[negotiate.VMID]negotiate.Source
	dest    negotiate.Destination
	timers  map[timerKey]*time.Timer
	track   map[negotiate.VMID]*track
	waits   map[timerKey]waiting
	paces   map[negotiate.VMID]*pace

	holdings atomic.Pointer[Holdings]
}

type timerKey struct {
	side side
	kind negotiate.TimerKind
	vm   negotiate.VMID
}

// side tells the two state machines apart.
type side uint8

const (
	sourceSide side = iota
	destinationSide
)

// item is one thing for the desk's goroutine to do.
type item struct {
	vm    negotiate.VMID
	src   negotiate.SourceEvent
	dst   negotiate.DestinationEvent
	watch *hypervisor.Event
	force *force
	copy  *hypervisor.JobProgress
	// result comes with a MigrationDone.
	result *hypervisor.MigrateResult
	reply  chan<- error // answered once when not nil
}

// New returns a desk; Run starts it.
func New(o Options) *Desk {
	d := &Desk{
		o:       o,
		inbox:   make(chan item, inboxSize),
		jobs:    make(chan struct{}, maxJobs),
		gone:    make(chan struct{}),
		sources: map[negotiate.VMID]negotiate.Source{},
		dest:    negotiate.NewDestination(o.Self, o.Limits),
		timers:  map[timerKey]*time.Timer{},
		track:   map[negotiate.VMID]*track{},
		paces:   map[negotiate.VMID]*pace{},
	}
	d.holdings.Store(&Holdings{})
	return d
}

// Run recovers what the journal holds, then works until ctx ends, and waits for
// its goroutines. Errors of single hand-overs are told through Notify; Run
// fails only when the journal cannot be read.
func (d *Desk) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer close(d.gone)
	if err := d.recover(ctx); err != nil {
		return err
	}
	for {
		d.publish()
		select {
		case <-ctx.Done():
			d.stop()
			return nil
		case it := <-d.inbox:
			err := d.handle(ctx, it)
			if it.reply != nil {
				it.reply <- err
			}
		}
	}
}

// stop ends the timers and waits a little for the calls under way, but not for a
// live migration: that goes on without the agent.
func (d *Desk) stop() {
	for _, t := range d.timers {
		t.Stop()
	}
	done := make(chan struct{})
	go func() {
		d.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(stopWait):
		d.o.Logger.Warn("stopping while the hypervisor does not answer; the next agent looks at what became of its calls")
	}
	if n := d.copies.Load(); n > 0 {
		d.o.Logger.Info("stopping while VMs are copied; libvirt finishes that, and the next agent takes it up again", "copies", n)
	}
}

// Start begins an attempt and returns once it is durable or refused: ErrBusy,
// ErrUnderWay, ErrStopped, or why the journal cannot be written. When ctx ends
// first the attempt may have begun.
func (d *Desk) Start(ctx context.Context, start negotiate.Start) error {
	return d.request(ctx, item{vm: start.VM, src: start})
}

// request hands an item over and waits for what became of it.
func (d *Desk) request(ctx context.Context, it item) error {
	reply := make(chan error, 1)
	it.reply = reply
	select {
	case d.inbox <- it:
	default:
		return ErrBusy
	}
	select {
	case err := <-reply:
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for the hand-over desk: %w", ctx.Err())
	case <-d.gone:
	}
	select { // the last thing it did may have been this
	case err := <-reply:
		return err
	default:
		return ErrStopped
	}
}

// Receive takes a message from an authenticated peer. It returns at once; the
// answer is a message of its own.
func (d *Desk) Receive(from negotiate.HostID, body []byte) error {
	m, err := negotiate.DecodeMessage(body)
	if err != nil {
		return err
	}
	ev := negotiate.Received{From: from, Message: m}
	it := item{vm: m.VM, src: ev}
	switch m.Kind {
	case negotiate.Reserve, negotiate.Commit, negotiate.Abort, negotiate.Status:
		it = item{vm: m.VM, dst: ev}
	}
	select {
	case d.inbox <- it:
		return nil
	default:
		return ErrBusy
	}
}

// Watch tells the desk what libvirt says of a VM: its run state changed, or it
// came or went. Unknown VMs are ignored.
func (d *Desk) Watch(ev hypervisor.Event) {
	d.post(item{vm: negotiate.VMID(ev.ID), watch: &ev})
}

// post hands an event over and gives up when the desk stops.
func (d *Desk) post(it item) {
	select {
	case d.inbox <- it:
	case <-d.gone:
	}
}
