package simulation

import (
	"maps"
	"slices"
	"time"

	"headroom/planner/negotiate"
)

const (
	faultsLast = 4 * time.Minute
	// SettleLimit is how long after the last fault everything must be over.
	SettleLimit = 60 * time.Second
	giveUp      = 10 * time.Minute // how long a run that does not settle is watched
)

// Run is one run of a fleet. The same configuration gives the same result.
func Run(cfg Config) Result {
	w := newWorld(cfg)
	for _, h := range w.hosts {
		w.gossip(h)
		w.every(w.between(0, 50*time.Second), 50*time.Second, func() { w.gossip(h) })
		w.every(w.between(0, roundEvery), roundEvery, func() { w.round(h) })
	}
	w.after(w.between(0, 5*time.Second), w.orders)
	w.every(30*time.Second, 15*time.Second, w.heat)
	w.after(w.between(5*time.Second, 30*time.Second), w.faults)
	w.run(faultsLast)
	w.settle()
	w.stats.Violation = w.broken
	return w.stats
}

// every runs do again and again, while faults last.
func (w *world) every(first, period time.Duration, do func()) {
	w.after(first, func() {
		if !w.quiet {
			do()
			w.every(period, period, do)
		}
	})
}

// settle ends the faults, lets nothing new begin, and measures how long the
// hand-overs need.
func (w *world) settle() {
	if w.broken != "" {
		return
	}
	w.quiet = true
	w.heal()
	end := w.now
	for _, h := range w.hosts {
		h.disk, h.agent.since = disk{}, w.now
		if !h.up {
			h.up, h.virt = true, true
			w.startFromDisk(h)
		}
		w.restartLibvirtd(h)
		w.restartAgent(h)
	}
	why := ""
	for w.broken == "" && w.now-end < giveUp {
		done := false
		if done, why = w.settled(); done {
			break
		}
		w.run(w.now + time.Second)
		w.operate()
	}
	w.stats.SettleS = (w.now - end).Seconds()
	if w.now-end > SettleLimit {
		w.violate("Settles: after %.0f s %s", w.stats.SettleS, why)
	}
}

// operate is the operator answering the alarm that asks whether a VM without the
// paused guard may go on here: after a look at the disk.
func (w *world) operate() {
	for _, h := range w.hosts {
		for _, v := range slices.Sorted(maps.Keys(h.agent.sources)) {
			s, d := h.agent.sources[v], h.domains[v]
			asks := s.Phase == negotiate.PhaseDeciding && s.Local == negotiate.LocalPaused && s.Fenced && s.Remote == negotiate.CopyNone
			if !asks || d == nil || d.run != paused || h.agent.busy || s.Record.Override != "" {
				continue
			}
			w.stats.Operators++
			if d.epoch != w.vms[v].epoch {
				w.undefine(h, v)
				continue
			}
			w.post(h, input{vm: v, src: negotiate.Override{VM: w.vms[v].id, Action: negotiate.OverrideAbort, By: "operator", Evidence: "the disk was not written"}})
		}
	}
}

// Summary adds up runs.
type Summary struct {
	Seeds, Violations                        int
	First                                    string // the first violation
	SettleSMax                               float64
	Agents, Events, Attempts, Moved, Crashes int
	Refusals, Operators                      int
}

// Add takes one run in.
func (s *Summary) Add(r Result) {
	one := Summary{Seeds: 1, First: r.Violation, SettleSMax: r.SettleS, Agents: r.Agents, Events: r.Events,
		Attempts: r.Attempts, Moved: r.Moved, Crashes: r.Crashes, Refusals: r.Refusals, Operators: r.Operators}
	if r.Violation != "" {
		one.Violations = 1
	}
	s.Merge(one)
}

// Merge takes other runs in.
func (s *Summary) Merge(o Summary) {
	if s.First == "" {
		s.First = o.First
	}
	s.SettleSMax = max(s.SettleSMax, o.SettleSMax)
	s.Seeds, s.Violations = s.Seeds+o.Seeds, s.Violations+o.Violations
	s.Agents, s.Events, s.Attempts = s.Agents+o.Agents, s.Events+o.Events, s.Attempts+o.Attempts
	s.Moved, s.Crashes = s.Moved+o.Moved, s.Crashes+o.Crashes
	s.Refusals, s.Operators = s.Refusals+o.Refusals, s.Operators+o.Operators
}
