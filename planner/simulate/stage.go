package simulate

import (
	"math"
	"slices"
	"sort"
)

const historyLength = 30 // samples that CloudSim keeps of each VM

// guest is the state of one VM.
type guest struct {
	*VM
	home   int // host that runs it; -1 none
	moving bool
	gone   bool // deleted by CloudSim's rule
	// req is what it asks for now, and cap what one host type can give it.
	req     float64
	history [historyLength]float64 // shares of MIPS, newest first
	samples int
	// from and to are the demand at both ends of step segment, the one that the
	// last update lay in.
	segment  int
	from, to float64
	asks     [flows]float64 // MB/s
	// shares is history as a share of a host's capacity, per class of capacity.
	shares [][historyLength]float64

	sla      vmLedger
	lastFrom int
	leftAt   float64
}

// machine is the state of one host.
type machine struct {
	*Host
	capacity float64 // MIPS
	class    int     // index of the capacity among the different ones
	vms      []int   // those that run here and those on their way in, in order of arrival
	incoming []int
	util     float64 // MIPS in use, as CloudSim counts them
	before   float64 // util at the update before

	sla hostLedger
	sums
}

// sums are what follows from machine.vms alone; settle brings them up to date.
type sums struct {
	requested float64
	used      float64 // MIPS granted
	free      float64 // MIPS not asked for
	memory    float64 // MiB allocated
	history   [historyLength]float64
	length    int // of history up to the last value that is not zero
}

// stage holds all state of a run.
type stage struct {
	setup   *Setup
	guests  []guest
	hosts   []machine
	classes []float64 // the different capacities, MIPS
	now     float64   // s
	tick    int       // index of the current step
	flights []flight
	warming bool // nothing moves yet, nothing counts
	traffic bool // hosts have limits for it
	log     tally
	hour    hour
}

func newStage(s *Setup) *stage {
	st := &stage{setup: s, warming: s.Warmup > 0, traffic: s.hasTraffic(), guests: make([]guest, len(s.VMs)), hosts: make([]machine, len(s.Hosts))}
	for i := range s.Hosts {
		h := &s.Hosts[i]
		m := machine{Host: h, capacity: float64(h.PEs) * h.MIPS}
		if m.class = slices.Index(st.classes, m.capacity); m.class < 0 {
			m.class = len(st.classes)
			st.classes = append(st.classes, m.capacity)
		}
		st.hosts[i] = m
		st.settle(i)
	}
	for i := range s.VMs {
		v := &s.VMs[i]
		st.guests[i] = guest{VM: v, home: -1, lastFrom: -1, segment: -1, req: v.MIPS, shares: make([][historyLength]float64, len(st.classes))}
	}
	return st
}

// demand is the share of its MIPS that VM g wants at time t, linear between steps.
func (st *stage) demand(g *guest, t float64) float64 {
	i := int(t / st.setup.Step)
	from, to := ends(g.Demand, i)
	return st.between(from, to, i, t)
}

// off says that nothing is recorded of VM v at time t: it was not running.
func (st *stage) off(v int, t float64) bool {
	u := st.guests[v].Demand[min(int(t/st.setup.Step), st.setup.Steps-1)]
	return u != u
}

// ends is the demand at both ends of step i; after the trace it stays the last.
// What is not recorded at all is none.
func ends(demand []float32, i int) (from, to float64) {
	last := len(demand) - 1
	switch {
	case last < 0:
		return 0, 0
	case i >= last:
		u := known(demand[last])
		return u, u
	}
	return known(demand[i]), known(demand[i+1])
}

func (st *stage) between(from, to float64, i int, t float64) float64 {
	if from == to {
		return from
	}
	return from + (to-from)/st.setup.Step*(t-float64(i)*st.setup.Step)
}

// known reads a value of demand; what was not recorded asks for nothing.
func known(u float32) float64 {
	if u != u {
		return 0
	}
	// PlanetLab's percent are exact in two digits, and float32 is not.
	x := float64(u) * 1e6
	if x >= 1<<52 {
		return x / 1e6
	}
	whole := float64(int64(x)) // math.Round, for what is not negative
	if x-whole >= 0.5 {
		whole++
	}
	return whole / 1e6
}

// update brings demand, allocation, energy and ledgers to time t.
func (st *stage) update(t float64, sample bool) {
	step := int(t / st.setup.Step)
	for i := range st.guests {
		g := &st.guests[i]
		if g.gone {
			continue
		}
		if g.segment != step {
			g.segment = step
			g.from, g.to = ends(g.Demand, step)
		}
		u := st.between(g.from, g.to, step, t)
		g.req = u * g.MIPS
		if st.traffic {
			for f := range flows {
				g.asks[f] = st.trafficAt(g, f, t)
			}
		}
		if sample {
			g.remember(u, st.classes)
		}
	}
	dt := t - st.now
	for i := range st.hosts {
		st.share(i, t)
		h := &st.hosts[i]
		if dt > 0 {
			st.log.energy += h.Power.energy(h.use(h.before), h.use(h.util), dt)
		}
	}
	if !st.setup.KeepIdle {
		st.deleteIdle()
	}
	st.now = t
}

