package simulation

import (
	"maps"
	"slices"
	"time"

	"headroom/planner"
	"headroom/planner/negotiate"
	"headroom/tests/model"
)

// The invariants, and where each is checked:
//
//	OneRunner          startRunning: never two hosts, never a memory older than the disk
//	NoLostVM           checkAlive: complete somewhere, unless its host or QEMU died
//	SlotConservation   checkHost: each copy has its lease in the journal; book and journal agree
//	NoOvercommit       checkHost: memory of VMs and leases within the host's
//	JournalBeforeAct   checkJournal, checkCopyAct, checkSend, checkStart: the record first
//	TokenMonotonic     persistSource, persistDest: attempts grow, lease ids are new
//	HookRefusesStale   checkAllowed: what was granted, by true time
//	HookSparesOthers   no operation but «migrate begin» asks the agent: restartLibvirtd
//	                   keeps guests with the agent dead; the program is tested in agent/hook
//	NoActionOnGossip   checkStart: a migration starts only to the host whose journal granted it
//	NoActionOnTimeout  persistSource, persistDest, checkTimer: no timer decides or acts
//	BoundedConcurrency persistDest: VMs on their way to a host
//	CooldownTravels    checkPlanned: by what truly moved, whatever agents forgot
//	NoReturnWithin2h   checkPlanned; both but for urgent moves
//	NoLivelock         checkPlanned: no VM goes to and fro
//	Settles            Run: within 60 s of the last fault
//	LeaseExpires       expire: no lease without a copy outlives twice its time to live

// checkHost looks at a VM's place on a host, after each change there.
func (w *world) checkHost(h *host, v int) {
	w.checkSlot(h, v)
	used := 0.0
	for v := range h.domains {
		used += float64(w.vms[v].plan.Memory)
	}
	for v, r := range h.dstJournal {
		if active(r.State) && h.domains[v] == nil {
			used += r.Need.MemoryMiB
		}
	}
	if used > float64(h.capacity.Memory) {
		w.violate("NoOvercommit: %s holds %.0f of %.0f MiB", h.id, used, h.capacity.Memory)
	}
	if e, ok := h.agent.dest.Entry(w.vms[v].id); ok && h.agent.alive && h.agent.writing == nil {
		r := h.dstJournal[v]
		if active(e.Record.State) && (r.State != e.Record.State || r.Lease != e.Record.Lease) {
			w.violate("SlotConservation: the book of %s has %s %s for %s, its journal %s %s", h.id, e.Record.State, e.Record.Lease, e.Record.VM, r.State, r.Lease)
		}
	}
}

// checkSlot: every copy that comes in has a lease in the journal, with its token.
func (w *world) checkSlot(h *host, v int) {
	d, m := h.domains[v], h.meta[v]
	if d == nil || d.session == 0 || m.lease == "" {
		return
	}
	r := h.dstJournal[v]
	own := r.Attempt == m.attempt && r.Lease == m.lease
	src := h.srcJournal[v]
	switch {
	case own && (active(r.State) || r.State == negotiate.DestOwned):
	case own && r.Aborted && d.run != running: // came late and is on its way out
	case r.Attempt > m.attempt && d.run <= incoming: // let in late, its source half is over, libvirt drops it
	case r.State == negotiate.DestOwned && r.Attempt <= m.attempt, int(src.Attempt) > d.session:
		// owned, and stamped since for a move onwards
	default:
		w.violate("SlotConservation: %s is %s at %s for %d/%s, and the journal has %d/%s %s", w.vms[v].id, d.run,
			h.id, m.attempt, m.lease, r.Attempt, r.Lease, r.State)
	}
}

// checkAlive: a VM is complete somewhere.
func (w *world) checkAlive(v int) {
	vm := w.vms[v]
	if vm.excused {
		return
	}
	for _, h := range w.hosts {
		if d := h.domains[v]; d != nil && d.epoch == vm.epoch && (d.run == running || d.run == paused || d.run == ready) {
			return
		}
	}
	w.violate("NoLostVM: %s is complete nowhere, and no host or QEMU died", vm.id)
}

func (w *world) checkJournal(h *host, v int, want negotiate.SourceState, act string) {
	if r := h.srcJournal[v]; r.State != want || want == negotiate.SourceAborted && !r.Resume {
		w.violate("JournalBeforeAct: %s of %s with a journal of %s", act, w.vms[v].id, r.State)
	}
}

