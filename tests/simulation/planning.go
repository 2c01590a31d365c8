package simulation

import (
	"maps"
	"slices"
	"time"

	"headroom/planner"
	"headroom/planner/negotiate"
)

const (
	roundEvery = 10 * time.Second
	needLife   = time.Minute
	maxNeeds   = 256
)

// digest is what a host told of itself by gossip.
type digest struct {
	at       time.Duration
	order    int
	free     map[string]int
	pressure float64
	incoming int
}

// view is the host as its own agent knows it.
func (w *world) view(h *host) planner.Host {
	out := planner.Host{ID: planner.HostID(h.id), Name: string(h.id), Capacity: h.capacity, Complete: true, View: planner.View{Stable: true}}
	for _, v := range slices.Sorted(maps.Keys(h.domains)) {
		if d := h.domains[v]; d.run != running {
			continue
		}
		p, m := w.vms[v].plan, h.meta[v]
		p.History = planner.MoveHistory{Attempt: planner.Attempt(m.attempt), LastMoved: m.movedAt, LastFrom: planner.HostID(m.lastFrom), Moves: m.moves}
		if m.lease != "" && m.to == h.id && w.cfg.Mutant != MutantNotedOnce {
			p.Busy = "the note of its move"
		}
		out.VMs = append(out.VMs, p)
	}
	for v, s := range h.agent.sources {
		if s.Busy() {
			out.Outgoing = append(out.Outgoing, planner.VMID(w.vms[v].id))
		}
	}
	slices.Sort(out.Outgoing)
	out.Wanted = planner.FreshWanted(h.agent.wanted, w.date(h), w.policy)
	return out
}

// withLeases adds what the lease book holds, as the agent does.
func (w *world) withLeases(h *host, out planner.Host, leases []negotiate.Lease) planner.Host {
	for _, l := range leases {
		need, ok := h.agent.needs[asked{w.vmOf[l.VM], w.hostOf[l.Source]}]
		if !ok {
			f := flat(l.Need.Cores)
			need = planner.Need{VM: l.VM, From: l.Source, Memory: planner.MiB(l.Need.MemoryMiB), CPU: planner.Demand{Step: f.Step, Steps: f.Steps, Peak: f.Peak}}
		}
		if l.State == negotiate.DestHeld {
			out.Held = append(out.Held, planner.Lease{ID: l.Lease, Attempt: l.Attempt, Need: need})
		} else {
			out.Incoming = append(out.Incoming, planner.Incoming{Lease: l.Lease, Attempt: l.Attempt, Need: need})
		}
	}
	return out
}

// admit judges a Reserve as the agent does: probed within the last minute, and by
// the offer's own rule against the leases of this moment.
func (w *world) admit(h *host, r negotiate.Received) *negotiate.Refusal {
	v, from := w.vmOf[r.Message.VM], w.hostOf[r.From]
	if h.agent.sources[v].Busy() {
		return &negotiate.Refusal{Kind: negotiate.RefusedBusy}
	}
	need, ok := h.agent.needs[asked{v, from}]
	if !ok {
		return &negotiate.Refusal{Kind: negotiate.RefusedIncomplete}
	}
	leases := slices.DeleteFunc(h.agent.dest.Leases(), func(l negotiate.Lease) bool { return l.VM == r.Message.VM })
	o := planner.MakeOffer(w.date(h), w.withLeases(h, w.view(h), leases), need, w.policy)
	if len(o.Refusals) > 0 {
		return &negotiate.Refusal{Kind: negotiate.RefusedNoRoom, Text: o.Refusals[0].Text}
	}
	return nil
}