// pass brings the time alone to t: demand and allocation stay as they are.
func (st *stage) pass(t float64) {
	for i := range st.hosts {
		h := &st.hosts[i]
		u := h.use(h.util)
		st.log.energy += h.Power.energy(u, u, t-st.now)
	}
	st.now = t
}

func (g *guest) remember(u float64, classes []float64) {
	copy(g.history[1:], g.history[:historyLength-1])
	g.history[0] = u
	g.samples = min(historyLength, g.samples+1)
	for c, capacity := range classes {
		shares := &g.shares[c]
		copy(shares[1:], shares[:historyLength-1])
		shares[0] = u * g.MIPS / capacity
	}
}

// use is utilisation as a share; CloudSim forgives 1 % of excess.
func (h *machine) use(mips float64) float64 {
	u := mips / h.capacity
	if u > 1 && u < 1.01 {
		return 1
	}
	return u
}

// limit is what VM g can get from one host at most: a core per virtual CPU.
func (h *machine) limit(g *guest) float64 {
	return math.Min(g.req, float64(g.VCPUs)*h.MIPS)
}

// share divides host i's capacity among its VMs, in proportion to requests when
// they exceed it (CloudSim's VmSchedulerTimeSharedOverSubscription).
func (st *stage) share(i int, t float64) {
	h := &st.hosts[i]
	h.before = h.util
	if len(h.vms) == 0 && h.util == 0 && !h.sla.last.active && h.sla.started {
		return
	}
	free, total, over := h.capacity, 0.0, false
	for _, v := range h.vms {
		want := h.limit(&st.guests[v])
		if h.receives(v) {
			want *= 0.1
		}
		total += want
		if free >= want {
			free -= want
		} else {
			over = true
		}
	}
	scale := 1.0
	if over {
		scale = h.capacity / total
	}
	h.util = 0
	requested, unserved := 0.0, 0.0
	for _, v := range h.vms {
		g := &st.guests[v]
		got, in := h.grant(g, v, scale, over)
		requested += g.req
		if !in {
			g.sla.enter(t, entry{allocated: got, requested: g.req, active: g.moving})
			unserved += g.req - h.limit(g)
			if g.moving {
				got /= 0.9
			}
		}
		h.util += got
	}
	starved := st.starvation(h)
	unserved += math.Max(0, total-h.capacity) + starved
	h.sla.enter(t, entry{allocated: h.util, requested: requested, active: h.util > 0, unserved: unserved, starved: starved})
}

// grant is what VM v gets now, and whether it is only on its way in.
func (h *machine) grant(g *guest, v int, scale float64, over bool) (got float64, in bool) {
	got, in = h.limit(g), h.receives(v)
	if in {
		got *= 0.1
	}
	if over {
		got *= scale
	}
	if g.moving && !in {
		got *= 0.9
	}
	if over {
		got = math.Floor(got)
	}
	return got, in
}

func (h *machine) receives(v int) bool { return len(h.incoming) > 0 && slices.Contains(h.incoming, v) }

// deleteIdle removes VMs that want nothing, as CloudSim does.
func (st *stage) deleteIdle() {
	for i := range st.hosts {
		h := &st.hosts[i]
		idle := func(v int) bool {
			g := &st.guests[v]
			if g.moving || g.req != 0 {
				return false
			}
			g.gone, g.home = true, -1
			return true
		}
		if n := len(h.vms); n > 0 {
			if h.vms = slices.DeleteFunc(h.vms, idle); len(h.vms) < n {
				st.settle(i)
			}
		}
	}
}

// settle computes the sums of host i from its list of VMs.
func (st *stage) settle(i int) {
	h := &st.hosts[i]
	h.sums = sums{free: h.capacity}
	for _, v := range h.vms {
		g := &st.guests[v]
		h.sums.count(h, g, h.receives(v))
	}
}

// count adds VM g, the last of h's list, to the sums.
func (s *sums) count(h *machine, g *guest, in bool) {
	s.requested += g.req
	want := h.limit(g)
	if in {
		want *= 0.1
	}
	s.used += want
	s.free = math.Max(0, s.free-want)
	s.memory += g.Memory
	shares := &g.shares[h.class]
	for k := range g.samples {
		s.history[k] += shares[k]
		if s.history[k] != 0 && k >= s.length {
			s.length = k + 1
		}
	}
}

func (st *stage) settleAll() {
	for i := range st.hosts {
		if len(st.hosts[i].vms) > 0 || st.hosts[i].requested > 0 || st.hosts[i].memory > 0 {
			st.settle(i)
		}
	}
}

// memoryFits says whether VM v fits into host i's memory.
func (st *stage) memoryFits(i, v int) bool {
	h := &st.hosts[i]
	return !st.setup.EnforceMemory || h.memory+st.guests[v].Memory <= h.Memory
}

func sortStable(xs []int, less func(a, b int) bool) {
	sort.SliceStable(xs, func(i, j int) bool { return less(xs[i], xs[j]) })
}
