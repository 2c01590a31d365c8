package handover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"headroom/agent/hypervisor"
	"headroom/planner/negotiate"
)

// handle steps the state machine that the item is for.
func (d *Desk) handle(ctx context.Context, it item) error {
	switch {
	case it.watch != nil:
		d.watch(ctx, it.vm, *it.watch)
		return nil
	case it.copy != nil:
		return d.noteCopy(ctx, it.vm, *it.copy)
	case it.force != nil:
		return d.override(ctx, it.vm, it.force)
	case it.dst != nil:
		if p, ok := it.dst.(negotiate.PrepareCheck); ok {
			return d.prepare(ctx, p)
		}
		return d.stepDestination(ctx, it.vm, it.dst)
	case it.src != nil:
		if it.result != nil {
			d.noteResult(it.vm, *it.result)
		}
		return d.stepSource(ctx, it.vm, it.src)
	}
	return nil
}

func (d *Desk) moment() negotiate.Moment {
	return negotiate.Moment{Now: d.o.Since(), Random: d.o.Random()}
}

// stepSource feeds one event to the VM's source machine. The new state holds
// only once its record is durable.
func (d *Desk) stepSource(ctx context.Context, vm negotiate.VMID, ev negotiate.SourceEvent) error {
	old, ok := d.sources[vm]
	if !ok {
		old = negotiate.NewSource(d.o.Self, d.o.Timing)
	}
	if start, ok := ev.(negotiate.Start); ok {
		start.LastAttempt = max(start.LastAttempt, d.dest.LastAttempt(vm))
		ev = start
		if old.Busy() {
			return ErrUnderWay
		}
		if ok, why := d.dest.MayMove(vm); !ok {
			return fmt.Errorf("%w: %s", ErrUnderWay, why)
		}
	}
	if ev, ok := ev.(negotiate.Received); ok {
		d.noteMessage(vm, ev.Message)
	}
	next, effects := old.Step(d.moment(), ev)
	if err := d.persist(effects); err != nil {
		d.o.Logger.Error("negotiation record not written; nothing was done on it", "vm", vm, "err", err)
		next, effects = old.Step(d.moment(), negotiate.PersistFailed{VM: vm, Err: err.Error()})
		if err := d.persist(effects); err != nil {
			return fmt.Errorf("record the hand-over of %s: %w", vm, err)
		}
		d.traceSource(ctx, old, negotiate.PersistFailed{VM: vm}, next, effects)
		d.sources[vm] = next
		d.perform(ctx, sourceSide, vm, effects)
		return fmt.Errorf("record the hand-over of %s: %w", vm, err)
	}
	d.traceSource(ctx, old, ev, next, effects)
	d.sources[vm] = next
	d.perform(ctx, sourceSide, vm, effects)
	return nil
}

// stepDestination feeds one event to the host's destination machine.
func (d *Desk) stepDestination(ctx context.Context, vm negotiate.VMID, ev negotiate.DestinationEvent) error {
	if r, ok := ev.(negotiate.Received); ok && r.Message.Kind == negotiate.Reserve {
		if d.sources[vm].Busy() {
			r.Admission = &negotiate.Refusal{Kind: negotiate.RefusedBusy, Text: "this host is still handing the VM away"}
		} else {
			r.Admission = d.admission(r)
		}
		ev = r
	}
	if c, ok := ev.(negotiate.CopyAppeared); ok {
		if err := d.lateCheck(ctx, c); err != nil {
			return err
		}
	}
	_, err := d.advance(ctx, vm, ev)
	return err
}

// advance makes one step of the destination's book durable and performs its
// effects, which it returns. An error says that the step was not made.
func (d *Desk) advance(ctx context.Context, vm negotiate.VMID, ev negotiate.DestinationEvent) ([]negotiate.Effect, error) {
	next, effects := d.dest.Step(d.moment(), ev)
	if err := d.persist(effects); err != nil {
		d.o.Logger.Error("negotiation record not written; nothing was done on it", "vm", vm, "err", err)
		next, effects = d.dest.Step(d.moment(), negotiate.PersistFailed{VM: vm, Err: err.Error()})
		if again := d.persist(effects); again != nil {
			return nil, fmt.Errorf("record the arrival of %s: %w", vm, again)
		}
		d.traceDestination(ctx, vm, negotiate.PersistFailed{VM: vm}, next, effects)
		d.dest = next
		d.perform(ctx, destinationSide, vm, effects)
		return nil, fmt.Errorf("record the arrival of %s: %w", vm, err)
	}
	d.traceDestination(ctx, vm, ev, next, effects)
	d.dest = next
	d.perform(ctx, destinationSide, vm, effects)
	return effects, nil
}

// admission judges a Reserve. A lease that this VM has already gives way to the
// new one, so it takes no room.
func (d *Desk) admission(r negotiate.Received) *negotiate.Refusal {
	if d.o.Admit == nil {
		return nil
	}
	others := slices.DeleteFunc(d.dest.Leases(), func(l negotiate.Lease) bool { return l.VM == r.Message.VM })
	return d.o.Admit(r.From, r.Message, others)
}

// lateCheck makes up for libvirt's hook where it is not installed: a copy that
// appears under a lease that is still held is checked as the hook would have
// checked it, and journalled before anything is done with it.
func (d *Desk) lateCheck(ctx context.Context, c negotiate.CopyAppeared) error {
	e, ok := d.dest.Entry(c.VM)
	if !ok || e.Record.State != negotiate.DestHeld || e.Record.Attempt != c.Attempt || e.Record.Lease != c.Lease {
		return nil
	}
	return d.stepDestination(ctx, c.VM, negotiate.PrepareCheck{
		VM: c.VM, Source: e.Record.Source, Attempt: c.Attempt, Lease: c.Lease})
}