func (w *world) checkCopyAct(h *host, v int, act string, attempt negotiate.Attempt, lease negotiate.LeaseID, want negotiate.DestState) {
	r := h.dstJournal[v]
	ok := r.State == want || want == negotiate.DestAborting && r.State == negotiate.DestReleased && r.Aborted
	if !ok || r.Attempt != attempt || r.Lease != lease {
		w.violate("JournalBeforeAct: %s %d/%s with a journal of %d/%s %s", act, attempt, lease, r.Attempt, r.Lease, r.State)
	}
}

// checkStart: a migration starts under a durable record, to a host whose own
// journal granted this token, and not more than the policy allows at a time.
func (w *world) checkStart(h *host, v int, e negotiate.StartMigration) {
	r := h.srcJournal[v]
	if r.State != negotiate.SourceMigrating || r.Attempt != e.Attempt || r.Lease != e.Lease {
		w.violate("JournalBeforeAct: StartMigration %d/%s with a journal of %d/%s %s", e.Attempt, e.Lease, r.Attempt, r.Lease, r.State)
	}
	if g, ok := w.leases[e.Lease]; !ok || g.host != w.hostOf[e.To] || g.vm != v || g.source != h.id || g.attempt != e.Attempt {
		w.violate("NoActionOnGossip: %s starts to move %s to %s under %q, which that host did not grant for it", h.id, e.VM, e.To, e.Lease)
	}
}

// checkSend: a promise is sent only from the journal.
func (w *world) checkSend(h *host, m negotiate.Message) {
	v := w.vmOf[m.VM]
	if err := model.PromiseRecorded(m, h.srcJournal[v], h.dstJournal[v]); err != nil {
		w.violate("JournalBeforeAct: %v", err)
	}
}

// persistSource is a record reaching the disk of a source.
func (w *world) persistSource(h *host, rec negotiate.SourceRecord, timer bool) {
	v := w.vmOf[rec.VM]
	old := h.srcJournal[v]
	if rec.Attempt < old.Attempt {
		w.violate("TokenMonotonic: source record of attempt %d after %d", rec.Attempt, old.Attempt)
	}
	decided := rec.State == negotiate.SourceCommitted || rec.State == negotiate.SourceAborted && old.State == negotiate.SourceMigrating
	if timer && decided && rec.State != old.State {
		w.violate("NoActionOnTimeout: a timer turned %s into %s", old.State, rec.State)
	}
	h.srcJournal[v] = rec
}

// persistDest is a record reaching the disk of a destination.
func (w *world) persistDest(h *host, rec negotiate.DestRecord, timer bool) {
	v := w.vmOf[rec.VM]
	old := h.dstJournal[v]
	if rec.Attempt < old.Attempt {
		w.violate("TokenMonotonic: destination record of attempt %d after %d", rec.Attempt, old.Attempt)
	}
	if timer && rec != old && !(rec.State == negotiate.DestReleased && old.State == negotiate.DestHeld) {
		w.violate("NoActionOnTimeout: a timer turned %s into %s", old.State, rec.State)
	}
	fresh := rec.State == negotiate.DestHeld && rec.Lease != old.Lease
	if _, given := w.leases[rec.Lease]; fresh && given {
		w.violate("TokenMonotonic: lease %s is given again", rec.Lease)
	}
	h.dstJournal[v] = rec
	if rec.State == negotiate.DestOwned && (old.State != negotiate.DestOwned || old.Lease != rec.Lease) {
		w.vms[v].moves = append(w.vms[v].moves, moved{w.now, w.hostOf[rec.Source], h.n})
	}
	if !fresh {
		return
	}
	w.leases[rec.Lease] = grant{w.now, h.n, v, rec.Source, rec.Attempt}
	open := 0
	for _, r := range h.dstJournal {
		if active(r.State) {
			open++
		}
	}
	if open > w.policy.MaxIncoming {
		w.violate("BoundedConcurrency: %s grants slot %d of %d", h.id, open, w.policy.MaxIncoming)
	}
	w.expire(h, v, rec.Lease)
}

// leaseTTL is the default time to live of a lease.
const leaseTTL = 30 * time.Second

// expire watches a lease from its grant on. A restart gives it a second life; while
// the agent is dead or its disk is full nobody can end it.
func (w *world) expire(h *host, v int, lease negotiate.LeaseID) {
	const slack = 10 * time.Second // a slow disk, a clock that is slow, a late retry
	w.after(leaseTTL+slack, func() {
		if r := h.dstJournal[v]; r.State != negotiate.DestHeld || r.Lease != lease {
			return
		}
		since := h.agent.since
		if !h.agent.alive || !h.up || h.disk.full || w.now-since < leaseTTL+slack {
			w.expire(h, v, lease)
			return
		}
		w.violate("LeaseExpires: %s still holds %s, and has been well for %v", h.id, lease, w.now-since)
	})
}

