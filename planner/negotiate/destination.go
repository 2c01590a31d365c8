package negotiate

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Destination is a host's lease book: at most one lease a VM. Make it with
// NewDestination or RecoverDestination. The fields are for showing; only Step
// changes them.
type Destination struct {
	Host      HostID
	Limits    Limits
	Counter   uint64     // of leases ever granted, as far as records tell
	Query     uint64     // number of the last look that is waited for
	Entries   []Entry    // sorted by VM
	Questions []Question // waiting for libvirt's answer
}

// Entry is a lease and what is known of its copy.
type Entry struct {
	Record  DestRecord
	Copy    CopyState
	Expires time.Duration // while no copy was seen
	Tries   int           // of the act in progress
	Watched bool          // no restart of this agent and no silence of libvirt since the copy was admitted
	Ran     bool          // the copy was seen running
	// Unnoted is set while the VM's own metadata may not tell of the finished
	// move: an agent may die, or libvirt be away, before StampOwned is done.
	Unnoted bool
	Look    uint64 // number of the look at libvirt that may find the copy gone; earlier ones are out of date
	Ending  uint64 // the first look after the lease had run out; 0 before
}

// Question is a Status that waits for libvirt.
type Question struct {
	From    HostID
	VM      VMID
	Attempt Attempt
	Lease   LeaseID
	Query   uint64 // only this look at libvirt, or a later one, answers it
}

// Lease is a slot that is taken by a VM which is not yet owned: held, or coming in.
type Lease struct {
	VM       VMID      `json:"vm"`
	Lease    LeaseID   `json:"lease"`
	Attempt  Attempt   `json:"attempt"`
	Source   HostID    `json:"source"`
	Need     Need      `json:"need"`
	State    DestState `json:"state"`
	Copy     CopyState `json:"copy"`
	Override string    `json:"override,omitempty"`
}

// NewDestination is an empty book for this host.
func NewDestination(host HostID, limits Limits) Destination {
	return Destination{Host: host, Limits: limits.withDefaults()}
}

// Leases lists the slots that are taken, sorted by VM: what planning must
// subtract besides the VMs that already run here.
func (d Destination) Leases() []Lease {
	var list []Lease
	for _, e := range d.Entries {
		if r := e.Record; r.State.active() {
			list = append(list, Lease{r.VM, r.Lease, r.Attempt, r.Source, r.Need, r.State, e.Copy, r.Override})
		}
	}
	return list
}

// Entry returns what the book has of the VM.
func (d Destination) Entry(vm VMID) (Entry, bool) {
	if i, ok := d.index(vm); ok {
		return d.Entries[i], true
	}
	return Entry{}, false
}

// LastAttempt is the attempt by which the VM came or was to come here; 0 for none.
func (d Destination) LastAttempt(vm VMID) Attempt {
	e, _ := d.Entry(vm)
	return e.Record.Attempt
}

// MayMove reports whether an attempt to move the VM away from this host may
// begin, and if not, why: a copy that is not owned yet is not this host's to move.
func (d Destination) MayMove(vm VMID) (bool, string) {
	e, ok := d.Entry(vm)
	if ok && e.Record.State.active() {
		return false, fmt.Sprintf("its hand-over from %s is %s", e.Record.Source, e.Record.State)
	}
	if ok && e.Unnoted {
		return false, fmt.Sprintf("its move from %s is not noted in its metadata yet, and it would not rest", e.Record.Source)
	}
	return true, ""
}

