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

// HerdConfig is a fleet of which some hosts become hot at once.
type HerdConfig struct {
	Seed        uint64
	Agents, Hot int
	// Scale is Config's: a cold host of 8 cores has room for one VM of a hot one, of
	// 16 for three.
	Scale       int
	MaxIncoming int // Config's
	// AtOnce takes the policy's jitter away: the hosts negotiate at the same instant.
	AtOnce bool
}

// Herd lets some hosts of a fleet become hot in the same moment, with nothing else
// going wrong, and watches them for three minutes: the policy is the default one,
// rounds are every ten seconds, at the same instant on every host.
func Herd(c HerdConfig) HerdResult {
	w := newWorld(Config{Seed: c.Seed, Agents: c.Agents, Hot: c.Hot, Scale: c.Scale, MaxIncoming: c.MaxIncoming, Calm: true})
	if c.AtOnce {
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
		if demand > (1+w.policy.MinGainShare)*float64(h.capacity.CPU) {
			r.StillHot++
		}
	}
	return r
}
