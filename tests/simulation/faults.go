package simulation

import (
	"maps"
	"slices"
	"time"

	"headroom/planner"
	"headroom/planner/negotiate"
)

// faults lets one thing after the other go wrong, until all is quiet.
func (w *world) faults() {
	if w.quiet {
		return
	}
	h := w.hosts[w.rng.IntN(len(w.hosts))]
	if busy := w.busyHosts(); len(busy) > 0 && w.rng.IntN(4) > 0 {
		h = busy[w.rng.IntN(len(busy))] // where it hurts
	}
	switch w.rng.IntN(10) {
	case 0, 1:
		w.crashAgent(h)
	case 2, 3:
		w.crashLibvirtd(h)
	case 4:
		w.crashHost(h)
	case 5:
		w.slowDisk(h)
	case 6:
		w.fullDisk(h)
	case 7:
		w.part()
	case 8:
		w.isolate(h)
	case 9:
		w.mishap(h)
	}
	w.after(2*time.Duration(w.rng.Float64()*float64(w.rates.fault)), w.faults)
}

// busyHosts take part in a hand-over now.
func (w *world) busyHosts() []*host {
	var out []*host
	for _, h := range w.hosts {
		busy := len(h.jobs) > 0 || len(h.agent.dest.Leases()) > 0
		for _, s := range h.agent.sources {
			busy = busy || s.Busy()
		}
		if busy {
			out = append(out, h)
		}
	}
	return out
}

// crashLibvirtd ends the source halves: before switch-over the VM goes on, after
// it the VM stays paused and nobody of libvirt will touch it.
func (w *world) crashLibvirtd(h *host) {
	if !h.virt {
		return
	}
	w.tracef("%s libvirtd dies", h.id)
	h.virt = false
	for _, l := range h.agent.dest.Leases() {
		w.post(h, input{vm: w.vmOf[l.VM], dst: negotiate.CopyLost{VM: l.VM}})
	}
	w.dropJobs(h, "libvirtd died")
	w.after(w.between(100*time.Millisecond, 20*time.Second), func() { w.restartLibvirtd(h) })
}

// dropJobs ends the migrations from a host, and cuts those to it.
func (w *world) dropJobs(h *host, why string) {
	for _, v := range slices.Sorted(maps.Keys(h.jobs)) {
		w.endJob(h.jobs[v], why)
	}
	for _, o := range w.hosts {
		for _, v := range slices.Sorted(maps.Keys(o.jobs)) {
			if o.jobs[v].to == h.n {
				w.cut(o.jobs[v])
			}
		}
	}
}

// restartLibvirtd kills copies that were not finished, and calls the hook for
// each guest that runs: see HookSparesOthers.
func (w *world) restartLibvirtd(h *host) {
	if h.virt || !h.up {
		return
	}
	h.virt = true
	w.tracef("%s libvirtd restarts", h.id)
	for _, v := range slices.Sorted(maps.Keys(h.domains)) {
		switch h.domains[v].run {
		case allowed, incoming, ready:
			w.undefine(h, v)
		}
	}
	for _, l := range h.agent.dest.Leases() {
		w.copyChanged(h, w.vmOf[l.VM])
	}
}

// crashHost takes the power away. Its VMs are lost with it, as without headroom.
func (w *world) crashHost(h *host) {
	if !h.up {
		return
	}
	w.tracef("%s the host dies", h.id)
	for v := range h.domains {
		w.vms[v].excused = true
	}
	for v := range h.jobs {
		w.vms[v].excused = true
	}
	h.up, h.virt = false, false
	w.dropJobs(h, "host died")
	w.crashAgent(h)
	for _, v := range slices.Sorted(maps.Keys(h.domains)) {
		if r := h.domains[v].run; r < paused {
			delete(h.meta, v)
		}
		w.stop(h, v, none)
		delete(h.domains, v)
	}
	w.after(w.between(2*time.Second, 30*time.Second), func() {
		h.up, h.virt = true, true
		w.tracef("%s the host is up", h.id)
		w.restartAgent(h)
		w.after(w.between(time.Second, 20*time.Second), func() { w.startFromDisk(h) })
	})
}

// startFromDisk is whoever watches over crashed VMs: by the journal of the host
// where the VM belongs, and by nothing else.
func (w *world) startFromDisk(h *host) {
	for _, v := range slices.Sorted(maps.Keys(h.meta)) {
		if h.domains[v] != nil || !h.virt || !w.belongs(h, v) {
			continue
		}
		h.domains[v] = &domain{epoch: w.vms[v].epoch}
		if !w.startRunning(h, v, false) {
			delete(h.domains, v)
		}
	}
}

