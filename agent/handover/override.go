package handover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"headroom/planner/negotiate"
)

// Action is what an operator forces about a hand-over, seen from this host.
type Action string

// The actions.
const (
	// ActionResume: the VM of this host is the VM, be it the source's or the copy.
	ActionResume Action = "resume"
	// ActionDestroy: the VM of this host is not the VM. A running one is never
	// destroyed.
	ActionDestroy Action = "destroy"
	// ActionClose: what is decided stays; the other host is gone for good and is
	// not told any more.
	ActionClose Action = "close"
)

// Errors of an override.
var (
	// ErrNothingOpen: no hand-over of the VM is open on this host.
	ErrNothingOpen = errors.New("no hand-over of this VM is open here")
	// ErrNotNow: the action means nothing in the hand-over's present state.
	ErrNotNow = errors.New("this override means nothing now")
	// ErrNoAction: no such action.
	ErrNoAction = errors.New("the action is one of resume, destroy, close")
)

// actions gives the state machines' word for an action: the source's and the
// destination's.
var actions = map[Action][2]negotiate.OverrideAction{
	ActionResume:  {negotiate.OverrideAbort, negotiate.OverrideCommit},
	ActionDestroy: {negotiate.OverrideCommit, negotiate.OverrideAbort},
	ActionClose:   {negotiate.OverrideClose, negotiate.OverrideClose},
}

// Override takes an operator's word in place of the other host's. By and evidence
// stand in the journal, in the log and in an alarm. The desk checks neither: that
// the other host is fenced is the operator's to know.
func (d *Desk) Override(ctx context.Context, vm negotiate.VMID, a Action, by, evidence string) error {
	words, ok := actions[a]
	if !ok {
		return fmt.Errorf("%q: %w", a, ErrNoAction)
	}
	return d.request(ctx, item{vm: vm, force: &force{words, by, evidence}})
}

// force is an override on its way to the side that is open.
type force struct {
	words        [2]negotiate.OverrideAction
	by, evidence string
}

// override hands the word to the side whose hand-over is open, and sees by its
// record whether it was taken.
func (d *Desk) override(ctx context.Context, vm negotiate.VMID, f *force) error {
	o := negotiate.Override{VM: vm, By: f.by, Evidence: f.evidence}
	if s := d.sources[vm]; s.Busy() {
		o.Action = f.words[sourceSide]
		before := s.Record.Override
		if err := d.stepSource(ctx, vm, o); err != nil {
			return err
		}
		if after := d.sources[vm]; after.Record.Override == before {
			return fmt.Errorf("%w: the source is %s, and libvirt shows the VM %s here", ErrNotNow, s.Phase, s.Local)
		}
		return nil
	}
	e, ok := d.dest.Entry(vm)
	if ok, _ := d.dest.MayMove(vm); ok {
		return ErrNothingOpen
	}
	o.Action = f.words[destinationSide]
	if _, err := d.advance(ctx, vm, o); err != nil {
		return err
	}
	if after, _ := d.dest.Entry(vm); ok && after.Record.Override == e.Record.Override {
		return fmt.Errorf("%w: the hand-over is %s, and the copy is %s", ErrNotNow, e.Record.State, e.Copy)
	}
	return nil
}

// Open is a hand-over that has not ended on this host.
type Open struct {
	VM      negotiate.VMID
	Role    Role
	Peer    negotiate.HostID
	Attempt negotiate.Attempt
	State   string // of the state machine
	Here    string // what libvirt showed of the VM on this host; "" for not known
	// Waits is how long the state has been this one, as far as nobody but the other
	// host or an operator can end it; 0 while the hand-over goes on by itself.
	Waits  time.Duration
	Advice string
}

// waiting is since when a hand-over stands still, for Open.
type waiting struct {
	what string
	at   time.Duration
}

// open lists what is open now; called from the desk's goroutine after each step.
func (d *Desk) open() []Open {
	var out []Open
	for vm, s := range d.sources {
		if s.Busy() {
			out = append(out, Open{VM: vm, Role: RoleSource, Peer: s.Record.To, Attempt: s.Record.Attempt, State: string(s.Phase), Here: string(s.Local),
				Advice: sourceAdvice[s.Phase]})
		}
	}
	for _, l := range d.dest.Leases() {
		o := Open{VM: l.VM, Role: RoleDestination, Peer: l.Source, Attempt: l.Attempt, State: string(l.State), Here: string(l.Copy)}
		if l.Copy == negotiate.CopyPaused || l.Copy == negotiate.CopyRunning || l.State == negotiate.DestCommitted || l.State == negotiate.DestAborting {
			o.Advice = "it waits for the source's word. If the source's host is surely off, resume makes this copy the VM; if the VM runs there, destroy removes the copy"
		}
		out = append(out, o)
	}
	since := map[timerKey]waiting{}
	for i := range out {
		o := &out[i]
		if o.Advice == "" {
			continue
		}
		key := timerKey{vm: o.VM}
		if o.Role == RoleDestination {
			key.side = destinationSide
		}
		w, ok := d.waits[key]
		if !ok || w.what != o.State {
			w = waiting{o.State, d.o.Since()}
		}
		since[key] = w
		o.Waits = w.at // a moment until it is read
	}
	d.waits = since
	return out
}

// sourceAdvice says what an operator can do where the source cannot go on alone.
var sourceAdvice = map[negotiate.Phase]string{
	negotiate.PhaseDeciding:   "it asks the destination what became of the copy. If the copy surely does not run, resume keeps the VM here; if it is the VM, destroy removes the one here",
	negotiate.PhaseCommitting: "the VM belongs to the destination, which has not confirmed. If that host is gone for good, close ends this; resume takes the VM back if it stands here",
	negotiate.PhaseAborting:   "the VM belongs here; the destination has not confirmed that it dropped the copy. If that host is gone for good, close ends this",
}
