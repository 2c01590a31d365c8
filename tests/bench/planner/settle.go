package main

import (
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"headroom/planner"
)

// The rounds of settle: agents plan every roundEvery; a plan ends after quietRounds
// in which nothing moved, since probes are drawn at random and refused pairs rest,
// or after maxRounds.
const (
	roundEvery  = 2 * time.Minute
	quietRounds = 10
	maxRounds   = 120
)

// settle plays rounds of all hosts, in an order drawn anew each time, until
// nothing moves any more. Forecasts stay as they are, clock, cool-downs and
// back-offs go on, a host starts and receives at most as many moves in a round
// as the policy allows, and moves are over by the next.
func settle(hosts []planner.Host, p planner.Policy, rng *rand.Rand) outcome {
	s := settling{hosts: hosts, p: p, rng: rng, states: make([]planner.State, len(hosts)), index: map[planner.HostID]int{}}
	for i := range hosts {
		s.index[hosts[i].ID] = i
	}
	began := processorTime()
	s.peers = peersOf(hosts, p)
	var out outcome
	for quiet := 0; quiet < quietRounds && out.rounds < maxRounds; out.rounds++ {
		moved := s.round(epoch.Add(time.Duration(out.rounds) * roundEvery))
		out.moves += moved
		if quiet++; moved > 0 {
			quiet = 0
		}
	}
	out.took = (processorTime() - began).Seconds()
	out.residual = residual(hosts, p)
	return out
}

// settling is the state of settle.
type settling struct {
	hosts  []planner.Host
	p      planner.Policy
	rng    *rand.Rand
	states []planner.State
	peers  []planner.Peer
	index  map[planner.HostID]int
	under  []move // moves of the round
}

type move struct {
	vm       planner.VM
	from, to int
}

// round lets every host plan once, lands what moves, and says how many did.
func (s *settling) round(at time.Time) int {
	s.under = s.under[:0]
	for _, i := range s.rng.Perm(len(s.hosts)) {
		h := &s.hosts[i]
		d, next := planner.Decide(at, *h, s.peers, s.states[i], s.p, s.rng)
		if d.Action == planner.ActionMove {
			next = s.negotiate(at, i, &d, next)
		}
		s.states[i] = next
	}
	for _, m := range s.under {
		from, to := &s.hosts[m.from], &s.hosts[m.to]
		from.Outgoing, to.Incoming = nil, nil
		transfer(from, to, m.vm.Name)
		history := &to.VMs[len(to.VMs)-1].History
		history.Moves = append(slices.Clone(history.Moves), at)
		history.LastMoved, history.LastFrom = at, from.ID
	}
	for _, m := range s.under {
		s.peers[m.from], s.peers[m.to] = digest(&s.hosts[m.from], s.p), digest(&s.hosts[m.to], s.p)
	}
	return len(s.under)
}

// negotiate probes the candidates of host i's decision and begins the move, if
// one accepts.
func (s *settling) negotiate(at time.Time, i int, d *planner.Decision, st planner.State) planner.State {
	h := &s.hosts[i]
	vm := h.VMs[slices.IndexFunc(h.VMs, func(v planner.VM) bool { return v.ID == d.VM })]
	var offers []planner.Offer
	for _, id := range d.Candidates {
		offers = append(offers, planner.MakeOffer(at, s.hosts[s.index[id]], *d.Need, s.p))
	}
	to, _, refused := planner.Choose(vm, *h, offers, s.p)
	if to == "" {
		return st.NoteRefused(at, d.VM, refused, s.p)
	}
	j := s.index[to]
	h.Outgoing = append(h.Outgoing, d.VM)
	s.hosts[j].Incoming = append(s.hosts[j].Incoming, planner.Incoming{Need: *d.Need})
	s.under = append(s.under, move{vm: vm, from: i, to: j})
	return st.NoteStarted()
}

// transfer moves the VM of a name from one host to the end of another's list.
func transfer(from, to *planner.Host, name string) {
	at := slices.IndexFunc(from.VMs, func(v planner.VM) bool { return v.Name == name })
	vm := from.VMs[at]
	from.VMs = slices.Delete(from.VMs, at, at+1)
	to.VMs = append(to.VMs, vm)
}

// copied are hosts whose lists of VMs are their own.
func copied(hosts []planner.Host) []planner.Host {
	out := slices.Clone(hosts)
	for i := range out {
		out[i].VMs = slices.Clone(out[i].VMs)
	}
	return out
}

// residual is the demand expected to wait within an hour on all hosts, core-s.
func residual(hosts []planner.Host, p planner.Policy) float64 {
	sum := 0.0
	for i := range hosts {
		sum += unserved(&hosts[i], p)
	}
	return sum
}

// unserved is the demand expected to wait within an hour on one host, core-s.
func unserved(h *planner.Host, p planner.Policy) float64 {
	d, _ := planner.Decide(epoch, *h, nil, planner.State{}, p, rand.New(rand.NewPCG(1, 1)))
	return float64(d.Inputs.Unserved)
}

// processorTime is what all threads of this process have used until now, those of
// the garbage collector included.
func processorTime() time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		return 0
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
