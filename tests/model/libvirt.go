package model

import "headroom/planner/negotiate"

// startRunning lets a QEMU's CPUs run. It reports false when the disk lock
// refuses. A memory image older than the disk is the corruption that a wrong
// hand-over causes.
func (w *World) startRunning(h, v int, byLibvirt bool) bool {
	d := &w.Hosts[h].Domains[v]
	if w.VMs[v].Guard == negotiate.GuardLock && w.cfg.Mutant != MutantNoLock && w.runsElsewhere(h, v) {
		return false
	}
	d.Run = Running
	w.tracef("  %s runs at %s", w.VMs[v].ID, w.Hosts[h].ID)
	// A lock alone does not keep libvirt itself from this, see doc.go.
	excused := byLibvirt && w.VMs[v].Guard == negotiate.GuardLock && w.Crashed
	if d.Epoch != w.VMs[v].Epoch && !excused {
		w.violate("StaleResume: %s runs at %s with memory of epoch %d on a disk of epoch %d",
			w.VMs[v].ID, w.Hosts[h].ID, d.Epoch, w.VMs[v].Epoch)
	}
	w.VMs[v].Epoch++ // from here on the disk is newer than any copy of the memory
	d.Epoch = w.VMs[v].Epoch
	return true
}

func (w *World) runsElsewhere(h, v int) bool {
	for i := range w.Hosts {
		if i != h && w.Hosts[i].Domains[v].Run == Running {
			return true
		}
	}
	return false
}

// linked reports whether the source's half of the migration has its other half.
func (w *World) linked(h, v int) bool {
	j := w.Hosts[h].Jobs[v]
	to := &w.Hosts[j.To]
	return !j.Cut && to.Up && to.Domains[v].Session == j.Session && to.Domains[v].Run != None
}

// orphaned reports whether a copy's source half is gone or out of reach.
func (w *World) orphaned(h, v int) bool {
	s := w.Hosts[h].Domains[v].Session
	for i := range w.Hosts {
		if j := w.Hosts[i].Jobs[v]; i != h && j.Phase >= Copying && j.To == h && j.Session == s && !j.Cut {
			return false
		}
	}
	return true
}

// begin is Begin and Prepare: the destination's hook decides.
func (w *World) begin(h, v int) {
	j := &w.Hosts[h].Jobs[v]
	d := w.Hosts[h].Domains[v]
	to := &w.Hosts[j.To]
	reachable := to.Up && to.Libvirtd && !j.Cut
	if d.Run != Running || !reachable || to.Domains[v].Run != None {
		w.endJob(h, v, "cannot prepare the destination")
		return
	}
	allowed := false
	if to.Agent {
		allowed = w.stepDest(j.To, negotiate.PrepareCheck{VM: w.VMs[v].ID, Source: w.Hosts[h].ID, Attempt: d.Attempt, Lease: d.Lease}, false, -1)
	}
	if !allowed && w.cfg.Mutant != MutantNoHookCheck {
		w.endJob(h, v, "the hook refused")
		return
	}
	j.Phase = Copying
	to.Domains[v] = Domain{Run: Allowed, Attempt: d.Attempt, Lease: d.Lease, From: w.Hosts[h].ID, Session: j.Session, Epoch: d.Epoch}
}

// endJob ends the source's half with an error. The VM goes on here as it is.
func (w *World) endJob(h, v int, err string) {
	j := w.Hosts[h].Jobs[v]
	w.Hosts[h].Jobs[v] = Job{}
	if j.Waiting {
		w.toSource(h, v, negotiate.MigrationDone{VM: w.VMs[v].ID, Err: err})
	}
}

// failSource is the source's half noticing that the other is gone: it resumes
// the VM, even if Finish was done over there.
func (w *World) failSource(h, v int) {
	if w.Hosts[h].Jobs[v].Phase == Switched {
		w.startRunning(h, v, true)
	}
	w.endJob(h, v, "lost the destination")
}

// copyChanged tells the destination's agent of a new state.
func (w *World) copyChanged(h, v int) {
	host := &w.Hosts[h]
	if host.Agent && host.Libvirtd {
		w.toDest(h, v, w.lookCopy(h, v, 0))
	}
}

func (w *World) dropCopy(h, v int, query uint64) {
	seen := w.Hosts[h].Domains[v].Run != Allowed
	w.Hosts[h].Domains[v] = Domain{}
	w.tracef("  the copy of %s at %s is gone", w.VMs[v].ID, w.Hosts[h].ID)
	if seen {
		w.copyChanged(h, v)
	}
	if query != 0 {
		w.toDest(h, v, w.lookCopy(h, v, query))
	}
}