const (
	sourcePrefix      = "source/"
	destinationPrefix = "destination/"
)

// persist writes the records among the effects, which stand first.
func (d *Desk) persist(effects []negotiate.Effect) error {
	for _, e := range effects {
		switch e := e.(type) {
		case negotiate.PersistSource:
			b, err := e.Record.Encode()
			if err != nil {
				return err
			}
			if err := d.o.Journal.Put(sourcePrefix+string(e.Record.VM), b); err != nil {
				return err
			}
		case negotiate.PersistDestination:
			b, err := e.Record.Encode()
			if err != nil {
				return err
			}
			if err := d.o.Journal.Put(destinationPrefix+string(e.Record.VM), b); err != nil {
				return err
			}
		default:
			return nil
		}
	}
	return nil
}

// perform does the effects in order; their records are durable already.
func (d *Desk) perform(ctx context.Context, s side, vm negotiate.VMID, effects []negotiate.Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case negotiate.PersistSource:
			d.noteSource(e.Record)
		case negotiate.PersistDestination:
			d.noteDestination(e.Record)
		case negotiate.ForgetDestination:
			if err := d.o.Journal.Delete(destinationPrefix + string(e.VM)); err != nil {
				d.o.Logger.Warn("finished negotiation record not deleted", "vm", e.VM, "err", err)
			}
		case negotiate.Send:
			d.send(ctx, e)
		case negotiate.SetTimer:
			d.setTimer(s, e)
		case negotiate.Alarm:
			d.o.Logger.Error("hand-over needs attention", "vm", e.VM, "alarm", e.Text)
			d.o.Notify(Update{VM: e.VM, Role: roleOf(s), Alarm: e.Text})
		case negotiate.Note:
			d.o.Logger.Info("hand-over", "vm", e.VM, "note", e.Text)
		case negotiate.Done:
			d.noteDone(e)
			if e.Outcome == negotiate.OutcomeMoved {
				lease := d.sources[e.VM].Record.Lease
				d.job(ctx, func(ctx context.Context) { d.forgetMoved(ctx, e, lease) })
			}
		default:
			d.act(ctx, e)
		}
	}
}

// send posts a message without waiting: what matters is resent by a timer.
func (d *Desk) send(ctx context.Context, e negotiate.Send) {
	body, err := e.Message.Encode()
	if err != nil {
		d.o.Logger.Error("hand-over message not sent", "to", e.To, "kind", e.Message.Kind, "err", err)
		return
	}
	d.noteMessage(e.Message.VM, e.Message)
	d.job(ctx, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, messageTry)
		defer cancel()
		if err := d.o.Post(ctx, e.To, body); err != nil && !errors.Is(err, context.Canceled) {
			d.o.Logger.Warn("hand-over message lost; it is sent again if it matters",
				"to", e.To, "kind", e.Message.Kind, "vm", e.Message.VM, "err", err)
		}
	})
}

func (d *Desk) setTimer(s side, e negotiate.SetTimer) {
	key := timerKey{s, e.Kind, e.VM}
	if t := d.timers[key]; t != nil {
		t.Stop()
	}
	fired := item{vm: e.VM}
	if s == sourceSide {
		fired.src = negotiate.TimerFired{Kind: e.Kind, VM: e.VM}
	} else {
		fired.dst = negotiate.TimerFired{Kind: e.Kind, VM: e.VM}
	}
	d.timers[key] = time.AfterFunc(e.After, func() { d.post(fired) })
}

// job runs fn beside the desk, which waits for it when it stops. When too many run,
// fn is dropped: the timers of the state machines ask again for whatever matters.
func (d *Desk) job(ctx context.Context, fn func(ctx context.Context)) {
	d.wg.Add(1)
	if !d.begin(func() { defer d.wg.Done(); fn(ctx) }) {
		d.wg.Done()
	}
}

// begin runs fn beside the desk, and reports whether it does: not when too many run.
func (d *Desk) begin(fn func()) bool {
	select {
	case d.jobs <- struct{}{}:
	default:
		d.o.Logger.Warn("hand-over call dropped: too many are under way", "limit", maxJobs)
		return false
	}
	go func() {
		defer func() { <-d.jobs }()
		fn()
	}()
	return true
}

// watch reacts to what libvirt says of a VM: for a VM that the destination's
// book knows it looks and tells, and a source learns when its CPUs stopped.
func (d *Desk) watch(ctx context.Context, vm negotiate.VMID, ev hypervisor.Event) {
	if t := d.track[vm]; t != nil && ev.Kind == hypervisor.EventSuspended && t.stoppedAt == 0 {
		t.stoppedAt = d.o.Since()
	}
	if _, known := d.dest.Entry(vm); known { // also one that has settled here: it may leave
		d.act(ctx, negotiate.QueryCopy{VM: vm})
	}
	for _, l := range d.dest.Leases() {
		switch ev.Kind {
		case hypervisor.EventLost: // changes may have been missed
			if err := d.stepDestination(ctx, l.VM, negotiate.CopyLost{VM: l.VM}); err != nil {
				d.o.Logger.Error("arriving VM not followed", "vm", l.VM, "err", err)
			}
		case hypervisor.EventConnected:
			d.act(ctx, negotiate.QueryCopy{VM: l.VM})
		}
	}
}