// Step returns the book after the event and the effects to perform.
func (d Destination) Step(at Moment, ev DestinationEvent) (Destination, []Effect) {
	switch e := ev.(type) {
	case Received:
		return d.received(at, e)
	case PrepareCheck:
		return d.prepare(at, e)
	case CopyAppeared:
		d, effects := d.appeared(e)
		return d.answer(e, effects)
	case CopyGone:
		d, effects := d.gone(e)
		return d.answer(CopyAppeared{VM: e.VM, State: CopyNone, Query: e.Query}, effects)
	case CopyLost: // a copy that was seen stays seen: only its state is in doubt
		if entry, ok := d.Entry(e.VM); ok {
			entry.Watched = false
			d = d.with(entry)
		}
		return d.answer(CopyAppeared{VM: e.VM, State: CopyUnknown, Query: e.Query}, nil)
	case ActFailed:
		return d.actFailed(e)
	case TimerFired:
		return d.timer(at, e)
	case Override:
		return d.override(e)
	case PersistFailed:
		return d, []Effect{
			Alarm{e.VM, "the journal cannot be written: " + e.Err},
			SetTimer{TimerLease, e.VM, d.Limits.Retry}, SetTimer{TimerRetry, e.VM, d.Limits.Retry},
		}
	}
	return d, nil
}

func (d Destination) received(at Moment, e Received) (Destination, []Effect) {
	switch e.Message.Kind {
	case Reserve:
		return d.reserve(at, e)
	case Commit:
		return d.commit(e)
	case Abort:
		return d.abort(e)
	case Status:
		return d.question(e)
	}
	return d, nil
}

// timer handles each timer.
func (d Destination) timer(at Moment, t TimerFired) (Destination, []Effect) {
	e, ok := d.Entry(t.VM)
	if !ok {
		return d, nil
	}
	r := e.Record
	switch {
	case t.Kind == TimerLease:
		return d.leaseTimer(at, e)
	case t.Kind == TimerPaused && r.State == DestIncoming && e.Copy == CopyPaused:
		return d, []Effect{Alarm{t.VM, fmt.Sprintf(
			"the copy is complete and paused, and waits for %s to commit or abort attempt %d", r.Source, r.Attempt)}}
	case t.Kind == TimerRetry && (r.State == DestCommitted || r.State == DestAborting):
		d, look := d.look(e)
		return d, []Effect{look, SetTimer{TimerRetry, t.VM, d.Limits.Retry}}
	case t.Kind == TimerRetry && r.State == DestOwned && e.Unnoted:
		e.Tries++
		d, look := d.look(e)
		effects := []Effect{look, SetTimer{TimerRetry, t.VM, d.unnotedAfter(e)}}
		if e.Tries == unnotedAlarm && e.Copy != CopyNone {
			effects = append(effects, Alarm{t.VM, "the move cannot be noted in the VM's metadata: until it is, the VM is not moved on"})
		}
		return d, effects
	}
	return d, nil
}

// unnotedAlarm is the number of tries after which an operator is called;
// unnotedRest is the longest time between two looks for a VM that is off, which may
// have been moved on or undefined since.
const (
	unnotedAlarm = 5
	unnotedRest  = 10 * time.Minute
)

// unnotedAfter is when to look again for a VM whose move is not noted: doubled from
// try to try while it is off. Until it is noted the VM is not moved on.
func (d Destination) unnotedAfter(e Entry) time.Duration {
	if e.Copy != CopyNone {
		return d.Limits.Retry
	}
	return min(d.Limits.Retry<<min(e.Tries, 16), unnotedRest)
}

// leaseTimer ends a lease without a copy. Whether an admitted copy never came is
// libvirt's to say.
func (d Destination) leaseTimer(at Moment, e Entry) (Destination, []Effect) {
	r := e.Record
	noCopy := e.Copy != CopyPaused && e.Copy != CopyRunning
	switch {
	case r.State != DestHeld && (r.State != DestIncoming || !noCopy):
		return d, nil
	case at.Now < e.Expires:
		return d, []Effect{SetTimer{TimerLease, r.VM, e.Expires - at.Now}}
	case r.State == DestHeld:
		return d.release(e, "the lease expired")
	}
	if e.Ending == 0 {
		e.Ending = d.Query + 1
	}
	d, look := d.look(e)
	return d, []Effect{look, SetTimer{TimerLease, r.VM, d.Limits.LeaseTTL}}
}

