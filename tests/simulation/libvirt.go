package simulation

import (
	"time"

	"headroom/planner/negotiate"
	"headroom/tests/model"
)

// phase is how far a migration is at its source.
type phase uint8

// The phases. Called is accepted by libvirt and not begun: a stamp taken back
// now goes with it. From asking on libvirt has read the stamp, and shows the job
// and lets nobody change the domain until it is over.
const (
	called phase = iota
	asking
	copying
	switched
)

// job is libvirt's outgoing migration.
type job struct {
	from, to, vm int
	session      int
	phase        phase
	paused       bool
	broken       bool // the two libvirts lost each other
	waits        int  // life of the agent that called
}

// startRunning lets a QEMU's CPUs run; false when the disk lock refuses. A memory
// image older than the disk is the corruption that a wrong hand-over causes.
func (w *world) startRunning(h *host, v int, byLibvirt bool) bool {
	d, vm := h.domains[v], w.vms[v]
	if vm.guard == negotiate.GuardLock && w.cfg.Mutant != model.MutantNoLock && vm.running > 0 {
		return false
	}
	d.run = running
	w.tracef("  %s runs at %s", vm.id, h.id)
	excused := byLibvirt && vm.guard == negotiate.GuardLock && vm.excused
	if d.epoch != vm.epoch && !excused {
		w.violate("OneRunner: %s runs at %s with memory of epoch %d on a disk of epoch %d", vm.id, h.id, d.epoch, vm.epoch)
	}
	vm.epoch++ // from here on the disk is newer than any other copy of the memory
	d.epoch = vm.epoch
	vm.running++
	vm.home = h.n
	if vm.running > 1 {
		w.violate("OneRunner: %s runs on %d hosts", vm.id, vm.running)
	}
	return true
}

// stop takes a running VM's CPUs away.
func (w *world) stop(h *host, v int, next runState) {
	d := h.domains[v]
	if d.run == running {
		w.vms[v].running--
	}
	d.run = next
}

// undefine removes a VM from a host.
func (w *world) undefine(h *host, v int) {
	if d := h.domains[v]; d != nil {
		seen := d.run != allowed
		w.stop(h, v, none)
		delete(h.domains, v)
		delete(h.meta, v)
		w.tracef("  %s at %s is gone", w.vms[v].id, h.id)
		if seen {
			w.copyChanged(h, v)
		}
		w.checkAlive(v)
	}
}

// startMigration accepts a call; it begins a little later, and its agent may be
// dead by then.
func (w *world) startMigration(h *host, v int, e negotiate.StartMigration) {
	w.stats.Attempts++
	if h.jobs[v] != nil || !h.virt || h.domains[v] == nil {
		w.call(h, v, func() input { return input{src: negotiate.MigrationDone{VM: e.VM, Err: "libvirt refuses"}} })
		return
	}
	j := &job{from: h.n, to: w.hostOf[e.To], vm: v, session: int(e.Attempt), paused: e.Paused, waits: h.agent.life}
	h.jobs[v] = j
	late := w.between(time.Millisecond, 50*time.Millisecond)
	if w.chance(0.05) {
		late = w.between(time.Second, 40*time.Second)
	}
	w.after(late, func() { w.begin(j) })
}

// alive reports whether the job is still libvirt's.
func (w *world) alive(j *job) bool { return w.hosts[j.from].jobs[j.vm] == j }

// begin is Begin and Prepare: the destination's hook asks the agent there.
func (w *world) begin(j *job) {
	if !w.alive(j) {
		return
	}
	h, to := w.hosts[j.from], w.hosts[j.to]
	d := h.domains[j.vm]
	if d == nil || d.run != running || !to.up || !to.virt || j.broken || w.parted(j.from, j.to) || w.parted(j.to, j.from) || to.domains[j.vm] != nil {
		w.endJob(j, "cannot prepare the destination")
		return
	}
	m := h.meta[j.vm]
	j.phase = asking
	w.hook(to, negotiate.PrepareCheck{VM: w.vms[j.vm].id, Source: h.id, Attempt: m.attempt, Lease: m.lease}, func(yes bool) {
		w.prepared(j, m, yes || w.cfg.Mutant == model.MutantNoHookCheck)
	})
}

