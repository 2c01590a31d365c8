package model

import (
	"os"
	"strings"
	"testing"
	"time"

	"headroom/planner/negotiate"
)

// small is one VM between two hosts, with the given faults.
func small(guard negotiate.Guard, b Budget) Config {
	return Config{Hosts: 2, VMs: 1, Capacity: 1, Guards: []negotiate.Guard{guard}, Budget: b,
		Timing: negotiate.Timing{ReserveTries: 1}}
}

// maxStates is far above what the bounds below reach.
const maxStates = 1_000_000

// TestEveryOrder visits every order of messages, faults, restarts and timers
// within each bound: no invariant breaks, and from every state the hand-over can
// come to an end. HEADROOM_MODEL=full adds the bounds that take minutes.
func TestEveryOrder(t *testing.T) {
	disk := func(b Budget) Config {
		cfg := small(negotiate.GuardPaused, b)
		cfg.Restart = true
		return cfg
	}
	bounds := map[string]Config{
		"paused, agents and link":    small(negotiate.GuardPaused, Budget{Attempts: 1, AgentCrashes: 2, Cuts: 1}),
		"paused, libvirtd and link":  small(negotiate.GuardPaused, Budget{Attempts: 1, LibvirtCrashes: 1, Cuts: 1}),
		"paused, two attempts":       small(negotiate.GuardPaused, Budget{Attempts: 2, Cuts: 1}),
		"paused, hosts and link":     small(negotiate.GuardPaused, Budget{Attempts: 1, HostCrashes: 1, Cuts: 1}),
		"paused, restart from disk":  disk(Budget{Attempts: 1, HostCrashes: 1}),
		"paused, cancel and journal": small(negotiate.GuardPaused, Budget{Attempts: 1, Cancels: 1, JournalFailures: 1, Cuts: 1}),
		"lock, agents and link":      small(negotiate.GuardLock, Budget{Attempts: 1, AgentCrashes: 1, Cuts: 1}),
		"lock, libvirtd and link":    small(negotiate.GuardLock, Budget{Attempts: 1, LibvirtCrashes: 1, Cuts: 1}),
		"lock, hosts and link":       small(negotiate.GuardLock, Budget{Attempts: 1, HostCrashes: 1, Cuts: 1}),
	}
	if os.Getenv("HEADROOM_MODEL") == "full" {
		bounds["full: paused, two attempts, a duplicate"] = small(negotiate.GuardPaused, Budget{Attempts: 2, Cuts: 1, Duplicates: 1})
		bounds["full: paused, restart from disk, agents"] = disk(Budget{Attempts: 1, HostCrashes: 1, AgentCrashes: 1})
		bounds["full: lock, libvirtd, host and link"] = small(negotiate.GuardLock, Budget{Attempts: 1, LibvirtCrashes: 1, HostCrashes: 1, Cuts: 1})
	}
	for name, cfg := range bounds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			r := Explore(cfg, maxStates)
			t.Logf("%d states, %d settled, %.1f s", r.States, r.Settled, time.Since(began).Seconds())
			if r.Broken != "" {
				t.Fatalf("%s\n%s", r.Broken, strings.Join(r.Trace, "\n"))
			}
			if !r.Complete {
				t.Fatalf("not finished within %d states", maxStates)
			}
		})
	}
}

// TestMutants breaks one rule at a time: the search must see it.
func TestMutants(t *testing.T) {
	for mutant, want := range map[Mutant]struct {
		cfg  Config
		rule string
	}{
		MutantNoHookCheck:       {small(negotiate.GuardPaused, Budget{Attempts: 1}), "SlotConservation"},
		MutantMemoryJournal:     {small(negotiate.GuardPaused, Budget{Attempts: 1, AgentCrashes: 1}), "SlotConservation"},
		MutantTokensNotCompared: {small(negotiate.GuardPaused, Budget{Attempts: 2, Duplicates: 1, Cancels: 1}), "NoLostVM"},
		MutantActOnTimeouts:     {small(negotiate.GuardPaused, Budget{Attempts: 1, Cuts: 1}), "OneRunner StaleResume"},
		MutantNoLock:            {small(negotiate.GuardLock, Budget{Attempts: 1, Cuts: 1}), "OneRunner StaleResume"},
	} {
		t.Run(string(mutant), func(t *testing.T) {
			t.Parallel()
			want.cfg.Mutant = mutant
			r := Explore(want.cfg, maxStates)
			rule, _, _ := strings.Cut(r.Broken, ":")
			if r.Broken == "" || !strings.Contains(want.rule, rule) {
				t.Fatalf("got %q after %d states, want a break of %s\n%s", r.Broken, r.States, want.rule, strings.Join(r.Trace, "\n"))
			}
			t.Logf("%s, after %d states, in %d lines", r.Broken, r.States, len(r.Trace))
		})
	}
}
