package model

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestEveryOrder visits every order of messages, faults, restarts and timers
// within each bound: no invariant breaks, and from every state the hand-over can
// come to an end. HEADROOM_MODEL=full adds the bounds that take minutes.
func TestEveryOrder(t *testing.T) {
	for name, cfg := range Bounds(os.Getenv("HEADROOM_MODEL") == "full") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			r := Explore(cfg, MaxStates)
			t.Logf("%d states, %d settled, %.1f s", r.States, r.Settled, time.Since(began).Seconds())
			if r.Broken != "" {
				t.Fatalf("%s\n%s", r.Broken, strings.Join(r.Trace, "\n"))
			}
			if !r.Complete {
				t.Fatalf("not finished within %d states", MaxStates)
			}
		})
	}
}

// TestMutants breaks one rule at a time: the search must see it.
func TestMutants(t *testing.T) {
	for mutant, b := range MutantBounds() {
		t.Run(string(mutant), func(t *testing.T) {
			t.Parallel()
			r := Explore(b.Config, MaxStates)
			rule, _, _ := strings.Cut(r.Broken, ":")
			if !slices.Contains(b.Rules, rule) {
				t.Fatalf("got %q after %d states, want a break of %v\n%s", r.Broken, r.States, b.Rules, strings.Join(r.Trace, "\n"))
			}
			t.Logf("%s, after %d states, in %d lines", r.Broken, r.States, len(r.Trace))
		})
	}
}