// checkAllowed: the hook lets in what this host granted to that source, for this
// VM and attempt, and not past its time in truth, whatever clocks say. A restart
// of the agent gives a lease a second life.
func (w *world) checkAllowed(h *host, in input, e negotiate.AllowPrepare) {
	const slack = 6 * time.Second // the disk may take 5 s to note it
	p, asked := in.dst.(negotiate.PrepareCheck)
	g, given := w.leases[e.Lease]
	if !asked || !given || g.host != h.n || g.vm != w.vmOf[p.VM] || g.source != p.Source || g.attempt != p.Attempt || p.Lease != e.Lease {
		w.violate("HookRefusesStale: %s lets in %+v, having granted %+v", h.id, p, g)
	}
	if age := w.now - max(g.at, h.agent.boot); age > leaseTTL+slack {
		w.violate("HookRefusesStale: %s lets in %s after %v", h.id, e.Lease, age)
	}
}

// checkTimer: no timer changes a VM's run state, or lets it change.
func (w *world) checkTimer(h *host, e negotiate.Effect) {
	switch e.(type) {
	case negotiate.ResumeCopy, negotiate.DestroyCopy, negotiate.ResumeLocal, negotiate.DestroyLocal,
		negotiate.StartMigration, negotiate.AllowPrepare:
		w.violate("NoActionOnTimeout: a timer of %s does %T", h.id, e)
	}
}

// checkPlanned holds a move that a planner begins against the hand-overs that were
// finished: whatever became of agents since, their hosts' journals said «owned». A
// VM that libvirt or its watchdog took back to a host has not been moved. Wall clocks that are wrong by an hour shorten a rest by as much.
func (w *world) checkPlanned(h *host, v int, order []planner.HostID, urgent bool) {
	moves := w.vms[v].moves
	if len(moves) == 0 {
		return
	}
	wrong := 2 * w.rates.wallJump
	last := moves[len(moves)-1]
	rest := w.now - last.at + wrong
	need := min(w.policy.Cooldown<<min(len(moves)-1, 8), w.policy.CooldownCap)
	if rest < need && wrong == 0 && !urgent {
		w.violate("CooldownTravels: %s leaves %s %v after its move %d", w.vms[v].id, h.id, rest, len(moves))
	}
	for _, to := range order {
		if w.hostOf[to] == last.from && rest < w.policy.ReturnAfter && !urgent {
			w.violate("NoReturnWithin2h: %s goes back from %s to %s after %v", w.vms[v].id, h.id, to, rest)
		}
	}
	swaps := 0
	for _, m := range moves {
		if m.from == last.from && m.to == last.to || m.from == last.to && m.to == last.from {
			swaps++
		}
	}
	if swaps > 3 && slices.Contains(order, planner.HostID(w.hosts[last.from].id)) {
		w.violate("NoLivelock: %s goes to and fro between %s and %s", w.vms[v].id, w.hosts[last.from].id, h.id)
	}
}

// urgent says that the decision's gain is worth breaking a rest, by the moves of 24 h
// that the hand-overs tell of.
func (w *world) urgent(v int, d *planner.Decision) bool {
	need := w.policy.UrgentFactor * float64(d.Inputs.MinGain) / 2
	for _, m := range w.vms[v].moves {
		if w.now-m.at <= 24*time.Hour {
			need *= 2
		}
	}
	for _, o := range d.Considered {
		if o.VM == d.VM && need > 0 {
			return float64(o.Evaluation.Gain-o.Evaluation.Room) >= need
		}
	}
	return false
}

// settled says whether all hand-overs are over, and if not, why.
func (w *world) settled() (bool, string) {
	for _, h := range w.hosts {
		if !h.up || !h.virt || !h.agent.alive {
			return false, string(h.id) + " is down"
		}
		for _, v := range slices.Sorted(maps.Keys(h.agent.sources)) {
			if s := h.agent.sources[v]; s.Busy() {
				return false, string(s.Record.VM) + " is " + string(s.Phase) + " at " + string(h.id)
			}
		}
		if l := h.agent.dest.Leases(); len(l) > 0 {
			return false, string(h.id) + " has a lease for " + string(l[0].VM) + ", " + string(l[0].State)
		}
		for _, v := range slices.Sorted(maps.Keys(h.domains)) {
			if r := h.domains[v].run; r != running {
				return false, string(w.vms[v].id) + " is " + r.String() + " at " + string(h.id)
			}
		}
	}
	for _, vm := range w.vms {
		if vm.running != 1 && !vm.excused {
			return false, string(vm.id) + " runs nowhere"
		}
	}
	return true, ""
}
