package simulate

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
)

// Options of a run.
type Options struct {
	Policy string // see Policies
	Seed   uint64
	Faults Faults
	// Each calls do(0) .. do(n-1), in any order and, if it likes, at the same
	// time; nil does so one after the other. The result does not depend on it.
	Each func(n int, do func(i int))
	// Progress is told of every step.
	Progress func(done, of int)
	// Sample is told of every step that counts, in order, once it is over.
	Sample func(Sample)
}

// Sample is what a run has come to at the end of one step.
type Sample struct {
	Step       int     // index, from 0; steps of the warm-up are left out
	At         float64 // s since the beginning of the trace
	Contention float64 // core-seconds that hosts could not serve until now
	Migrations int     // begun until now
}

// ErrPolicy is returned for a policy that is not known.
var ErrPolicy = errors.New("unknown policy")

// policy decides which VMs move.
type policy interface {
	// rounds is how often within a step it is asked, 1 or more.
	rounds() int
	// round returns the moves to start now; sample says that demand was sampled.
	round(st *stage, sample bool) []Move
}

// watcher is a policy that is told of finished moves.
type watcher interface {
	landed(st *stage, f flight)
}

// Policies are the names that Options.Policy takes; those with a parameter
// accept another one, as in thr-mmt-0.9.
func Policies() []string {
	return []string{"none", "thr-mmt-0.8", "iqr-mmt-1.5", "mad-mmt-2.5", "lr-mmt-1.2", "thr-mc-0.8", "iqr-mc-1.5", "mad-mc-2.5",
		"lr-mc-1.2", "reactive", "sandpiper", "n-sigma", "headroom", "oracle"}
}

// newPolicy makes the policy of a name.
func newPolicy(o Options) (policy, error) {
	name := strings.ToLower(o.Policy)
	switch name {
	case "none", "dvfs":
		return idle{}, nil
	case "reactive":
		return newReactive(), nil
	case "sandpiper":
		return newSandpiper(), nil
	case "n-sigma":
		return newNSigma(), nil
	case "oracle":
		return newOracle(), nil
	case "headroom":
		return newAgents(o), nil
	}
	return newConsolidator(name)
}

// beginner is a policy that needs to see the stage before the first step.
type beginner interface {
	begin(st *stage) error
}

// waiter is a policy that may have nothing to do in a round between two changes of
// demand.
type waiter interface {
	waits() bool
}

// idle moves nothing.
type idle struct{}

func (idle) rounds() int               { return 1 }
func (idle) round(*stage, bool) []Move { return nil }

// Run replays the setup under one policy.
func Run(s Setup, o Options) (Result, error) {
	if o.Each == nil {
		o.Each = serial
	}
	p, err := newPolicy(o)
	if err == nil {
		err = s.check()
	}
	if err != nil {
		return Result{}, fmt.Errorf("simulate: %w", err)
	}
	st := newStage(&s)
	st.log.faults, st.log.rng = o.Faults, rand.New(rand.NewPCG(o.Seed, 0x51c0))
	if err := st.place(p); err != nil {
		return Result{}, fmt.Errorf("simulate: %w", err)
	}
	if b, ok := p.(beginner); ok {
		if err := b.begin(st); err != nil {
			return Result{}, fmt.Errorf("simulate: %w", err)
		}
	}
	st.play(p, o)
	return st.result(o), nil
}

func serial(n int, do func(i int)) {
	for i := range n {
		do(i)
	}
}

// substeps is how often within a step demand is brought up to date, whatever
// the policy: its contention must not depend on how often it is asked.
const substeps = 5