// gossip publishes a host's free slots.
func (w *world) gossip(h *host) {
	if !h.agent.alive {
		return
	}
	host := w.withLeases(h, w.view(h), h.agent.dest.Leases())
	d := digest{at: w.now, order: h.order, free: map[string]int{}, incoming: len(host.Held) + len(host.Incoming)}
	h.order++
	for _, s := range planner.Slots(host, w.policy.Classes, w.policy.SlotProbability, w.date(h)) {
		d.free[s.Class] = s.Free
	}
	if w.chance(w.rates.forged) { // by somebody who has the key
		for c := range d.free {
			d.free[c] = 255
		}
		d.at -= w.between(0, 10*time.Minute)
	}
	if h.digests = append(h.digests, d); len(h.digests) > 4 {
		h.digests = h.digests[1:]
	}
}

// peers are the other hosts as gossip shows them to h: each digest takes its time
// to each receiver, and one in fifty comes with a push/pull only.
func (w *world) peers(h *host) []planner.Peer {
	out := w.scratch[:0] // Decide keeps nothing of it
	for _, o := range w.hosts {
		if o == h {
			continue
		}
		p := planner.Peer{ID: planner.HostID(o.id), Name: string(o.id), Alive: o.up && !w.parted(o.n, h.n)}
		for i := len(o.digests) - 1; i >= 0; i-- {
			d := &o.digests[i]
			way := uint64(d.order)*0x9e3779b97f4a7c15 ^ uint64(h.n)*0xbf58476d1ce4e5b9 ^ uint64(o.n)*0x94d049bb133111eb
			way ^= way >> 29
			late := time.Duration(way%1000) * time.Millisecond
			if way%50 == 0 {
				late = time.Duration(way%60) * time.Second
			}
			if age := w.now - d.at; age >= late {
				p.Free, p.Pressure, p.Incoming, p.DigestAge = d.free, d.pressure, d.incoming, age
				break
			}
		}
		out = append(out, p)
	}
	w.scratch = out
	return out
}

// heat lets the host of some VM that has moved become hot: the VM must rest there
// all the same.
func (w *world) heat() {
	v := w.rng.IntN(len(w.vms))
	for range 50 {
		if len(w.vms[v].moves) > 0 {
			break
		}
		v = w.rng.IntN(len(w.vms))
	}
	h := w.hosts[w.vms[v].home]
	n := 0
	for _, d := range h.domains {
		if d.run == running {
			n++
		}
	}
	for _, v := range slices.Sorted(maps.Keys(h.domains)) {
		level := 9.2 / float64(max(1, n)) * (0.95 + 0.1*w.rng.Float64())
		w.vms[v].plan.CPU, w.vms[v].plan.NowCPU = flat(level), planner.Cores(level)
	}
}

// round is one decision round of a host. One that is surely calm is left out.
func (w *world) round(h *host) {
	if !h.agent.alive || h.agent.probing || w.quiet {
		return
	}
	demand := 0.0
	for _, v := range slices.Sorted(maps.Keys(h.domains)) { // in order, as sums of floats depend on it
		if h.domains[v].run == running {
			demand += float64(w.vms[v].plan.NowCPU)
		}
	}
	if demand < 0.8*float64(h.capacity.CPU) {
		h.agent.state = planner.State{}
		return
	}
	host := w.withLeases(h, w.view(h), h.agent.dest.Leases())
	d, state := planner.Decide(w.date(h), host, w.peers(h), h.agent.state, w.policy, w.rng)
	h.agent.state = state
	if d.Action != planner.ActionMove || len(d.Candidates) == 0 {
		return
	}
	h.agent.probing = true
	life := h.agent.life
	w.after(d.Delay, func() {
		if h.agent.life != life {
			return
		}
		w.probe(h, w.vmOf[d.VM], *d.Need, d.Candidates, func(offers []planner.Offer) {
			h.agent.probing = false
			w.choose(h, &d, host, offers)
		})
	})
}

