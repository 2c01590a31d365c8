package planner

import (
	"cmp"
	"slices"
)

// Gossip is a hint: it can say that a peer is out of the question, and which of
// the others promise the most room. Whether a VM fits is for the probe to say.

// shortlist is how many of the most promising peers the probes are drawn from:
// half, but at least minShortlist. The few best ones are what everybody else would
// choose too: of a quarter, the busiest of a herd's destinations got four VMs.
const (
	shortlistShare = 2
	minShortlist   = 8
)

// feasible splits the peers, by what gossip says, into those worth a probe
// (sorted) and those refused with every reason known.
func (r *planning) feasible(vm *VM) ([]HostID, []RefusedDestination) {
	var ok []*Peer
	var refused []RefusedDestination
	need := r.need(vm)
	seen := map[HostID]bool{r.h.ID: true}
	for i := range r.peers {
		peer := &r.peers[i]
		if seen[peer.ID] {
			continue
		}
		seen[peer.ID] = true
		if rs := r.against(vm, &need, peer); len(rs) > 0 {
			refused = append(refused, RefusedDestination{Host: peer.ID, Name: peer.Name, Refusals: rs})
		} else {
			ok = append(ok, peer)
		}
	}
	best, rest := r.promising(ok, &need)
	for _, peer := range rest {
		refused = append(refused, RefusedDestination{Host: peer.ID, Name: peer.Name, Refusals: []Refusal{
			refuse(RefuseSlots, "its digest shows less room than those of %d other hosts (pressure %.0f %%)", len(best), 100*peer.Pressure)}})
	}
	slices.SortFunc(refused, func(a, b RefusedDestination) int { return cmp.Compare(a.Host, b.Host) })
	return best, refused
}

// need is what the VM asks for, and which other VM it makes room for.
func (r *planning) need(vm *VM) Need {
	if r.src == nil {
		return NeedOf(*vm, *r.h)
	}
	return r.src.need(vm)
}

// promising parts the peers with the most room by their digests from the rest:
// those with slots for the need come first, then those under the least pressure.
func (r *planning) promising(ok []*Peer, need *Need) (best []HostID, rest []*Peer) {
	holds := make(map[HostID]bool, len(ok))
	for _, peer := range ok {
		holds[peer.ID] = slotsHold(peer.Free, need, r.p.Classes)
	}
	slices.SortFunc(ok, func(a, b *Peer) int {
		return cmp.Or(cmp.Compare(b2i(holds[b.ID]), b2i(holds[a.ID])), cmp.Compare(a.Pressure, b.Pressure), cmp.Compare(a.ID, b.ID))
	})
	n := min(len(ok), max(minShortlist, len(ok)/shortlistShare))
	for _, peer := range ok[:n] {
		best = append(best, peer.ID)
	}
	slices.Sort(best)
	return best, ok[n:]
}

// anyFeasible says whether feasible would find a peer. It stops at the first, and
// words nothing that many peers have in common: with 1000 of them the wording is
// what takes time.
func (r *planning) anyFeasible(vm *VM) bool {
	need := r.need(vm)
	return slices.ContainsFunc(r.openPeers(&need), func(peer *Peer) bool {
		return peer.provides(vm) && len(r.against(vm, &need, peer)) == 0
	})
}

// openPeers are those against which nothing stands whatever VM of this host asks.
func (r *planning) openPeers(need *Need) []*Peer {
	if r.open == nil {
		r.open = make([]*Peer, 0, len(r.peers))
		for i := range r.peers {
			peer := &r.peers[i]
			if peer.ID != r.h.ID && peer.Alive && !peer.Draining && (peer.Pressure <= r.pressureLimit(need) || r.h.asked(peer.ID)) && peer.Incoming < r.p.MaxIncoming {
				r.open = append(r.open, peer)
			}
		}
	}
	return r.open
}