// play runs all steps. The first is at one step after the start, the last ends
// with the trace.
func (st *stage) play(p policy, o Options) {
	end := st.setup.Step * float64(st.setup.Steps)
	first := 0.0
	n := max(substeps, p.rounds())
	if st.setup.PublishedClock {
		first, n = 0.1, p.rounds()
	}
	for t := first + st.setup.Step; t < end; t += st.setup.Step {
		st.tick = min(st.setup.Steps-1, int(t/st.setup.Step))
		if st.tick >= st.setup.Warmup && st.warming {
			st.warming = false
			st.land(t, p)
			st.update(t, false)
			st.reset()
		}
		st.step(p, t, n, end)
		if o.Sample != nil && !st.warming {
			o.Sample(Sample{Step: st.tick - st.setup.Warmup, At: math.Min(end, t+st.setup.Step), Contention: st.contention(math.Min(end, t+st.setup.Step)), Migrations: st.log.migrations})
		}
		if o.Progress != nil {
			o.Progress(st.tick, st.setup.Steps-1)
		}
	}
	st.land(math.Nextafter(end, 0), p)
}

// step plays the step from t to the next, or to the end, in n parts, a multiple of
// substeps or fewer than that: demand changes at each substep alone.
func (st *stage) step(p policy, t float64, n int, end float64) {
	every := max(1, n/substeps)
	for r := range n {
		at := t + float64(r)*st.setup.Step/float64(n)
		if at >= end {
			return
		}
		st.land(at, p)
		if r%every > 0 {
			if w, ok := p.(waiter); ok && w.waits() {
				continue
			}
			st.pass(at)
		} else {
			st.update(at, r == 0 && st.sampled(at))
			if r > 0 && p.rounds() == 1 {
				continue // nobody looks at sums
			}
			st.settleAll()
		}
		for _, m := range p.round(st, r == 0) {
			if !st.warming {
				st.begin(m, p)
			}
		}
	}
}

// contention is what hosts could not serve until t, in core-seconds, if demand
// stays until then as it was at the last update.
func (st *stage) contention(t float64) float64 {
	sum := 0.0
	for i := range st.hosts {
		l := &st.hosts[i].sla
		sum += l.unserved + l.last.unserved*(t-l.at)
	}
	return sum / st.setup.CoreMIPS
}

// begin starts a move, and tells the policy when it could not.
func (st *stage) begin(m Move, p policy) {
	if w, ok := p.(watcher); !st.start(m) && ok {
		w.landed(st, flight{vm: m.VM, from: st.guests[m.VM].home, to: m.To, started: st.now, end: st.now, fails: true})
	}
}

// sampled says whether a VM's history takes a value at t: with CloudSim's clock
// only when the rounding of its additions lets it.
func (st *stage) sampled(t float64) bool {
	return !st.setup.PublishedClock || math.Mod(t-0.1, st.setup.Step) == 0
}

// place puts every VM on its first host.
func (st *stage) place(p policy) error {
	for v := range st.guests {
		to := -1
		if st.setup.Start != nil {
			to = st.setup.Start[v]
		} else {
			to = st.firstHost(p, v)
		}
		if to < 0 {
			return fmt.Errorf("VM %s fits on none of %d hosts", st.guests[v].ID, len(st.hosts))
		}
		h := &st.hosts[to]
		h.vms = append(h.vms, v)
		st.guests[v].home = to
		st.settle(to)
		// A VM holds all its MIPS from its creation on, but asks for nothing yet:
		// that is what a detector sees at the start.
		h.requested = 0
	}
	return nil
}

// firstHost is CloudSim's start: where a consolidating policy would put the VM
// with all that it may ask for, and the first host that fits for the others.
func (st *stage) firstHost(p policy, v int) int {
	if c, ok := p.(*consolidator); ok {
		c.afresh(st)
		return c.host(st, v, true)
	}
	g := &st.guests[v]
	for i := range st.hosts {
		if h := &st.hosts[i]; h.suits(g) && h.memory+g.Memory <= h.Memory {
			return i
		}
	}
	return -1
}

// suits says whether the host has the MIPS for g now.
func (h *machine) suits(g *guest) bool {
	return h.MIPS*float64(g.VCPUs) >= g.req && h.free >= g.req
}
