package model

import (
	"slices"
	"strings"
	"testing"
	"time"

	"headroom/planner/negotiate"
)

// used counts how often each rule of the protocol was met.
type usedRules struct {
	t    *testing.T
	hits []int
	bad  map[string]bool
}

func newUsed(t *testing.T) *usedRules {
	return &usedRules{t: t, hits: make([]int, len(Protocol)), bad: map[string]bool{}}
}

func (u *usedRules) take(tr negotiate.Transition) {
	rules, err := Match(tr)
	if err != nil {
		key := strings.Join(append([]string{tr.Side, tr.From, tr.Event, tr.To}, tr.Acts...), " ")
		if !u.bad[key] && len(u.bad) < 40 {
			u.bad[key] = true
			u.t.Error(err)
		}
		return
	}
	for _, r := range rules {
		if tr.From != tr.To || len(tr.Acts) > 0 {
			u.hits[r]++
		}
	}
}

// unused are the rules that lead somewhere or allow something and were not met.
func (u *usedRules) unused(except func(Rule) bool) {
	for i, r := range Protocol {
		if u.hits[i] == 0 && !(except != nil && except(r)) && (len(r.Acts) > 0 || !has(r.To, r.From)) {
			u.t.Errorf("no step uses the rule %+v", r)
		}
	}
}

// TestTableOfTheCode steps the machines from every combination of what their
// states hold, with every event: nothing leaves the protocol's table, and no rule
// of it is idle.
func TestTableOfTheCode(t *testing.T) {
	u := newUsed(t)
	steps := 0
	everySource(func(s negotiate.Source) {
		for _, ev := range sourceEvents(s) {
			next, effects := s.Step(negotiate.Moment{Now: time.Second}, ev)
			u.take(negotiate.SourceTransition(s, ev, next, effects))
			steps++
		}
	})
	everyDestination(func(d negotiate.Destination) {
		for _, ev := range destinationEvents() {
			next, effects := d.Step(negotiate.Moment{Now: time.Second}, ev)
			u.take(negotiate.DestinationTransition("vm", d, ev, next, effects))
			steps++
		}
	})
	u.unused(nil)
	t.Logf("%d steps, %d rules", steps, len(Protocol))
}

// TestTableOfTheModel: what the exhaustive search does is in the table, and it
// meets every rule that needs no operator and no second look.
func TestTableOfTheModel(t *testing.T) {
	u := newUsed(t)
	for _, cfg := range []Config{
		small(negotiate.GuardPaused, Budget{Attempts: 1, AgentCrashes: 1, Cuts: 1, Cancels: 1}),
		small(negotiate.GuardPaused, Budget{Attempts: 2, Cuts: 1}),
		small(negotiate.GuardLock, Budget{Attempts: 1, LibvirtCrashes: 1, Cuts: 1}),
		small(negotiate.GuardPaused, Budget{Attempts: 1, HostCrashes: 1, Cuts: 1}),
	} {
		cfg.Record = u.take
		if r := Explore(cfg, MaxStates); r.Broken != "" {
			t.Fatal(r.Broken)
		}
	}
	u.unused(func(r Rule) bool { return r.Rare })
}

// everySource makes each source that its fields can describe.
func everySource(do func(negotiate.Source)) {
	phases := []negotiate.Phase{negotiate.PhaseIdle, negotiate.PhaseReserving, negotiate.PhaseBinding, negotiate.PhaseMigrating,
		negotiate.PhaseDeciding, negotiate.PhaseCommitting, negotiate.PhaseAborting}
	locals := []negotiate.LocalRun{negotiate.LocalUnknown, negotiate.LocalRunning, negotiate.LocalPaused, negotiate.LocalGone, negotiate.LocalMigrated}
	remotes := []negotiate.CopyState{negotiate.CopyUnknown, negotiate.CopyNone, negotiate.CopyIn, negotiate.CopyPaused, negotiate.CopyRunning}
	guards := []negotiate.Guard{negotiate.GuardPaused, negotiate.GuardLock, negotiate.GuardPlain}
	for _, p := range phases {
		for _, l := range locals {
			for i, r := range remotes {
				if i > 0 && p != negotiate.PhaseDeciding && p != negotiate.PhaseAborting {
					break // it is not looked at
				}
				for _, g := range guards {
					for bits := range 64 {
						do(makeSource(p, l, r, g, bits))
					}
				}
			}
		}
	}
}