func (w *World) switchOver(h, v int) {
	j := &w.Hosts[h].Jobs[v]
	j.Phase = Switched
	w.Hosts[h].Domains[v].Run = Paused
	w.Hosts[j.To].Domains[v].Run = Ready
	w.Hosts[j.To].Domains[v].Epoch = w.VMs[v].Epoch
}

// finish starts the copy at the destination, or leaves it paused.
func (w *World) finish(h, v int) {
	d := &w.Hosts[h].Domains[v]
	if w.VMs[v].Guard == negotiate.GuardPaused {
		d.Run = Paused
	} else if !w.startRunning(h, v, true) {
		w.dropCopy(h, v, 0)
		return
	}
	w.copyChanged(h, v)
}

// confirm is the source hearing that Finish was done.
func (w *World) confirm(h, v int) {
	j := w.Hosts[h].Jobs[v]
	w.Hosts[h].Domains[v], w.Hosts[h].Jobs[v] = Domain{Left: true}, Job{}
	if j.Waiting {
		w.toSource(h, v, negotiate.MigrationDone{VM: w.VMs[v].ID})
	}
}

// crashLibvirtd ends the source halves: before switch-over the VM goes on, after
// it the VM stays paused and nobody of libvirt will touch it.
func (w *World) crashLibvirtd(h int) {
	w.Hosts[h].Libvirtd = false
	for v := range w.VMs {
		if _, ok := w.Hosts[h].Dest.Entry(w.VMs[v].ID); ok {
			w.toDest(h, v, negotiate.CopyLost{VM: w.VMs[v].ID})
		}
	}
	for v := range w.VMs {
		if w.Hosts[h].Jobs[v].Phase != NoJob {
			w.endJob(h, v, "libvirtd died")
		}
	}
}

// restartLibvirtd kills copies that were not finished.
func (w *World) restartLibvirtd(h int) {
	w.Hosts[h].Libvirtd = true
	for v := range w.VMs {
		switch w.Hosts[h].Domains[v].Run {
		case Allowed, Incoming, Ready:
			w.Hosts[h].Domains[v] = Domain{}
		}
		if _, ok := w.Hosts[h].Dest.Entry(w.VMs[v].ID); ok && w.Hosts[h].Agent {
			w.copyChanged(h, v)
		}
	}
}

func (w *World) crashHost(h int) {
	w.crashAgent(h)
	host := &w.Hosts[h]
	host.Up, host.Libvirtd = false, false
	w.Crashed = true
	for v := range w.VMs {
		left := host.Domains[v].Run == None && host.Domains[v].Left
		host.Domains[v], host.Jobs[v] = Domain{Left: left}, Job{}
	}
}

// lookLocal is libvirt's answer at the source.
func (w *World) lookLocal(h, v int, query uint64) negotiate.SourceEvent {
	host, id := &w.Hosts[h], w.VMs[v].ID
	state := negotiate.LocalGone
	switch run := host.Domains[v].Run; {
	case !host.Libvirtd:
		state = negotiate.LocalUnknown
	case host.Jobs[v].Phase >= Copying:
		return negotiate.MigrationStillRunning{VM: id, Query: query}
	case run == None && host.Domains[v].Left:
		state = negotiate.LocalMigrated
	case run == Running:
		state = negotiate.LocalRunning
	case run == Paused:
		state = negotiate.LocalPaused
	}
	return negotiate.LocalState{VM: id, Query: query, State: state}
}

// lookCopy is libvirt's answer at the destination.
func (w *World) lookCopy(h, v int, query uint64) negotiate.DestinationEvent {
	host, id := &w.Hosts[h], w.VMs[v].ID
	if !host.Libvirtd {
		return negotiate.CopyLost{VM: id, Query: query}
	}
	d := host.Domains[v]
	states := map[Run]negotiate.CopyState{Incoming: negotiate.CopyIn, Ready: negotiate.CopyIn, Paused: negotiate.CopyPaused, Running: negotiate.CopyRunning}
	state, ok := states[d.Run]
	if !ok {
		return negotiate.CopyGone{VM: id, Query: query}
	}
	return negotiate.CopyAppeared{VM: id, Attempt: d.Attempt, Lease: d.Lease, State: state, Query: query}
}