// hook is `headroom hook` at «migrate begin»: it asks the agent, and refuses when
// no answer comes in time.
func (w *world) hook(to *host, ev negotiate.PrepareCheck, answer func(yes bool)) {
	answered := false
	once := func(yes bool) {
		if !answered {
			answered = true
			answer(yes)
		}
	}
	w.after(hookTimeout, func() { once(false) })
	if to.agent.alive {
		w.post(to, input{vm: w.vmOf[ev.VM], dst: ev, hooked: once})
	}
}

// prepared goes on after the hook's answer: the copy appears a little later.
func (w *world) prepared(j *job, m metadata, yes bool) {
	h, to := w.hosts[j.from], w.hosts[j.to]
	if !w.alive(j) || j.phase != asking {
		return
	}
	d := h.domains[j.vm]
	if !yes || j.broken || !to.up || !to.virt || to.domains[j.vm] != nil || d == nil || d.run != running {
		w.endJob(j, "the hook refused")
		return
	}
	j.phase = copying
	c := &domain{run: allowed, session: j.session, epoch: d.epoch}
	to.domains[j.vm], to.meta[j.vm] = c, m
	w.checkHost(to, j.vm)
	w.after(w.between(10*time.Millisecond, maxAppear), func() {
		if to.domains[j.vm] != c || c.run != allowed || !to.virt {
			return
		}
		if !w.linked(j) { // it appears now or never
			w.cut(j)
			w.undefine(to, j.vm)
			return
		}
		c.run = incoming
		w.copyChanged(to, j.vm)
		w.after(w.between(500*time.Millisecond, 8*time.Second), func() { w.switchOver(j, c) })
	})
}

// linked reports whether both halves of the migration reach each other.
func (w *world) linked(j *job) bool {
	h, to := w.hosts[j.from], w.hosts[j.to]
	return w.alive(j) && !j.broken && h.virt && to.virt && !w.parted(j.from, j.to) && !w.parted(j.to, j.from)
}

func (w *world) switchOver(j *job, c *domain) {
	h, to := w.hosts[j.from], w.hosts[j.to]
	if to.domains[j.vm] != c || c.run != incoming || !w.linked(j) {
		w.cut(j)
		return
	}
	j.phase = switched
	w.stop(h, j.vm, paused)
	c.run, c.epoch = ready, w.vms[j.vm].epoch
	w.after(w.between(5*time.Millisecond, 300*time.Millisecond), func() {
		if to.domains[j.vm] != c || c.run != ready || !to.virt {
			w.cut(j)
			return
		}
		w.finish(j, c) // also when the link was cut after Finish went out
		w.after(w.between(5*time.Millisecond, 100*time.Millisecond), func() { w.confirm(j, c) })
	})
}

// finish starts the copy at the destination, or leaves it paused.
func (w *world) finish(j *job, c *domain) {
	to := w.hosts[j.to]
	if j.paused {
		c.run = paused
	} else if !w.startRunning(to, j.vm, true) {
		w.undefine(to, j.vm)
		return
	}
	w.copyChanged(to, j.vm)
	w.checkHost(to, j.vm)
}

// confirm is the source hearing that Finish was done.
func (w *world) confirm(j *job, c *domain) {
	if !w.linked(j) || w.hosts[j.to].domains[j.vm] != c {
		w.cut(j)
		return
	}
	h := w.hosts[j.from]
	delete(h.jobs, j.vm)
	w.undefine(h, j.vm)
	w.answerJob(j, "")
}