// makeSource is a source in a phase; the bits are its flags.
func makeSource(p negotiate.Phase, l negotiate.LocalRun, r negotiate.CopyState, g negotiate.Guard, bits int) negotiate.Source {
	s := negotiate.NewSource("A", negotiate.Timing{})
	s.Phase, s.Local, s.Remote, s.Query = p, l, r, 7
	s.Fenced, s.Clean, s.Acked, s.Contested = bits&1 > 0, bits&2 > 0, bits&4 > 0, bits&8 > 0
	s.Tries = bits & 16 >> 4
	states := map[negotiate.Phase]negotiate.SourceState{negotiate.PhaseReserving: negotiate.SourceReserving, negotiate.PhaseBinding: negotiate.SourceReserving,
		negotiate.PhaseMigrating: negotiate.SourceMigrating, negotiate.PhaseDeciding: negotiate.SourceMigrating,
		negotiate.PhaseCommitting: negotiate.SourceCommitted, negotiate.PhaseAborting: negotiate.SourceAborted, negotiate.PhaseIdle: negotiate.SourceAborted}
	s.Record = negotiate.SourceRecord{Version: 1, VM: "vm", Attempt: 3, From: "A", To: "B", Guard: g, State: states[p], Closed: p == negotiate.PhaseIdle}
	if p != negotiate.PhaseReserving {
		s.Record.Lease = "l"
	}
	s.Record.Discard = bits&32 > 0 && p == negotiate.PhaseDeciding
	s.Record.Resume = bits&32 > 0 && p == negotiate.PhaseAborting
	if p == negotiate.PhaseReserving && bits&32 > 0 {
		s.Candidates = []negotiate.Candidate{{Host: "B", Guard: g}, {Host: "C", Guard: g}}
		s.Next = 1
	}
	return s
}

func sourceEvents(s negotiate.Source) []negotiate.SourceEvent {
	out := []negotiate.SourceEvent{
		negotiate.Start{VM: "vm", Candidates: []negotiate.Candidate{{Host: "B", Guard: negotiate.GuardPaused}}},
		negotiate.Start{VM: "vm"},
		negotiate.Stamped{VM: "vm", Attempt: 3, Lease: "l"}, negotiate.Stamped{VM: "vm", Attempt: 3, Lease: "l", Err: "no"},
		negotiate.Stamped{VM: "vm", Attempt: 3}, negotiate.Stamped{VM: "vm", Attempt: 3, Err: "no"},
		negotiate.MigrationDone{VM: "vm"}, negotiate.MigrationDone{VM: "vm", Err: "no"},
		negotiate.MigrationStillRunning{VM: "vm", Query: s.Query}, negotiate.Cancel{VM: "vm", Reason: "no"},
		negotiate.PersistFailed{VM: "vm", Err: "disk full"},
	}
	for _, l := range []negotiate.LocalRun{negotiate.LocalUnknown, negotiate.LocalRunning, negotiate.LocalPaused, negotiate.LocalGone, negotiate.LocalMigrated} {
		out = append(out, negotiate.LocalState{VM: "vm", Query: s.Query, State: l}, negotiate.LocalState{VM: "vm", Query: s.Query - 1, State: l})
	}
	for _, k := range []negotiate.TimerKind{negotiate.TimerReserve, negotiate.TimerBind, negotiate.TimerCopy, negotiate.TimerAsk, negotiate.TimerResend} {
		out = append(out, negotiate.TimerFired{Kind: k, VM: "vm"})
	}
	for _, a := range []negotiate.OverrideAction{negotiate.OverrideCommit, negotiate.OverrideAbort, negotiate.OverrideClose} {
		out = append(out, negotiate.Override{VM: "vm", Action: a, By: "ann", Evidence: "seen"})
	}
	hear := func(from negotiate.HostID, m negotiate.Message) {
		m.VM = "vm"
		out = append(out, negotiate.Received{From: from, Message: m})
	}
	type origin struct {
		attempt negotiate.Attempt
		lease   negotiate.LeaseID
		from    negotiate.HostID
	}
	for _, o := range []origin{{3, s.Record.Lease, "B"}, {2, s.Record.Lease, "B"}, {3, "old", "B"}, {3, "l", "C"}} {
		attempt, lease, from := o.attempt, o.lease, o.from
		hear(from, negotiate.Message{Kind: negotiate.Granted, Attempt: attempt, Lease: lease, TTLMS: 30_000})
		hear(from, negotiate.Message{Kind: negotiate.Ack, Attempt: attempt, Lease: lease})
		for _, k := range []negotiate.RefusalKind{negotiate.RefusedBusy, negotiate.RefusedCopyMissing, negotiate.RefusedCopyRunning, negotiate.RefusedUnknownToken} {
			hear(from, negotiate.Message{Kind: negotiate.Refused, Attempt: attempt, Lease: lease, Refusal: &negotiate.Refusal{Kind: k}})
		}
		for _, c := range []negotiate.CopyState{negotiate.CopyUnknown, negotiate.CopyNone, negotiate.CopyIn, negotiate.CopyPaused, negotiate.CopyRunning} {
			hear(from, negotiate.Message{Kind: negotiate.StatusReply, Attempt: attempt, Lease: lease, Copy: c})
			hear(from, negotiate.Message{Kind: negotiate.StatusReply, Attempt: attempt, Lease: lease, Copy: c, NeverRan: true})
		}
	}
	return out
}

