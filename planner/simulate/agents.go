package simulate

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"headroom/planner"
)

// agents is the policy headroom: on every host a planner, fed as the agent feeds
// it, with forecasts of package predict. Nothing in it knows more than an agent
// would: demand up to now, digests of the other hosts, answers to its probes.
type agents struct {
	o       Options
	policy  planner.Policy
	rng     *rand.Rand
	epoch   time.Time
	perStep int // rounds

	forecasters *forecasters
	errors      []float64 // relative error injected into each VM's forecasts
	vms         []planner.VM
	hosts       []agent
	peers       []planner.Peer
	stale       []bool // hosts whose digest is older than their state
}

// agent is what one host's agent remembers.
type agent struct {
	host    planner.Host
	state   planner.State
	dead    bool
	again   bool // its next round may decide otherwise before the next sample does
	attempt map[planner.VMID]planner.Decision
	rng     *rand.Rand
	wants   plan
}

// plan is what an agent decides in one round, and its state after it.
type plan struct {
	decision planner.Decision
	state    planner.State
	outdated bool // its host has granted a move since
}

// roundEvery is how often an agent plans by default, s. Between two samples only those
// plan again that wanted a move and found no peer for it, or whose VMs have changed.
const roundEvery = 10

// horizon is how far agents forecast, in steps.
const horizon = 12

func newAgents(o Options) policy {
	return &agents{o: o, rng: rand.New(rand.NewPCG(o.Seed, 0xa9e2)), epoch: time.Date(2011, 3, 3, 0, 0, 0, 0, time.UTC)}
}

// SimulatedPolicy is the planner's policy in simulations: the defaults, in mode
// auto, without the delay before a probe, over the bandwidth of the hosts.
func SimulatedPolicy(bandwidth float64) planner.Policy {
	p := planner.DefaultPolicy()
	p.Mode = planner.ModeAuto
	p.MaxJitter = 0
	// A sample of five minutes is the mean of what an agent would have seen in
	// many rounds: pressure in one has held.
	p.Hold, p.Window = 1, 1
	p.Bandwidth = planner.BytesPerSecond(bandwidth * (1 << 20))
	// Four GiB a core, the shape of the traces' VMs: a class of another shape
	// counts slots that such a VM cannot use.
	p.Classes = []planner.Class{
		{Name: "small", VCPU: 0.25, Memory: 1024},
		{Name: "medium", VCPU: 1, Memory: 4096},
		{Name: "large", VCPU: 2, Memory: 8192},
		{Name: "xlarge", VCPU: 4, Memory: 16384},
	}
	return p
}

func (a *agents) rounds() int { return a.perStep }

// begin makes the agents once the stage is known.
func (a *agents) begin(st *stage) error {
	a.policy = SimulatedPolicy(st.setup.Hosts[0].Bandwidth)
	step := time.Duration(st.setup.Step * float64(time.Second))
	a.perStep = substeps * max(1, int(math.Round(st.setup.Step/substeps/roundEvery)))
	var err error
	if a.forecasters, err = newForecasters(st); err != nil {
		return err
	}
	a.errors = make([]float64, len(st.guests))
	for v := range st.guests {
		g := &st.guests[v]
		a.vms = append(a.vms, planner.VM{
			ID: planner.VMID(strconv.Itoa(v)), Name: g.ID, VCPUs: g.VCPUs, Memory: planner.MiB(g.Memory), Measured: true, Guarded: true,
			DirtyRate: planner.BytesPerSecond(st.setup.DirtyShare * g.Memory * (1 << 20)), HasDirtyRate: true,
		})
		if e := a.o.Faults.WrongForecasts; e > 0 {
			a.errors[v] = e * (2*a.rng.Float64() - 1)
		}
	}
	for i := range st.hosts {
		h := &st.hosts[i]
		a.hosts = append(a.hosts, agent{
			dead:    a.o.Faults.DeadAgents > 0 && a.rng.Float64() < a.o.Faults.DeadAgents,
			attempt: map[planner.VMID]planner.Decision{},
			rng:     rand.New(rand.NewPCG(a.o.Seed, 0xa9e3+uint64(i))),
			host: planner.Host{
				ID: planner.HostID(strconv.Itoa(i)), Name: h.ID, Complete: true, View: planner.View{Stable: true}, Horizon: step * horizon,
				Carries:  planner.Traffic{Disk: planner.BytesPerSecond(1e6 * h.Disk), Network: planner.BytesPerSecond(1e6 * h.Network)},
				Capacity: planner.Capacity{CPU: planner.Cores(h.capacity / st.setup.CoreMIPS), Memory: planner.MiB(h.Memory)},
			},
		})
	}
	a.peers = make([]planner.Peer, len(a.hosts))
	a.stale = make([]bool, len(a.hosts))
	return nil
}

