package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"headroom/agent/api"
	"headroom/agent/hypervisor"
)

// Limits of a trial. Settling is counted from the moment at which everything that
// broke is back.
const (
	triggerLimit = 20 * time.Second
	SettleLimit  = 60 * time.Second
	// forkedLooks in a row, 5 s at least, at two copies after virsh has returned end
	// a trial without headroom as not settled.
	forkedLooks = 100
)

// Result is what a trial left behind.
type Result struct {
	Trial
	// Hit is false when the phase never began: the fault fell after the move.
	Hit     bool   `json:"hit"`
	Outcome string `json:"outcome"` // as the source's agent, or virsh, tells it
	// Doubles counts looks that found two running copies, Forks the report numbers
	// that the guest printed twice.
	Doubles int      `json:"doubles"`
	Forks   []uint64 `json:"forks,omitempty"`
	// Lost: no copy runs, and the fault did not kill the one that ran.
	Lost bool `json:"lost"`
	// Died: no copy runs, because the fault killed the one that ran.
	Died bool `json:"died"`
	// Leaked counts leases and attempts that had not ended when the time was over.
	Leaked  int     `json:"leaked"`
	Settled bool    `json:"settled"`
	SettleS float64 `json:"settle_s"`
	Runs    string  `json:"runs"` // where, at the end
	Note    string  `json:"note,omitempty"`
	// Autopsy is what the hosts say after a trial that broke an invariant.
	Autopsy string `json:"-"`
}

// Double says whether the VM ran twice.
func (r *Result) Double() bool { return r.Doubles > 0 || len(r.Forks) > 0 }

// Bad says whether the trial broke an invariant.
func (r *Result) Bad() bool { return r.Double() || r.Lost || r.Leaked > 0 || !r.Settled }

// move is the one under way.
type move struct {
	from, to   *side
	since      uint64 // the guest's reports before it
	killedQEMU bool
	done       chan error // of the order
}

// Run makes one trial. An error is the harness's own; what headroom or libvirt did
// wrong stands in the result.
func (r *Rig) Run(ctx context.Context, t Trial) (Result, error) {
	res := Result{Trial: t}
	m, err := r.prepare(ctx, t.Bare)
	if err != nil {
		return res, err
	}
	if t.Bare {
		if err := unstamp(ctx, m.from); err != nil {
			return res, err
		}
	}
	watchCtx, stop := context.WithCancel(ctx)
	var c census
	counted := make(chan struct{})
	go func() {
		defer close(counted)
		r.count(watchCtx, &c)
	}()
	err = r.play(ctx, t, m, &res)
	stop()
	<-counted
	if err != nil {
		return res, err
	}
	c.mu.Lock()
	res.Doubles = c.doubles
	c.mu.Unlock()
	if res.Forks, err = r.forks(m.since); err != nil {
		return res, err
	}
	if res.Bad() {
		res.Autopsy = r.autopsy(ctx)
	}
	return res, r.tidy(ctx, t, &res)
}

// prepare brings the guest up and the agents to where they can move it.
func (r *Rig) prepare(ctx context.Context, bare bool) (*move, error) {
	from, to, err := r.locate(ctx)
	if err != nil {
		return nil, err
	}
	if !bare {
		if err := r.ready(ctx, from); err != nil {
			return nil, err
		}
	}
	p, err := r.lab.Progress(guestName)
	if err != nil {
		return nil, err
	}
	from.forget()
	to.forget()
	return &move{from: from, to: to, since: p.Reports, done: make(chan error, 1)}, nil
}

// unstamp takes headroom's stamp from the guest: of an attempt that was given up
// before, it would have the hook refuse a move by hand.
func unstamp(ctx context.Context, on *side) error {
	const namespace = "urn:headroom:1"
	if _, err := on.host.Virsh(ctx, "metadata", guestName, namespace); err != nil {
		return nil // it has none
	}
	_, err := on.host.Virsh(ctx, "metadata", guestName, namespace, "--remove", "--live", "--config")
	return err
}

