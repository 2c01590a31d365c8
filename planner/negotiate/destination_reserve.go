package negotiate

import (
	"fmt"
	"time"
)

// reserve answers Reserve: the same question gets the same answer, a repeated
// one does not prolong the lease.
func (d Destination) reserve(at Moment, ev Received) (Destination, []Effect) {
	m := ev.Message
	e, known := d.Entry(m.VM)
	if known && e.Record.Attempt == m.Attempt && e.Record.Source == ev.From {
		left := e.Expires - at.Now
		again := e.Record.State == DestHeld || e.Record.State == DestIncoming
		if again && left >= time.Millisecond {
			return d, []Effect{e.grant(left)}
		}
	}
	if known {
		if r, no := e.refuses(m); no {
			effects := []Effect{refuse(ev.From, m, r)}
			if r.Kind == RefusedPresent { // the source runs it: what is known here may be old
				var look QueryCopy
				d, look = d.look(e)
				effects = append(effects, look)
			}
			return d, effects
		}
	}
	if ev.Admission != nil {
		return d, []Effect{refuse(ev.From, m, d.advised(*ev.Admission))}
	}
	if n := d.others(m.VM); n >= d.Limits.MaxIncoming {
		return d, []Effect{refuse(ev.From, m, Refusal{Kind: RefusedBusy,
			Text:         fmt.Sprintf("%d of %d incoming VMs", n, d.Limits.MaxIncoming),
			RetryAfterMS: d.Limits.RetryAfter.Milliseconds()})}
	}
	d, forget, ok := d.makeRoom(m.VM)
	if !ok {
		return d, []Effect{refuse(ev.From, m, Refusal{Kind: RefusedFull,
			Text: fmt.Sprintf("%d records, all in use", len(d.Entries)), RetryAfterMS: d.Limits.RetryAfter.Milliseconds()})}
	}
	d.Counter++
	e = Entry{Copy: CopyNone, Expires: at.Now + d.Limits.LeaseTTL, Record: DestRecord{
		Version: RecordVersion, VM: m.VM, Attempt: m.Attempt, Source: ev.From, Guard: m.Guard, Need: *m.Need,
		Autostart: m.Autostart, State: DestHeld, Counter: d.Counter,
		Lease: LeaseID(fmt.Sprintf("%d-%016x", d.Counter, at.Random)),
	}}
	effects := append(forget, e.grant(d.Limits.LeaseTTL), SetTimer{TimerLease, m.VM, d.Limits.LeaseTTL})
	return d.persist(e, effects...)
}

// grant tells the source its lease and the rest of its life.
func (e Entry) grant(left time.Duration) Send {
	s := e.reply(Granted)
	s.Message.TTLMS = max(1, left.Milliseconds())
	return s
}

// refuses says whether what is known of the VM forbids a new lease. Attempts
// only grow; only a lease without a copy gives way to a later one.
func (e Entry) refuses(m Message) (Refusal, bool) {
	r := e.Record
	expired := r.Attempt == m.Attempt && !r.Aborted &&
		(r.State == DestHeld || r.State == DestReleased && e.Copy != CopyIn && e.Copy != CopyPaused)
	switch {
	case m.Attempt < r.Attempt, m.Attempt == r.Attempt && !expired:
		return Refusal{Kind: RefusedStale, KnownAttempt: r.Attempt,
			Text: fmt.Sprintf("attempt %d is known, and %s", r.Attempt, r.State)}, true
	case r.State == DestIncoming, r.State == DestCommitted, r.State == DestAborting:
		return Refusal{Kind: RefusedBusy,
			Text: fmt.Sprintf("attempt %d is %s here", r.Attempt, r.State)}, true
	case e.Copy == CopyRunning || e.Copy == CopyIn || e.Copy == CopyPaused:
		return Refusal{Kind: RefusedPresent, Text: "the VM is here, " + string(e.Copy)}, true
	}
	return Refusal{}, false
}

// advised tells when to ask again, where waiting may help and the judge did not.
func (d Destination) advised(r Refusal) Refusal {
	switch r.Kind {
	case RefusedNoRoom, RefusedBusy, RefusedDraining, RefusedIncomplete, RefusedDisabled:
		if r.RetryAfterMS == 0 {
			r.RetryAfterMS = d.Limits.RetryAfter.Milliseconds()
		}
	}
	return r
}

// others counts the slots taken by other VMs.
func (d Destination) others(vm VMID) int {
	n := 0
	for _, e := range d.Entries {
		if e.Record.State.active() && e.Record.VM != vm {
			n++
		}
	}
	return n
}

// makeRoom forgets the oldest finished record if the book is full.
func (d Destination) makeRoom(vm VMID) (Destination, []Effect, bool) {
	if _, known := d.index(vm); known || len(d.Entries) < d.Limits.MaxRecords {
		return d, nil, true
	}
	oldest := -1
	for i, e := range d.Entries {
		if !e.Record.State.active() && (oldest < 0 || e.Record.Counter < d.Entries[oldest].Record.Counter) {
			oldest = i
		}
	}
	if oldest < 0 {
		return d, nil, false
	}
	gone := d.Entries[oldest].Record.VM
	entries := make([]Entry, 0, len(d.Entries))
	entries = append(entries, d.Entries[:oldest]...)
	d.Entries = append(entries, d.Entries[oldest+1:]...)
	return d, []Effect{ForgetDestination{gone}}, true
}

// prepare is the fence at the resource: libvirt lets the VM in only under a
// lease that is held now, for this VM, from this source, with this token.
func (d Destination) prepare(at Moment, p PrepareCheck) (Destination, []Effect) {
	e, ok := d.Entry(p.VM)
	r := e.Record
	no := func(format string, args ...any) (Destination, []Effect) {
		return d, []Effect{RefusePrepare{p.VM, fmt.Sprintf(format, args...)}}
	}
	switch {
	case p.Lease == "" || p.Attempt == 0:
		return no("the VM carries no lease: move it with headroom")
	case !ok || r.Attempt != p.Attempt || r.Lease != p.Lease:
		return no("lease %s of attempt %d is not known here", p.Lease, p.Attempt)
	case r.Source != p.Source:
		return no("the lease was given to %s, not %s", r.Source, p.Source)
	case r.State != DestHeld:
		return no("the lease is %s", r.State)
	case at.Now >= e.Expires:
		return no("the lease expired")
	}
	// The copy is not there yet. If it never comes, the lease timer finds out.
	e.Record.State, e.Copy, e.Expires = DestIncoming, CopyNone, at.Now+d.Limits.LeaseTTL
	e.Watched, e.Ran = true, false
	return d.persist(e, AllowPrepare{p.VM, p.Lease}, SetTimer{TimerLease, p.VM, d.Limits.LeaseTTL})
}
