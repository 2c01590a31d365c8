package main

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"headroom/tests/model"
	"headroom/tests/simulation"
)

// searchModel visits every order of events within the bounds, and looks for each
// mutant.
func searchModel(o options, out figures) error {
	began := time.Now()
	states, violations := 0, 0
	bounds := model.Bounds(o.full)
	fmt.Println("| bounds | states | settled | broken | s |\n| --- | --- | --- | --- | --- |")
	for _, name := range slices.Sorted(maps.Keys(bounds)) {
		start := time.Now()
		r := model.Explore(bounds[name], model.MaxStates*10)
		states += r.States
		if r.Broken != "" || !r.Complete {
			violations++
		}
		fmt.Printf("| %s | %d | %d | %s | %.1f |\n", name, r.States, r.Settled, r.Broken, time.Since(start).Seconds())
	}
	caught := 0
	mutants := model.MutantBounds()
	fmt.Println("\n| mutant | broken | states until then |\n| --- | --- | --- |")
	for _, m := range model.Mutants() {
		r := model.Explore(mutants[m].Config, model.MaxStates)
		rule, _, _ := strings.Cut(r.Broken, ":")
		if slices.Contains(mutants[m].Rules, rule) {
			caught++
		}
		fmt.Printf("| %s | %s | %d |\n", m, r.Broken, r.States)
	}
	out["model_states"], out["model_violations"] = float64(states), float64(violations)
	out["mutants"], out["mutants_caught"] = float64(len(mutants)), float64(caught)
	fmt.Printf("\nmodel: %d states in %.1f s\n\n", states, time.Since(began).Seconds())
	return nil
}

// simulate runs the fleets, and tells of progress and of each failing seed.
func simulate(o options, out figures) error {
	debug.SetGCPercent(800) // a run makes much garbage and lives shortly
	var next atomic.Uint64
	var mu sync.Mutex
	var sum simulation.Summary
	began := time.Now()
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				n := next.Add(1) - 1
				if n >= o.seeds {
					return
				}
				r := simulation.Run(simulation.Config{Seed: o.first + n})
				mu.Lock()
				sum.Add(r)
				if r.Violation != "" {
					fmt.Println(r.Violation)
				}
				if sum.Seeds%5000 == 0 {
					fmt.Fprintf(os.Stderr, "%d seeds, %d violations, %.0f s\n", sum.Seeds, sum.Violations, time.Since(began).Seconds())
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	fmt.Printf("seeds %d..%d in %.0f s: %d agents, %d hand-overs begun, %d moved, %d agents died, %d reservations refused, %d decided by an operator, settled within %.0f s\n\n",
		o.first, o.first+o.seeds-1, time.Since(began).Seconds(), sum.Agents, sum.Attempts, sum.Moved, sum.Crashes, sum.Refusals, sum.Operators, sum.SettleSMax)
	out["seeds"], out["seed_violations"] = float64(sum.Seeds), float64(sum.Violations)
	out["settle_s_max"] = max(out["settle_s_max"], sum.SettleSMax)
	if sum.Violations > 0 {
		return fmt.Errorf("%d of %d seeds: the first: %s", sum.Violations, sum.Seeds, sum.First)
	}
	return nil
}

// herds are the fleets of the herd: the figures are the worst of those with the
// policy's own jitter.
var herds = []struct {
	name string
	simulation.HerdConfig
}{
	{"room for one each", simulation.HerdConfig{Scale: 1}},
	{"room for three each", simulation.HerdConfig{Scale: 2}},
	{"room for three each, three in at a time", simulation.HerdConfig{Scale: 2, MaxIncoming: 3}},
	{"room for one each, all at the same instant", simulation.HerdConfig{Scale: 1, AtOnce: true}},
	{"room for three each, three in at a time, all at the same instant", simulation.HerdConfig{Scale: 2, MaxIncoming: 3, AtOnce: true}},
}

// herd lets 20 of 100 hosts become hot at once, many times.
func herd(o options, out figures) error {
	fmt.Println("| 20 of 100 hosts hot at once | attempts | first choice refused | % | busiest destination | still hot |\n| --- | --- | --- | --- | --- | --- |")
	for _, h := range herds {
		var asked, refused, busiest, hot int
		for seed := range o.herds {
			c := h.HerdConfig
			c.Seed, c.Agents, c.Hot = seed, 100, 20
			r := simulation.Herd(c)
			if r.Violation != "" {
				return fmt.Errorf("herd of seed %d: %s", seed, r.Violation)
			}
			asked, refused, busiest, hot = asked+r.Asked, refused+r.FirstRefusals, max(busiest, r.Busiest), hot+r.StillHot
		}
		percent := 100 * float64(refused) / float64(max(1, asked))
		if !h.AtOnce {
			out["first_refusal_percent"] = max(out["first_refusal_percent"], percent)
			out["busiest_destination"] = max(out["busiest_destination"], float64(busiest))
		}
		fmt.Printf("| %s, %d fleets | %d | %d | %.2f | %d | %d |\n", h.name, o.herds, asked, refused, percent, busiest, hot)
	}
	fmt.Println()
	return nil
}