// look asks libvirt, and makes answers to earlier questions worthless: the copy
// may have come, or gone, in between.
func (d Destination) look(e Entry) (Destination, QueryCopy) {
	d, e = d.number(e)
	return d.with(e), QueryCopy{e.Record.VM, e.Look}
}

// number gives the entry a fresh number for an act or a look.
func (d Destination) number(e Entry) (Destination, Entry) {
	d.Query++
	e.Look = d.Query
	return d, e
}

// resume is the act that a durable Commit allows.
func (e Entry) resume() ResumeCopy {
	return ResumeCopy{e.Record.VM, e.Record.Attempt, e.Record.Lease, e.Look}
}

// destroy is the act that a durable Abort allows.
func (e Entry) destroy() DestroyCopy {
	return DestroyCopy{e.Record.VM, e.Record.Attempt, e.Record.Lease, e.Look}
}

// index finds the VM's entry, or the place for it.
func (d Destination) index(vm VMID) (int, bool) {
	return slices.BinarySearchFunc(d.Entries, vm, func(e Entry, vm VMID) int {
		return strings.Compare(string(e.Record.VM), string(vm))
	})
}

// with returns the book with the entry in it; the old book is not touched.
func (d Destination) with(e Entry) Destination {
	i, ok := d.index(e.Record.VM)
	d.Entries = slices.Clone(d.Entries)
	if ok {
		d.Entries[i] = e
	} else {
		d.Entries = slices.Insert(d.Entries, i, e)
	}
	return d
}

// persist puts the entry into the book and asks for its record first.
func (d Destination) persist(e Entry, then ...Effect) (Destination, []Effect) {
	return d.with(e), append([]Effect{PersistDestination{e.Record}}, then...)
}

// release ends a lease.
func (d Destination) release(e Entry, reason string, then ...Effect) (Destination, []Effect) {
	e.Record.State, e.Record.Reason, e.Tries = DestReleased, reason, 0
	return d.persist(e, append([]Effect{ReleaseLease{e.Record.VM, e.Record.Lease}}, then...)...)
}

// reply is a message about the entry's token to its source.
func (e Entry) reply(kind Kind) Send {
	r := e.Record
	return Send{r.Source, Message{Version: MessageVersion, Kind: kind, VM: r.VM, Attempt: r.Attempt, Lease: r.Lease}}
}

// refuse says no to a message, quoting its token.
func refuse(to HostID, m Message, r Refusal) Send {
	return Send{to, Message{Version: MessageVersion, Kind: Refused, VM: m.VM, Attempt: m.Attempt, Lease: m.Lease, Refusal: &r}}
}

// RecoverDestination is the book after a restart, from all its records. A lease
// without a copy gets its time to live anew, once; what may have a copy is looked
// up. When one of the Persist effects fails, the host must not take VMs: do not
// serve, and recover again.
func RecoverDestination(host HostID, limits Limits, records []DestRecord, at Moment) (Destination, []Effect) {
	d := NewDestination(host, limits)
	var effects []Effect
	for _, r := range records {
		d.Counter = max(d.Counter, r.Counter)
		e := Entry{Record: r, Copy: CopyUnknown, Expires: at.Now + d.Limits.LeaseTTL}
		var more []Effect
		switch {
		case r.State == DestHeld && r.Restarts > 0:
			d, more = d.release(e, "the agent restarted twice under the lease")
		case r.State == DestHeld:
			e.Record.Restarts++
			e.Copy = CopyNone
			d, more = d.persist(e, SetTimer{TimerLease, r.VM, d.Limits.LeaseTTL})
		case r.State == DestIncoming:
			more = []Effect{SetTimer{TimerLease, r.VM, d.Limits.LeaseTTL}}
		case r.State == DestCommitted || r.State == DestAborting || r.State == DestOwned:
			e.Unnoted = r.State == DestOwned
			more = []Effect{SetTimer{TimerRetry, r.VM, d.Limits.Retry}}
		}
		if r.State != DestHeld {
			var look QueryCopy
			d, look = d.look(e)
			more = append(more, look)
		}
		effects = append(effects, more...)
	}
	return d, effects
}
