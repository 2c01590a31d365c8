package simulation

import "time"

// HerdResult is what many hot hosts do to a fleet at once.
type HerdResult struct {
	Asked, FirstRefusals int // attempts, and those whose first choice refused
	Moved                int
	Busiest              int // VMs that the busiest destination received
	StillHot             int // hosts that are above their cores at the end
	Violation            string
}

// Herd lets some hosts of a fleet become hot in the same moment, with nothing else
// going wrong, and watches them for three minutes: the policy is the default one,
// rounds are every ten seconds, at the same instant on every host. Without jitter
// the hosts also negotiate at the same instant, which the default policy avoids.
func Herd(seed uint64, agents, hot int, jitter bool) HerdResult {
	w := newWorld(Config{Seed: seed, Agents: agents, Hot: hot, Calm: true})
	if !jitter {
		w.policy.MaxJitter = 0
	}
	for _, h := range w.hosts {
		w.gossip(h)
		w.every(50*time.Second, 50*time.Second, func() { w.gossip(h) })
		w.every(2*time.Second, roundEvery, func() { w.round(h) })
	}
	w.run(3 * time.Minute)
	w.settle()
	r := HerdResult{Asked: w.stats.Asked, FirstRefusals: w.stats.FirstRefusals, Moved: w.stats.Moved, Violation: w.broken}
	received := map[int]int{}
	for _, vm := range w.vms {
		for _, m := range vm.moves {
			received[m.to]++
			r.Busiest = max(r.Busiest, received[m.to])
		}
	}
	for _, h := range w.hosts {
		demand := 0.0
		for v := range h.domains {
			demand += float64(w.vms[v].plan.NowCPU)
		}
		if demand > float64(h.capacity.CPU) {
			r.StillHot++
		}
	}
	return r
}
