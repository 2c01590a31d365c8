package simulation

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"

	"headroom/tests/model"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "replay one seed, with its trace")
	seedsFlag = flag.Uint64("seeds", 1000, "how many seeds to run")
	firstFlag = flag.Uint64("first", 1, "the first of them")
)

// TestMain trades memory for time: a run makes much garbage and lives shortly.
func TestMain(m *testing.M) {
	debug.SetGCPercent(800)
	os.Exit(m.Run())
}

// TestSeeds runs many fleets. A failing seed is printed, and -seed N replays it
// with its trace.
func TestSeeds(t *testing.T) {
	if *seedFlag != 0 {
		r := Run(Config{Seed: *seedFlag, Trace: t.Logf})
		t.Logf("%+v", r)
		if r.Violation != "" {
			t.Fatal(r.Violation)
		}
		return
	}
	const shards = 2
	results := make([]Summary, shards)
	t.Run("all", func(t *testing.T) {
		for shard := range uint64(shards) {
			t.Run(fmt.Sprint(shard), func(t *testing.T) {
				t.Parallel()
				for seed := *firstFlag + shard; seed < *firstFlag+*seedsFlag; seed += shards {
					r := Run(Config{Seed: seed})
					results[shard].Add(r)
					if r.Violation != "" {
						t.Errorf("%s; replay: go test ./tests/simulation -run TestSeeds -v -seed %d", r.Violation, seed)
					}
				}
			})
		}
	})
	results[0].Merge(results[1])
	t.Logf("%+v", results[0])
}

// TestSameSeedSameRun: a run is a function of its seed.
func TestSameSeedSameRun(t *testing.T) {
	for seed := uint64(1); seed <= 5; seed++ {
		if a, b := Run(Config{Seed: seed}), Run(Config{Seed: seed}); a != b {
			t.Errorf("seed %d: %+v, then %+v", seed, a, b)
		}
	}
}

// TestMutants breaks one rule at a time: some invariant must see it, and the one
// that it is about where fleets alone can show it. The same fleets without the
// mutant break nothing.
func TestMutants(t *testing.T) {
	for _, m := range Mutants() {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(2000) {
				cfg := Config{Seed: seed, Agents: 5 + int(seed%20), Mutant: m}
				r := Run(cfg)
				if r.Violation == "" {
					continue
				}
				t.Logf("seed %d: %s", seed, r.Violation)
				if m == MutantNotedOnce && !strings.HasPrefix(r.Violation, "CooldownTravels:") {
					t.Error("seen by another invariant than CooldownTravels")
				}
				cfg.Mutant = model.MutantNone
				if r := Run(cfg); r.Violation != "" {
					t.Errorf("also without the mutant: %s", r.Violation)
				}
				return
			}
			t.Fatal("not caught in 2000 seeds")
		})
	}
}

// TestHerdBound: 20 of 100 hosts become hot at once. Almost no first choice
// refuses, and no destination is overrun, where it has room for one VM and where
// it has room for three.
func TestHerdBound(t *testing.T) {
	for _, scale := range []int{1, 2} {
		var sum HerdResult
		for seed := range uint64(20) {
			r := Herd(HerdConfig{Seed: seed, Agents: 100, Hot: 20, Scale: scale})
			if r.Violation != "" {
				t.Fatal(r.Violation)
			}
			if r.Moved < 20 || r.StillHot > 0 {
				t.Errorf("scale %d, seed %d: %d moved, %d hosts still hot", scale, seed, r.Moved, r.StillHot)
			}
			sum.Asked, sum.FirstRefusals, sum.Busiest = sum.Asked+r.Asked, sum.FirstRefusals+r.FirstRefusals, max(sum.Busiest, r.Busiest)
		}
		t.Logf("scale %d: %+v", scale, sum)
		if sum.Busiest > 3 || 20*sum.FirstRefusals >= sum.Asked {
			t.Errorf("scale %d: busiest destination %d, want at most 3; %d of %d first choices refused, want below 5 %%", scale, sum.Busiest, sum.FirstRefusals, sum.Asked)
		}
	}
}