// waits says that nobody would decide anew, and that all digests have arrived.
func (a *agents) waits() bool {
	for i := range a.hosts {
		if a.stale[i] || a.hosts[i].due(false) {
			return false
		}
	}
	return true
}

func (a *agents) round(st *stage, sample bool) []Move {
	if sample {
		a.observe(st)
		for i := range a.hosts {
			a.refresh(st, i)
		}
	}
	a.gossip()
	if st.warming {
		return nil
	}
	at := a.epoch.Add(time.Duration(st.now * float64(time.Second)))
	var due []int
	for _, i := range a.rng.Perm(len(a.hosts)) {
		if a.hosts[i].due(sample) {
			due = append(due, i)
		}
	}
	a.o.Each(len(due), func(k int) { a.hosts[due[k]].decide(at, a) })
	var moves []Move
	for _, i := range due {
		x := &a.hosts[i]
		if x.wants.outdated {
			x.decide(at, a)
		}
		x.state = x.wants.state
		d := x.wants.decision
		x.again = d.Action == planner.ActionMove || d.Action == planner.ActionStuck
		if d.Action == planner.ActionMove {
			moves = a.negotiate(at, i, d, moves)
		}
	}
	return moves
}

// due says that the agent plans in this round.
func (x *agent) due(sample bool) bool {
	return !x.dead && len(x.host.VMs) > 0 && (sample || x.again)
}

// decide plans for the agent's own host. It touches nothing that another agent sees.
func (x *agent) decide(at time.Time, a *agents) {
	x.wants = plan{}
	x.host.Wanted = planner.FreshWanted(x.host.Wanted, at, a.policy)
	x.wants.decision, x.wants.state = planner.Decide(at, x.host, a.peers, x.state, a.policy, x.rng)
}

// observe makes every VM what its agent knows of it after this step's sample.
func (a *agents) observe(st *stage) {
	a.forecasters.observe(st, a.o.Each)
	for v := range a.vms {
		g, vm, seen := &st.guests[v], &a.vms[v], a.forecasters.at(v)
		vm.CPU, vm.Disk, vm.Network = seen.cpu, seen.disk, seen.network
		vm.NowCPU = planner.Cores(g.req / st.setup.CoreMIPS)
		if g.Resident != nil {
			vm.Resident = planner.MiB(math.Max(1, float64(g.Resident[min(st.tick, len(g.Resident)-1)])))
			vm.DirtyRate = planner.BytesPerSecond(st.setup.DirtyShare * float64(vm.Resident) * (1 << 20))
		}
		if e := a.errors[v]; e != 0 {
			distort(&vm.CPU, 1+e)
			distort(&vm.Disk, 1+e)
			distort(&vm.Network, 1+e)
		}
	}
}

// refresh rebuilds what host i's agent sees of its VMs.
func (a *agents) refresh(st *stage, i int) {
	h, m := &a.hosts[i].host, &st.hosts[i]
	h.VMs = h.VMs[:0:0]
	h.Reserve.Memory = 0
	for _, v := range m.vms {
		switch {
		case m.receives(v):
		case st.off(v, st.now): // no VM to its agent; its memory is kept for its start
			h.Reserve.Memory += a.vms[v].Memory
		default:
			h.VMs = append(h.VMs, a.vms[v])
		}
	}
	a.hosts[i].again = true
	slices.SortFunc(h.VMs, func(x, y planner.VM) int {
		if x.ID < y.ID {
			return -1
		}
		return 1
	})
	a.stale[i] = true
}

// gossip renews the digests of hosts that changed.
func (a *agents) gossip() {
	var due []int
	for i := range a.hosts {
		lost := a.o.Faults.LostGossip > 0 && a.peers[i].ID != "" && a.rng.Float64() < a.o.Faults.LostGossip
		if a.stale[i] && !lost {
			due = append(due, i)
		}
	}
	a.o.Each(len(due), func(k int) {
		i := due[k]
		a.stale[i] = false
		a.peers[i] = a.digest(i)
	})
}

