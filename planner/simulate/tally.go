package simulate

import (
	"math/rand/v2"
	"slices"
)

// returnWindow is how long a VM's return to the host that it left counts as
// ping-pong, s; helpWindow is how long a move is given to help.
const (
	returnWindow = 2 * 3600
	helpWindow   = 3600
)

// tally counts what a run did.
type tally struct {
	energy     float64 // J
	migrations int
	failed     int
	impossible int
	bytes      float64 // MiB
	blackout   float64 // s
	pingPongs  int
	unhelpful  int
	harmful    int

	faults Faults
	rng    *rand.Rand
}

// Faults are injected into a run; the zero value injects none. Shares are
// probabilities, 0..1. Lost gossip, dead hosts and wrong forecasts concern the
// policy headroom alone.
type Faults struct {
	FailedMigrations float64 // migrations that end where they began
	SlowMigrations   float64 // migrations that take four times as long
	LostGossip       float64 // digests that a round does not renew
	StaleOffers      float64 // answers to probes that come too late
	DeadAgents       float64 // hosts whose agent answers nobody and plans nothing
	WrongForecasts   float64 // relative error of every forecast, one sign per VM
}

const slowFactor = 4

func (t *tally) chance(p float64) bool { return p > 0 && t.rng.Float64() < p }

func (t *tally) slow() float64 {
	if t.chance(t.faults.SlowMigrations) {
		return slowFactor
	}
	return 1
}

func (t *tally) fails() bool { return t.chance(t.faults.FailedMigrations) }

func (t *tally) started(st *stage, f flight) {
	t.migrations++
	t.bytes += f.bytes
	if f.fails {
		t.failed++
	}
}

// landed judges a move by what is recorded of the hour after it.
func (t *tally) landed(st *stage, f flight) {
	g := &st.guests[f.vm]
	t.blackout += f.blackout
	if g.lastFrom == f.to && st.now-g.leftAt <= returnWindow {
		t.pingPongs++
	}
	if f.from < 0 {
		return
	}
	switch gain := st.avoided(f); {
	case gain < -1e-9:
		t.harmful++
		t.unhelpful++
	case gain <= 1e-9:
		t.unhelpful++
	}
}

// avoided is the unserved demand, in MIPS * s over the hour to come, that the
// move avoids at both hosts together, all other VMs staying where they are.
func (st *stage) avoided(f flight) float64 {
	from, to := &st.hosts[f.from], &st.hosts[f.to]
	x := &st.hour
	x.times = x.times[:0]
	for t := st.now; t < st.now+helpWindow; t += st.setup.Step {
		x.times = append(x.times, t)
	}
	gain := 0.0
	for kind := cores; kind < flows; kind++ {
		if kind != cores && !st.traffic {
			break
		}
		x.here, x.there, x.own = x.room(x.here), x.room(x.there), x.room(x.own)
		st.wanted(kind, from, f.vm, x.here)
		st.wanted(kind, to, f.vm, x.there)
		st.addHour(kind, &st.guests[f.vm], x.own)
		for k, u := range x.own {
			here, there := x.here[k], x.there[k]
			gain += from.excess(kind, here+u) + to.excess(kind, there) - from.excess(kind, here) - to.excess(kind, there+u)
		}
	}
	return gain * st.setup.Step
}

// cores stands beside the kinds of traffic for demand for CPU, MIPS.
const cores = -1

// excess is what h cannot serve of a demand for cores or of traffic, MIPS.
func (h *machine) excess(kind int, asked float64) float64 {
	if kind == cores {
		return max(0, asked-h.capacity)
	}
	return h.starved(kind, asked)
}

// hour is scratch space of avoided: the times of the hour to come in s, and
// demand in MIPS or MB/s at each, of either host without the VM and of the VM.
type hour struct{ times, here, there, own []float64 }

// room is x with a zero for every time.
func (h *hour) room(x []float64) []float64 {
	x = slices.Grow(x[:0], len(h.times))[:len(h.times)]
	clear(x)
	return x
}

// wanted adds the demand of the VMs of host h, without VM v, to sum.
func (st *stage) wanted(kind int, h *machine, v int, sum []float64) {
	for _, w := range h.vms {
		if g := &st.guests[w]; w != v && !h.receives(w) && !g.gone {
			st.addHour(kind, g, sum)
		}
	}
}

// addHour adds the demand of VM g in the hour to come to sum.
func (st *stage) addHour(kind int, g *guest, sum []float64) {
	demand, scale := g.Demand, g.MIPS
	if kind != cores {
		demand, scale = g.traffic(kind), 1
	}
	step := -1
	var from, to float64
	for k, t := range st.hour.times {
		if i := int(t / st.setup.Step); i != step {
			step = i
			from, to = ends(demand, i)
		}
		sum[k] += st.between(from, to, step, t) * scale
	}
}