// play orders the move, breaks something, mends it, and waits for the end.
func (r *Rig) play(ctx context.Context, t Trial, m *move, res *Result) error {
	if t.Phase == Finish {
		if err := r.lab.LoseFinish(ctx, m.to.host); err != nil {
			return fmt.Errorf("lose the reply to Finish: %w", err)
		}
	}
	moveCtx, end := context.WithCancel(ctx)
	defer end()
	go func() { m.done <- r.order(moveCtx, t, m) }()
	res.Hit = r.reached(ctx, t.Phase, m)
	if !rest(ctx, t.After) {
		return ctx.Err()
	}
	mend, err := r.inject(ctx, t, m)
	if err != nil {
		return fmt.Errorf("%s: %w", t.Fault, err)
	}
	if !rest(ctx, t.Hold) {
		return ctx.Err()
	}
	if err := mend(ctx); err != nil {
		return fmt.Errorf("mend %s: %w", t.Fault, err)
	}
	begun := time.Now()
	forked := 0
	until(ctx, SettleLimit, func() bool {
		res.Settled = r.settled(ctx, t.Bare, m, res)
		// Nobody is left who would end one of two copies once virsh has returned.
		if forked++; !t.Bare || !r.orderEnded(m, res) || !r.runsTwice(ctx) {
			forked = 0
		}
		return res.Settled || forked >= forkedLooks
	})
	res.SettleS = time.Since(begun).Seconds()
	return ctx.Err()
}

// order asks for the move and returns when it was taken, or with virsh when it has
// ended. Where the phase does not begin with the order, it asks again while the move
// is not possible: a guest that has just booted is expected to go on like that.
func (r *Rig) order(ctx context.Context, t Trial, m *move) error {
	for !t.Bare {
		_, err := m.from.node.Client.Migrate(ctx, guestName, m.to.host.Name())
		if t.Phase != Finish || !errors.Is(err, api.ErrConflict) || !rest(ctx, time.Second) {
			return err
		}
	}
	_, err := m.from.host.Virsh(ctx, "migrate", "--live", "--p2p", "--persistent", "--undefinesource",
		"--bandwidth", "24", guestName, m.to.host.URI())
	return err
}

// settled says whether the VM is where it stays, and nothing is promised any more.
// It notes what it finds, for the case that the time runs out.
func (r *Rig) settled(ctx context.Context, bare bool, m *move, res *Result) bool {
	copies, running := 0, 0
	res.Runs = ""
	for _, s := range r.sides {
		d, ok, err := s.driver.Lookup(ctx, r.uuid)
		if err != nil {
			return false
		}
		if !ok || !d.State.Live() {
			continue
		}
		copies++
		if d.State == hypervisor.Running && !d.Incoming {
			running++
			res.Runs += s.host.Name() + " "
		}
	}
	res.Lost, res.Died = running == 0 && !m.killedQEMU, running == 0 && m.killedQEMU
	whole := copies == 1 && running == 1 || copies == 0 && m.killedQEMU
	if bare {
		return whole && r.orderEnded(m, res)
	}
	res.Leaked = 0
	for _, s := range r.sides {
		st, err := s.node.Client.Status(ctx)
		if err != nil {
			return false
		}
		res.Leaked += st.Host.Held + st.Host.Incoming
	}
	a, known := last(ctx, m.from)
	if known && a.Ended == nil {
		res.Leaked++
	}
	r.orderEnded(m, res)
	if known {
		res.Outcome = a.Outcome
	}
	return whole && res.Leaked == 0
}

// orderEnded says whether the order's call has returned, and notes its error.
func (r *Rig) orderEnded(m *move, res *Result) bool {
	select {
	case err := <-m.done:
		m.done <- err
		if res.Outcome = "ok"; err != nil {
			res.Outcome, res.Note = "error", err.Error()
		}
		return true
	default:
		return false
	}
}

// tidy leaves a lab in which the next trial can begin: a guest that ran twice or not
// at all, or is stuck, is made anew; a guest that runs works.
func (r *Rig) tidy(ctx context.Context, t Trial, res *Result) error {
	if !res.Bad() && !res.Died && !res.Lost {
		if r.works(ctx) {
			return nil
		}
		res.Lost, res.Note = true, "libvirt says that the guest runs, and it prints nothing"
	}
	for _, s := range r.sides {
		if err := s.host.StartLibvirtd(ctx); err != nil {
			return err
		}
	}
	if err := r.remove(ctx); err != nil || t.Bare || !res.Bad() {
		return err
	}
	// What the agents had not ended must not meet the next guest.
	if err := r.cluster.Stop(); err != nil {
		return err
	}
	if err := r.cluster.Forget(); err != nil {
		return err
	}
	return r.cluster.Start(ctx)
}

// rest waits for d and says whether ctx is alive.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
