package negotiate_test

import (
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"testing"

	"headroom/planner/negotiate"
	"headroom/tests/model"
)

// simulate walks one world at random: faults for a while, then none, until all
// hand-overs are over. It returns what went wrong, or "".
func simulate(cfg model.Config, seed int64) string {
	rng := rand.New(rand.NewSource(seed))
	w := model.New(cfg, uint64(seed))
	var actions []model.Action
	for range 150 + rng.Intn(250) {
		actions = w.Actions(actions[:0])
		if len(actions) == 0 {
			break
		}
		a := pick(rng, actions, 0.2)
		if points := w.CrashPoints(a, nil); len(points) > 0 && rng.Float64() < 0.05 {
			a = points[rng.Intn(len(points))]
		}
		if broken := w.Do(a); broken != "" {
			return broken
		}
	}
	// Losing what is under way is the last fault.
	for range rng.Intn(3) {
		if n := len(w.Net); n > 0 {
			i := rng.Intn(n)
			w.Net = append(w.Net[:i], w.Net[i+1:]...)
		}
	}
	why := ""
	for range 3000 {
		settled := false
		if settled, why = w.Settled(); settled {
			return ""
		}
		actions = w.Actions(actions[:0])
		a := pick(rng, actions, 0)
		if broken := w.Do(a); broken != "" {
			return broken
		}
	}
	return "Settles: " + why
}

// pick prefers the world going on; a fault or a new attempt comes with the given
// probability, and timers seldom, as their durations are long.
func pick(rng *rand.Rand, actions []model.Action, unusual float64) model.Action {
	var rare, timers, usual []model.Action
	for _, a := range actions {
		switch {
		case a.Fault() || a.Begins():
			rare = append(rare, a)
		case a.Op == model.Fire:
			timers = append(timers, a)
		default:
			usual = append(usual, a)
		}
	}
	switch {
	case len(rare) > 0 && rng.Float64() < unusual:
		return rare[rng.Intn(len(rare))]
	case len(usual) > 0 && (len(timers) == 0 || rng.Float64() < 0.85):
		return usual[rng.Intn(len(usual))]
	case len(timers) > 0:
		return timers[rng.Intn(len(timers))]
	case len(rare) > 0:
		return rare[rng.Intn(len(rare))]
	}
	return actions[0]
}

func simulatedWorld(mutant model.Mutant, seed int64) model.Config {
	cfg := model.Config{
		Hosts: 3, VMs: 3, Capacity: 2,
		Guards: []negotiate.Guard{negotiate.GuardPaused, negotiate.GuardLock},
		Mutant: mutant,
		Budget: model.Budget{Attempts: 12, Duplicates: 8, Cuts: 3, Cancels: 2, AgentCrashes: 5, LibvirtCrashes: 3, JournalFailures: 3},
	}
	if seed%2 == 0 { // with host crashes a VM may be lost; without, never
		cfg.Budget.HostCrashes = 2
		cfg.Restart = seed%4 == 0
	}
	return cfg
}

// TestSimulator runs many seeded worlds. HEADROOM_SIM_SEED replays one with its
// trace, HEADROOM_SIM_SEEDS changes their number.
func TestSimulator(t *testing.T) {
	if s := os.Getenv("HEADROOM_SIM_SEED"); s != "" {
		seed, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatalf("HEADROOM_SIM_SEED: %v", err)
		}
		cfg := simulatedWorld(model.MutantNone, seed)
		cfg.Trace = t.Logf
		if broken := simulate(cfg, seed); broken != "" {
			t.Fatalf("seed %d: %s", seed, broken)
		}
		return
	}
	seeds := int64(1000)
	if s := os.Getenv("HEADROOM_SIM_SEEDS"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatalf("HEADROOM_SIM_SEEDS: %v", err)
		}
		seeds = n
	}
	const shards = 4
	for shard := range int64(shards) {
		t.Run(fmt.Sprintf("shard%d", shard), func(t *testing.T) {
			t.Parallel()
			for seed := shard; seed < seeds; seed += shards {
				if broken := simulate(simulatedWorld(model.MutantNone, seed), seed); broken != "" {
					t.Fatalf("seed %d: %s (HEADROOM_SIM_SEED=%d go test -run TestSimulator -v replays it)", seed, broken, seed)
				}
			}
		})
	}
}

// TestSimulatorCatchesMutants shows that the simulator sees what it is for: each
// rule that is broken shows within 1,000 seeds.
func TestSimulatorCatchesMutants(t *testing.T) {
	for _, mutant := range []model.Mutant{model.MutantNoHookCheck, model.MutantMemoryJournal,
		model.MutantTokensNotCompared, model.MutantActOnTimeouts, model.MutantNoLock} {
		t.Run(string(mutant), func(t *testing.T) {
			t.Parallel()
			for seed := range int64(1000) {
				if broken := simulate(simulatedWorld(mutant, seed), seed); broken != "" {
					if strings.HasPrefix(broken, "Settles") {
						continue // a mutant must be unsafe, not only slow
					}
					t.Logf("seed %d: %s", seed, broken)
					return
				}
			}
			t.Fatal("not caught in 1,000 seeds")
		})
	}
}
