package handover

import (
	"slices"
	"time"

	"headroom/agent/hypervisor"
	"headroom/planner/negotiate"
)

// Role is the host's part in a hand-over.
type Role string

// The roles.
const (
	RoleSource      Role = "source"
	RoleDestination Role = "destination"
)

func roleOf(s side) Role {
	if s == sourceSide {
		return RoleSource
	}
	return RoleDestination
}

// Update is one change of a hand-over, for records, news and the operator.
type Update struct {
	VM      negotiate.VMID
	Attempt negotiate.Attempt
	Role    Role
	Peer    negotiate.HostID
	// State is the durable state that was reached; Closed that no more comes.
	State  string
	Closed bool
	Reason string
	// Alarm is set alone when something waits for an operator.
	Alarm string
	// Done is set on the source's last update of an attempt.
	Done *Result
}

// Result is how an attempt ended at the source. Durations are 0 when unknown.
type Result struct {
	Outcome negotiate.Outcome
	// Negotiate is from the first Reserve to the lease.
	Negotiate time.Duration
	// Copy is from the start of the migration until the VM ran at the
	// destination.
	Copy time.Duration
	// Blackout is how long the VM's CPUs stood still: from libvirt's word that
	// they stopped until the destination's word that they run. It holds one
	// message's travel time and so errs on the long side.
	Blackout time.Duration
	// BlackoutHow says how it was measured.
	BlackoutHow string
	Bytes       uint64
	DirtyRate   float64 // bytes/s at the end of the copy, 0 when unknown
	Refused     []negotiate.CandidateResult
}

// track follows one attempt for its figures; nothing is decided by it.
type track struct {
	attempt                               negotiate.Attempt
	to                                    negotiate.HostID
	began, granted, started, done, onward time.Duration // moments of the desk's clock; 0: not yet
	stoppedAt                             time.Duration
	result                                hypervisor.MigrateResult
}

// pace is how a copy goes on.
type pace struct {
	attempt negotiate.Attempt
	sent    uint64
	least   uint64        // smallest rest so far
	sentAt  time.Duration // when sent grew last
	leastAt time.Duration // when the rest shrank last
	told    bool
}

// noteMessage takes the moments of the negotiation from its messages.
func (d *Desk) noteMessage(vm negotiate.VMID, m negotiate.Message) {
	t := d.track[vm]
	switch {
	case m.Kind == negotiate.Reserve:
		if t == nil || t.attempt != m.Attempt {
			d.track[vm] = &track{attempt: m.Attempt, began: d.o.Since()}
		}
	case t == nil || t.attempt != m.Attempt:
	case m.Kind == negotiate.Granted && t.granted == 0:
		t.granted = d.o.Since()
	case m.Kind == negotiate.Ack && t.onward == 0:
		t.onward = d.o.Since()
	}
}

func (d *Desk) noteSource(r negotiate.SourceRecord) {
	if t := d.track[r.VM]; t != nil {
		t.to = r.To
		if r.State == negotiate.SourceMigrating && t.started == 0 {
			t.started = d.o.Since()
		}
	}
	d.o.Notify(Update{VM: r.VM, Attempt: r.Attempt, Role: RoleSource, Peer: r.To,
		State: string(r.State), Closed: r.Closed, Reason: r.Reason})
}

func (d *Desk) noteDestination(r negotiate.DestRecord) {
	d.o.Notify(Update{VM: r.VM, Attempt: r.Attempt, Role: RoleDestination, Peer: r.Source,
		State: string(r.State), Closed: r.State == negotiate.DestOwned || r.State == negotiate.DestReleased, Reason: r.Reason})
}

// noteResult keeps what libvirt measured of the copy.
func (d *Desk) noteResult(vm negotiate.VMID, r hypervisor.MigrateResult) {
	if t := d.track[vm]; t != nil {
		t.result, t.done = r, d.o.Since()
	}
}

func (d *Desk) noteDone(e negotiate.Done) {
	delete(d.paces, e.VM)
	u := Update{VM: e.VM, Attempt: e.Attempt, Role: RoleSource, Peer: e.To, State: string(e.Outcome),
		Closed: true, Reason: e.Reason, Done: &Result{Outcome: e.Outcome, Refused: e.Refused}}
	if t := d.track[e.VM]; t != nil && t.attempt == e.Attempt {
		t.measure(u.Done, d.o.Since())
		delete(d.track, e.VM)
	}
	d.o.Notify(u)
}

// measure fills in the figures of an attempt that ended at now.
func (t *track) measure(r *Result, now time.Duration) {
	if t.granted > 0 {
		r.Negotiate = t.granted - t.began
	}
	end := t.onward
	if end == 0 {
		end = now
	}
	if t.started == 0 || t.done == 0 {
		return
	}
	r.Copy, r.Bytes, r.DirtyRate = end-t.started, t.result.Bytes, t.result.DirtyRate
	switch {
	case t.stoppedAt > 0 && end > t.stoppedAt:
		r.Blackout, r.BlackoutHow = end-t.stoppedAt, "from libvirt's suspended event to the destination's acknowledgement"
	default:
		r.Blackout, r.BlackoutHow = t.result.Blackout+(end-t.done), "libvirt's downtime and the time to the destination's acknowledgement"
	}
}

// Holdings is what the desk has under way, for the host's forecast.
type Holdings struct {
	// Leases are held or incoming VMs at this destination.
	Leases []negotiate.Lease
	// Outgoing are the VMs whose attempt has not ended here.
	Outgoing []negotiate.VMID
	// Open are all hand-overs that have not ended here, on either side.
	Open []Open
}

// Holdings returns what was under way after the last step.
func (d *Desk) Holdings() Holdings {
	h := *d.holdings.Load()
	now := d.o.Since()
	h.Open = slices.Clone(h.Open)
	for i := range h.Open {
		if o := &h.Open[i]; o.Advice != "" {
			o.Waits = now - o.Waits
		}
	}
	return h
}

// publish makes the state of this moment readable for others.
func (d *Desk) publish() {
	h := Holdings{Leases: d.dest.Leases(), Open: d.open()}
	for vm, s := range d.sources {
		if s.Busy() {
			h.Outgoing = append(h.Outgoing, vm)
		}
	}
	d.holdings.Store(&h)
}