// choose ends a planner's probing, as Agent.propose does.
func (w *world) choose(h *host, d *planner.Decision, src planner.Host, offers []planner.Offer) {
	v := w.vmOf[d.VM]
	var vm planner.VM
	for i := range src.VMs {
		if src.VMs[i].ID == w.vms[v].id {
			vm = src.VMs[i]
		}
	}
	to, _, refused := planner.Choose(vm, src, offers, w.policy)
	if to == "" {
		h.agent.state = h.agent.state.NoteRefused(w.date(h), vm.ID, refused, w.policy)
		return
	}
	order := []planner.HostID{to}
	for _, o := range offers {
		if o.Host != to && len(o.Refusals) == 0 {
			if e := planner.EvaluateMigration(vm, src, o, w.policy); e.Allowed() {
				order = append(order, o.Host)
			}
		}
	}
	w.start(h, v, order, d)
}

// probe asks hosts live, and goes on when all have answered, or after the time-out.
func (w *world) probe(h *host, v int, need planner.Need, to []planner.HostID, then func([]planner.Offer)) {
	life := h.agent.life
	offers := make([]planner.Offer, len(to))
	answers, over := 0, false
	finish := func() {
		if !over && h.agent.life == life && h.agent.alive {
			then(offers)
		}
		over = true
	}
	for i, id := range to {
		offers[i] = planner.Offer{Host: id, Refusals: []planner.Refusal{{Kind: planner.RefuseUnreachable, Text: "no answer"}}}
		n, seen := w.hostOf[id], false
		w.carry(h.n, n, func() {
			o, ok := w.offer(w.hosts[n], v, h.n, need)
			if !ok {
				return
			}
			w.carry(n, h.n, func() {
				if seen || over {
					return
				}
				seen, offers[i] = true, o
				if answers++; answers == len(to) {
					finish()
				}
			})
		})
	}
	w.after(rpcTimeout, finish)
}

// offer answers a probe.
func (w *world) offer(h *host, v, from int, need planner.Need) (planner.Offer, bool) {
	if !h.agent.alive {
		return planner.Offer{}, false
	}
	key := asked{v, from}
	if _, known := h.agent.needs[key]; known || len(h.agent.needs) < maxNeeds {
		h.agent.needs[key] = need
		life := h.agent.life
		w.after(needLife, func() {
			if e, held := h.agent.dest.Entry(w.vms[v].id); h.agent.life == life && (!held || !active(e.Record.State)) {
				delete(h.agent.needs, key)
			}
		})
	}
	o := planner.MakeOffer(w.date(h), w.withLeases(h, w.view(h), h.agent.dest.Leases()), need, w.policy)
	h.agent.wanted = planner.NoteWanted(h.agent.wanted, w.date(h), need, o, w.policy)
	return o, true
}

func active(s negotiate.DestState) bool {
	switch s {
	case negotiate.DestHeld, negotiate.DestIncoming, negotiate.DestCommitted, negotiate.DestAborting:
		return true
	}
	return false
}

// start hands an attempt to the agent's state machine, as the desk does. Without a
// decision of the planner it is an operator's.
func (w *world) start(h *host, v int, order []planner.HostID, planned *planner.Decision) {
	id, d := w.vms[v].id, h.domains[v]
	mine := w.mayMove(h, id)
	if !h.agent.alive || h.agent.sources[v].Busy() || !mine || d == nil || d.run != running {
		return
	}
	s := negotiate.Start{VM: id, CopyLimit: 2 * time.Minute,
		LastAttempt: max(h.meta[v].attempt, h.agent.dest.LastAttempt(id)),
		Need:        negotiate.Need{MemoryMiB: float64(w.vms[v].plan.Memory), Cores: w.vms[v].plan.CPU.Peak[2]}}
	for _, to := range order {
		s.Candidates = append(s.Candidates, negotiate.Candidate{Host: to, Guard: w.vms[v].guard})
	}
	if planned == nil {
		s.Operator = "operator"
	} else {
		w.checkPlanned(h, v, order, w.urgent(v, planned))
	}
	w.stats.Asked++
	w.post(h, input{vm: v, src: s})
}