// provides says whether the peer has what the hardware and the disks of vm ask
// for, as far as its digest tells.
func (peer *Peer) provides(vm *VM) bool {
	if vm.CPUModel != "" && peer.CPUModel != "" && vm.CPUModel != peer.CPUModel {
		return false
	}
	has := func(want, there []string) bool {
		return len(there) == 0 || !slices.ContainsFunc(want, func(x string) bool { return !slices.Contains(there, x) })
	}
	return has(vm.Pools, peer.Pools) && has(vm.Networks, peer.Networks)
}

// pressureLimit is the pressure of a digest up to which a peer is worth a
// probe: LOW, or what lies a whole band below this host's own. Where every host
// is under pressure, the least pressed one can still serve more of the demand.
func (r *planning) pressureLimit(need *Need) float64 {
	limit := r.p.Low
	if need.Drain {
		limit = r.p.High
	}
	return max(limit, r.d.Inputs.Pressure)
}

// refusedBy records refused destinations, bounded.
func (r *planning) refusedBy(refused []RefusedDestination) {
	r.d.RefusedKinds = map[Kind]int{}
	r.d.Refused = clipped(tallied(&r.d, refused), r.p.MaxRefused)
}

// against lists what gossip says against one peer for one VM.
func (r *planning) against(vm *VM, need *Need, peer *Peer) []Refusal {
	out := r.absent(peer)
	if len(out) > 0 {
		return out
	}
	p := r.p
	if limit := r.pressureLimit(need); peer.Pressure > limit && !r.h.askedFor(peer.ID, need.For) {
		out = append(out, refuse(RefuseCPU, "its digest shows a pressure of %.0f %%, above %.0f %%", 100*peer.Pressure, 100*limit))
	}
	if peer.Incoming >= p.MaxIncoming {
		out = append(out, refuse(RefuseConcurrency, "its digest shows %d of %d incoming moves", peer.Incoming, p.MaxIncoming))
	}
	out = append(out, provides(vm.CPUModel, peer.CPUModel, vm.Pools, peer.Pools, vm.Networks, peer.Networks, false)...)
	if pin := pinRefusal(vm.Policy.Pin, peer.ID, peer.Name); pin != nil {
		out = append(out, *pin)
	}
	if rule := hostRefusal(vm.Policy.Hosts, peer.ID, peer.Name); rule != nil {
		out = append(out, *rule)
	}
	if left := r.returnLeft(vm, peer.ID); left > 0 && !need.Drain {
		out = append(out, refuse(RefuseReturn, "left that host %s ago, may return in %s%s", round(r.now.Sub(vm.History.LastMoved)), round(left), r.sooner(vm)))
	}
	if rest, ok := r.st.rest(vm.ID, peer.ID); ok && rest.Host != "" {
		out = append(out, refuse(RefuseBackoff, "rests for %s: %s", round(rest.Until.Sub(r.now)), rest.Why))
	}
	return out
}

// absent lists what makes a peer no destination for any VM.
func (r *planning) absent(peer *Peer) []Refusal {
	p := r.p
	validFor := p.MaxDigestAge
	if peer.ValidFor > 0 {
		validFor = peer.ValidFor
	}
	var out []Refusal
	switch {
	case !peer.Alive:
		out = append(out, refuse(RefuseUnreachable, "not alive in this host's view"))
	case peer.Free == nil:
		out = append(out, refuse(RefuseMissingData, "no digest received from it"))
	case peer.DigestAge > validFor:
		out = append(out, refuse(RefuseStale, "its digest is %s old, at most %s is used", round(peer.DigestAge), validFor))
	}
	if peer.Draining {
		out = append(out, refuse(RefuseDraining, "being drained"))
	}
	if p.MaxRTT > 0 && peer.RTTKnown && peer.RTT > p.MaxRTT {
		out = append(out, refuse(RefuseDistance, "round trip %s is above %s", peer.RTT, p.MaxRTT))
	}
	return out
}

// slotsHold says whether free slots of one class together hold the need.
func slotsHold(free map[string]int, need *Need, classes []Class) bool {
	cpu := p90(need.CPU.Peak)
	return slices.ContainsFunc(classes, func(c Class) bool {
		n := float64(free[c.Name])
		return n > 0 && n*float64(c.VCPU) >= cpu-1e-9 && n*float64(c.Memory) >= float64(need.Memory)
	})
}