// digest is what host i would gossip now.
func (a *agents) digest(i int) planner.Peer {
	h := &a.hosts[i].host
	p := planner.Peer{ID: h.ID, Name: h.Name, Alive: !a.hosts[i].dead, Free: map[string]int{}, Incoming: len(h.Incoming), Pressure: planner.HostPressure(*h)}
	for _, s := range planner.Slots(*h, a.policy.Classes, a.policy.SlotProbability, a.epoch) {
		p.Free[s.Class] = s.Free
	}
	if math.IsNaN(p.Pressure) {
		p.Pressure = 2.55 // as much as a digest can say
	}
	return p
}

// negotiate probes the candidates of one decision and starts the move if one
// of them accepts.
func (a *agents) negotiate(at time.Time, i int, d planner.Decision, moves []Move) []Move {
	x := &a.hosts[i]
	v, _ := strconv.Atoi(string(d.VM))
	vm := x.host.VMs[slices.IndexFunc(x.host.VMs, func(w planner.VM) bool { return w.ID == d.VM })]
	var offers []planner.Offer
	for _, id := range d.Candidates {
		j, _ := strconv.Atoi(string(id))
		if a.hosts[j].dead {
			continue
		}
		y := &a.hosts[j].host
		offer := planner.MakeOffer(at, *y, *d.Need, a.policy)
		y.Wanted = planner.NoteWanted(y.Wanted, at, *d.Need, offer, a.policy)
		if a.o.Faults.StaleOffers > 0 && a.rng.Float64() < a.o.Faults.StaleOffers {
			offer.Age = 2 * a.policy.MaxOfferAge
		}
		offers = append(offers, offer)
	}
	to, e, refused := planner.Choose(vm, x.host, offers, a.policy)
	d = d.Conclude(to, e, refused, a.policy)
	if to == "" {
		x.state = x.state.NoteRefused(at, d.VM, refused, a.policy)
		return moves
	}
	j, _ := strconv.Atoi(string(to))
	x.state = x.state.NoteStarted()
	x.host.Outgoing = append(slices.Clone(x.host.Outgoing), d.VM)
	x.attempt[d.VM] = d
	y := &a.hosts[j].host
	y.Incoming = append(slices.Clone(y.Incoming), planner.Incoming{Need: *d.Need})
	a.stale[j], a.hosts[j].wants.outdated = true, true
	return append(moves, Move{VM: v, To: j})
}

// landed tells the agents of both hosts that a move has ended.
func (a *agents) landed(st *stage, f flight) {
	at := a.epoch.Add(time.Duration(st.now * float64(time.Second)))
	id := a.vms[f.vm].ID
	src, dst := &a.hosts[f.from], &a.hosts[f.to]
	src.host.Outgoing = slices.DeleteFunc(slices.Clone(src.host.Outgoing), func(v planner.VMID) bool { return v == id })
	dst.host.Incoming = slices.DeleteFunc(slices.Clone(dst.host.Incoming), func(in planner.Incoming) bool { return in.Need.VM == id })
	d := src.attempt[id]
	delete(src.attempt, id)
	r := planner.MigrationResult{At: at, VM: id, To: dst.host.ID, OK: !f.fails, Bytes: uint64(f.bytes * (1 << 20)),
		CopyTime: seconds(f.end - f.started), Blackout: seconds(f.blackout)}
	if d.Evaluation != nil {
		r.PredictedCopyTime, r.PredictedBlackout = d.Evaluation.Cost.CopyTime, d.Evaluation.Cost.Blackout
	}
	if f.fails {
		r.Why = "injected failure"
	} else {
		h := &a.vms[f.vm].History
		h.Moves = append(slices.DeleteFunc(slices.Clone(h.Moves), func(t time.Time) bool { return at.Sub(t) > 24*time.Hour }), at)
		h.LastMoved, h.LastFrom = at, src.host.ID
	}
	if f.end > f.started { // else it never began, and teaches nothing
		src.host.Learned = src.host.Learned.Note(r)
	}
	a.refresh(st, f.from)
	a.refresh(st, f.to)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