// everyDestination makes each book of one VM.
func everyDestination(do func(negotiate.Destination)) {
	do(negotiate.NewDestination("B", negotiate.Limits{}))
	states := []negotiate.DestState{negotiate.DestHeld, negotiate.DestIncoming, negotiate.DestCommitted, negotiate.DestOwned, negotiate.DestAborting, negotiate.DestReleased}
	copies := []negotiate.CopyState{negotiate.CopyUnknown, negotiate.CopyNone, negotiate.CopyIn, negotiate.CopyPaused, negotiate.CopyRunning}
	for _, st := range states {
		for _, c := range copies {
			for _, g := range []negotiate.Guard{negotiate.GuardPaused, negotiate.GuardLock} {
				for bits := range 32 {
					d := negotiate.NewDestination("B", negotiate.Limits{})
					d.Query = 7
					e := negotiate.Entry{Copy: c, Look: 5, Watched: bits&1 > 0, Ran: bits&2 > 0, Tries: bits & 4 >> 2, Record: negotiate.DestRecord{
						Version: 1, VM: "vm", Attempt: 3, Lease: "l", Source: "A", Guard: g, State: st, Aborted: bits&8 > 0, Counter: 1}}
					if bits&16 > 0 {
						e.Expires, e.Ending = time.Minute, 6
					}
					d.Entries = []negotiate.Entry{e}
					do(d)
				}
			}
		}
	}
}

func destinationEvents() []negotiate.DestinationEvent {
	var out []negotiate.DestinationEvent
	for _, from := range []negotiate.HostID{"A", "C"} {
		for _, attempt := range []negotiate.Attempt{2, 3, 4} {
			for _, lease := range []negotiate.LeaseID{"", "l", "old"} {
				for _, k := range []negotiate.Kind{negotiate.Reserve, negotiate.Commit, negotiate.Abort, negotiate.Status} {
					m := negotiate.Message{Kind: k, VM: "vm", Attempt: attempt, Lease: lease, Guard: negotiate.GuardPaused, Need: &negotiate.Need{}}
					out = append(out, negotiate.Received{From: from, Message: m})
				}
				out = append(out, negotiate.PrepareCheck{VM: "vm", Source: from, Attempt: attempt, Lease: lease})
			}
		}
	}
	for _, q := range []uint64{0, 4, 7} {
		out = append(out, negotiate.CopyGone{VM: "vm", Query: q}, negotiate.CopyLost{VM: "vm", Query: q})
		for _, c := range []negotiate.CopyState{negotiate.CopyIn, negotiate.CopyPaused, negotiate.CopyRunning} {
			for _, lease := range []negotiate.LeaseID{"l", "old"} {
				out = append(out, negotiate.CopyAppeared{VM: "vm", Attempt: 3, Lease: lease, State: c, Query: q})
			}
		}
	}
	for _, k := range []negotiate.TimerKind{negotiate.TimerLease, negotiate.TimerPaused, negotiate.TimerRetry} {
		out = append(out, negotiate.TimerFired{Kind: k, VM: "vm"})
	}
	for _, a := range []negotiate.OverrideAction{negotiate.OverrideCommit, negotiate.OverrideAbort, negotiate.OverrideClose} {
		out = append(out, negotiate.Override{VM: "vm", Action: a, By: "ann", Evidence: "seen"})
	}
	return append(out, negotiate.ActFailed{VM: "vm", Err: "no"}, negotiate.PersistFailed{VM: "vm", Err: "disk full"})
}

// TestMatchRefuses: the table says no to what must not happen.
func TestMatchRefuses(t *testing.T) {
	for _, tr := range []negotiate.Transition{
		{Side: "source", From: "migrating", Event: "timer_ask", To: "committing", Acts: []string{"record committed", "send commit"}},
		{Side: "source", From: "binding", Event: "granted", To: "migrating", Acts: []string{"record migrating", "start_migration"}},
		{Side: "destination", From: "incoming", Event: "timer_paused", To: "owned", Acts: []string{"resume_copy"}},
		{Side: "destination", From: "incoming", Event: "copy_paused", To: "incoming", Acts: []string{"resume_copy"}},
		{Side: "destination", From: "released", Event: "prepare", To: "incoming", Acts: []string{"record incoming", "allow_prepare"}},
		{Side: "destination", From: "incoming", Event: "timer_lease", To: "released", Acts: []string{"record released"}},
	} {
		if _, err := Match(tr); err == nil {
			t.Errorf("allowed: %s", tr)
		}
	}
	if _, err := Match(negotiate.Transition{Side: "source", From: "deciding", Event: "timer_ask", To: "deciding", Acts: slices.Clone(quiet)}); err != nil {
		t.Error(err)
	}
}
