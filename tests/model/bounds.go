package model

import "headroom/planner/negotiate"

// MaxStates is far above what the bounds below reach.
const MaxStates = 1_000_000

// small is one VM between two hosts, with the given faults.
func small(guard negotiate.Guard, b Budget) Config {
	return Config{Hosts: 2, VMs: 1, Capacity: 1, Guards: []negotiate.Guard{guard}, Budget: b,
		Timing: negotiate.Timing{ReserveTries: 1}}
}

// Bounds are the worlds that are searched exhaustively, by name. Full adds those
// that take minutes.
func Bounds(full bool) map[string]Config {
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
	if full {
		bounds["full: paused, two attempts, a duplicate"] = small(negotiate.GuardPaused, Budget{Attempts: 2, Cuts: 1, Duplicates: 1})
		bounds["full: paused, restart from disk, agents"] = disk(Budget{Attempts: 1, HostCrashes: 1, AgentCrashes: 1})
		bounds["full: lock, libvirtd, host and link"] = small(negotiate.GuardLock, Budget{Attempts: 1, LibvirtCrashes: 1, HostCrashes: 1, Cuts: 1})
	}
	return bounds
}

// Broken is a world with one rule broken on purpose, and the invariants of which
// one must show it.
type Broken struct {
	Config Config
	Rules  []string
}

// MutantBounds are the smallest worlds in which each mutant shows.
func MutantBounds() map[Mutant]Broken {
	m := map[Mutant]Broken{
		MutantNoHookCheck:       {small(negotiate.GuardPaused, Budget{Attempts: 1}), []string{"SlotConservation"}},
		MutantMemoryJournal:     {small(negotiate.GuardPaused, Budget{Attempts: 1, AgentCrashes: 1}), []string{"SlotConservation"}},
		MutantTokensNotCompared: {small(negotiate.GuardPaused, Budget{Attempts: 2, Duplicates: 1, Cancels: 1}), []string{"NoLostVM"}},
		MutantActOnTimeouts:     {small(negotiate.GuardPaused, Budget{Attempts: 1, Cuts: 1}), []string{"OneRunner", "StaleResume"}},
		MutantNoLock:            {small(negotiate.GuardLock, Budget{Attempts: 1, Cuts: 1}), []string{"OneRunner", "StaleResume"}},
	}
	for name, b := range m {
		b.Config.Mutant = name
		m[name] = b
	}
	return m
}