func (w *world) belongs(h *host, v int) bool {
	src, hasSrc := h.srcJournal[v]
	dst, hasDst := h.dstJournal[v]
	switch {
	case h.jobs[v] != nil:
		return false
	case hasDst && dst.Attempt >= src.Attempt:
		return dst.State == negotiate.DestOwned
	case !hasSrc:
		return true // it never moved
	}
	ok, _ := src.StartAllowed()
	return ok && src.State == negotiate.SourceAborted
}

func (w *world) slowDisk(h *host) {
	h.disk.slow = w.between(10*time.Millisecond, 5*time.Second)
	w.after(w.between(time.Second, 30*time.Second), func() { h.disk.slow = 0 })
}

func (w *world) fullDisk(h *host) {
	h.disk.full = true
	w.after(w.between(time.Second, 30*time.Second), func() { h.disk.full, h.agent.since = false, w.now })
}

// part divides the fleet for a while; sometimes only one direction is cut.
func (w *world) part() {
	side := make([]bool, len(w.hosts))
	for i := range side {
		side[i] = w.rng.IntN(2) == 0
	}
	oneWay := w.rng.IntN(3) == 0
	w.rule(func(a, b int) bool { return side[a] != side[b] && (!oneWay || side[a]) })
}

// isolate cuts one host off.
func (w *world) isolate(h *host) {
	w.rule(func(a, b int) bool { return a != b && (a == h.n || b == h.n) })
}

// rule makes messages between some hosts not arrive for a while, and cuts the
// migrations between them.
func (w *world) rule(parted func(a, b int) bool) {
	w.parted = parted
	for _, h := range w.hosts {
		for _, v := range slices.Sorted(maps.Keys(h.jobs)) {
			if j := h.jobs[v]; parted(j.from, j.to) || parted(j.to, j.from) {
				w.cut(j)
			}
		}
	}
	w.seq++
	mine := w.seq
	w.healing = mine
	w.after(w.between(time.Second, 40*time.Second), func() {
		if w.healing == mine {
			w.heal()
		}
	})
}

func (w *world) heal() { w.parted = func(int, int) bool { return false } }

// mishap is what concerns one hand-over or one clock.
func (w *world) mishap(h *host) {
	switch w.rng.IntN(4) {
	case 0: // the link of one migration
		for _, v := range slices.Sorted(maps.Keys(h.jobs)) {
			w.cut(h.jobs[v])
		}
	case 1:
		for _, v := range slices.Sorted(maps.Keys(h.agent.sources)) {
			if h.agent.sources[v].Busy() {
				w.post(h, input{vm: v, src: negotiate.Cancel{VM: w.vms[v].id, Reason: "cancelled by the operator"}})
			}
		}
	case 2: // somebody sets the time
		if w.rates.wallJump > 0 {
			h.wall = w.between(-w.rates.wallJump, w.rates.wallJump)
		}
	case 3: // a QEMU dies
		if vs := slices.Sorted(maps.Keys(h.domains)); len(vs) > 0 && h.virt {
			w.killQEMU(h, vs[w.rng.IntN(len(vs))])
		}
	}
}

// killQEMU ends a VM's process: that VM may be lost, as without headroom.
func (w *world) killQEMU(h *host, v int) {
	w.vms[v].excused = true
	w.tracef("%s the QEMU of %s dies", h.id, w.vms[v].id)
	if j := h.jobs[v]; j != nil {
		w.endJob(j, "the VM died")
	}
	for _, o := range w.hosts {
		if j := o.jobs[v]; j != nil && j.to == h.n {
			w.cut(j)
		}
	}
	if r := h.domains[v].run; r < paused {
		delete(h.meta, v)
	}
	seen := h.domains[v].run != allowed
	w.stop(h, v, none)
	delete(h.domains, v)
	if seen {
		w.copyChanged(h, v)
	}
}

// orders are operators who move a VM now and then, whatever the planner thinks.
func (w *world) orders() {
	if w.quiet {
		return
	}
	v := w.rng.IntN(len(w.vms))
	h := w.hosts[w.vms[v].home]
	if d := h.domains[v]; d != nil && d.run == running && h.agent.alive && !h.agent.sources[v].Busy() && len(w.hosts) > 2 {
		var to []planner.HostID
		for _, i := range w.rng.Perm(len(w.hosts))[:3] {
			if i != h.n && len(to) < 2 {
				to = append(to, planner.HostID(w.hosts[i].id))
			}
		}
		host := w.view(h)
		host.Draining = true // room up to HIGH: an operator outranks balance
		for i := range host.VMs {
			if host.VMs[i].ID == w.vms[v].id {
				need := planner.NeedOf(host.VMs[i], host)
				w.probe(h, v, need, to, func([]planner.Offer) { w.start(h, v, to, nil) })
			}
		}
	}
	w.after(2*time.Duration(w.rng.Float64()*float64(w.rates.order)), w.orders)
}