// cut parts the two halves: each notices by itself, sooner or later.
func (w *world) cut(j *job) {
	if j.broken || !w.alive(j) {
		return
	}
	j.broken = true
	w.tracef("  the migration of %s from %s is cut", w.vms[j.vm].id, w.hosts[j.from].id)
	to := w.hosts[j.to]
	c := to.domains[j.vm]
	w.after(w.between(time.Millisecond, 30*time.Second), func() { w.failSource(j) })
	w.after(w.between(time.Millisecond, 30*time.Second), func() { w.failCopy(to, j, c) })
}

// failSource resumes the VM, even if Finish was done over there.
func (w *world) failSource(j *job) {
	h := w.hosts[j.from]
	if !w.alive(j) || !h.virt {
		return
	}
	if d := h.domains[j.vm]; j.phase == switched && d != nil && d.run == paused {
		w.startRunning(h, j.vm, true)
	}
	w.endJob(j, "lost the destination")
}

// failCopy drops a copy that was not finished.
func (w *world) failCopy(to *host, j *job, c *domain) {
	if c == nil || to.domains[j.vm] != c || !to.virt || c.session != j.session {
		return
	}
	if c.run == allowed || c.run == incoming || c.run == ready {
		w.undefine(to, j.vm)
	}
}

// endJob ends the source's half with an error. The VM goes on here as it is.
func (w *world) endJob(j *job, err string) {
	h := w.hosts[j.from]
	if j.phase >= copying && !j.broken { // the destination loses the connection
		to := w.hosts[j.to]
		c := to.domains[j.vm]
		w.after(w.between(time.Millisecond, 5*time.Second), func() { w.failCopy(to, j, c) })
	}
	delete(h.jobs, j.vm)
	w.answerJob(j, err)
}

// answerJob lets the agent that called hear the end, if it still lives.
func (w *world) answerJob(j *job, err string) {
	h := w.hosts[j.from]
	if h.agent.life == j.waits {
		w.post(h, input{vm: j.vm, src: negotiate.MigrationDone{VM: w.vms[j.vm].id, Err: err}})
	}
}

// copyChanged tells the agent of a VM's new state.
func (w *world) copyChanged(h *host, v int) {
	if _, known := h.agent.dest.Entry(w.vms[v].id); known && h.agent.alive && h.virt {
		life := h.agent.life
		w.after(w.between(100*time.Microsecond, 5*time.Millisecond), func() {
			if h.agent.life == life {
				w.post(h, input{vm: v, dst: w.lookCopy(h, v, 0)})
			}
		})
	}
}

// lookLocal is libvirt's answer at the source.
func (w *world) lookLocal(h *host, v int, query uint64) negotiate.SourceEvent {
	id := w.vms[v].id
	_, defined := h.meta[v]
	d := h.domains[v]
	state := negotiate.LocalGone
	switch {
	case !h.virt:
		state = negotiate.LocalUnknown
	case h.migrating(v):
		return negotiate.MigrationStillRunning{VM: id, Query: query}
	case !defined:
		state = negotiate.LocalMigrated
	case d != nil && d.run == running:
		state = negotiate.LocalRunning
	case d != nil && d.run == paused:
		state = negotiate.LocalPaused
	}
	return negotiate.LocalState{VM: id, Query: query, State: state}
}

// lookCopy is libvirt's answer at the destination.
func (w *world) lookCopy(h *host, v int, query uint64) negotiate.DestinationEvent {
	id := w.vms[v].id
	if !h.virt {
		return negotiate.CopyLost{VM: id, Query: query}
	}
	d := h.domains[v]
	if d == nil || d.run <= allowed {
		return negotiate.CopyGone{VM: id, Query: query}
	}
	states := map[runState]negotiate.CopyState{incoming: negotiate.CopyIn, ready: negotiate.CopyIn, paused: negotiate.CopyPaused, running: negotiate.CopyRunning}
	m := h.meta[v]
	return negotiate.CopyAppeared{VM: id, Attempt: m.attempt, Lease: m.lease, State: states[d.run], Query: query}
}
