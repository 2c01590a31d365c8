package negotiate_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"headroom/planner/negotiate"
)

// acts are the effects that change a VM's run state or allow libvirt to.
func act(e negotiate.Effect) bool {
	switch e.(type) {
	case negotiate.ResumeCopy, negotiate.DestroyCopy, negotiate.ResumeLocal, negotiate.DestroyLocal,
		negotiate.StartMigration, negotiate.AllowPrepare:
		return true
	}
	return false
}

// book drives a destination with any events in any order, and keeps what a
// journal would hold.
type book struct {
	t       *rapid.T
	dest    negotiate.Destination
	limits  negotiate.Limits
	now     time.Duration
	journal map[negotiate.VMID]negotiate.DestRecord
	leases  map[negotiate.LeaseID]bool
}

func newBook(t *rapid.T) *book {
	limits := negotiate.Limits{MaxIncoming: rapid.IntRange(1, 3).Draw(t, "max incoming"), MaxRecords: rapid.IntRange(2, 4).Draw(t, "max records")}
	return &book{t: t, dest: negotiate.NewDestination("B", limits), limits: limits,
		journal: map[negotiate.VMID]negotiate.DestRecord{}, leases: map[negotiate.LeaseID]bool{}}
}

// step performs an event and checks what holds for every step.
func (b *book) step(ev negotiate.DestinationEvent) []negotiate.Effect {
	before := fmt.Sprintf("%+v", b.dest)
	old := b.dest
	next, effects := b.dest.Step(negotiate.Moment{Now: b.now, Random: rapid.Uint64().Draw(b.t, "random")}, ev)
	if after := fmt.Sprintf("%+v", old); after != before {
		b.t.Fatalf("Step changed the state that it was given:\n%s\n%s", before, after)
	}
	b.dest = next
	b.check(ev, effects)
	return effects
}

func (b *book) check(ev negotiate.DestinationEvent, effects []negotiate.Effect) {
	_, timer := ev.(negotiate.TimerFired)
	for i, e := range effects {
		b.perform(i, e, timer)
	}
	b.slots()
}

// perform does effect i of a list to the journal, and checks it.
func (b *book) perform(i int, e negotiate.Effect, timer bool) {
	switch e := e.(type) {
	case negotiate.PersistDestination:
		old := b.journal[e.Record.VM]
		if i != 0 {
			b.t.Fatalf("JournalBeforeAct: %T is effect %d of its list", e, i)
		}
		if e.Record.Attempt < old.Attempt {
			b.t.Fatalf("TokenMonotonic: attempt %d after %d", e.Record.Attempt, old.Attempt)
		}
		if timer && e.Record.State != negotiate.DestReleased {
			b.t.Fatalf("NoActionOnTimeout: a timer made %s of %s", e.Record.State, old.State)
		}
		encoded, err := e.Record.Encode()
		if err != nil {
			b.t.Fatalf("record cannot be written: %v", err)
		}
		back, err := negotiate.DecodeDestRecord(encoded)
		if err != nil || back != e.Record {
			b.t.Fatalf("record %+v came back as %+v: %v", e.Record, back, err)
		}
		b.journal[e.Record.VM] = e.Record
	case negotiate.ForgetDestination:
		delete(b.journal, e.VM)
	case negotiate.ResumeCopy:
		b.mustBe(e.VM, e.Attempt, e.Lease, negotiate.DestCommitted)
	case negotiate.DestroyCopy:
		b.mustBe(e.VM, e.Attempt, e.Lease, negotiate.DestAborting, negotiate.DestReleased)
	case negotiate.AllowPrepare:
		if r := b.journal[e.VM]; r.Lease != e.Lease || r.State != negotiate.DestIncoming {
			b.t.Fatalf("HookRefusesStale: let in %s with %+v", e.Lease, r)
		}
	case negotiate.Send:
		if _, err := e.Message.Encode(); err != nil {
			b.t.Fatalf("message cannot be sent: %v", err)
		}
		if e.Message.Kind == negotiate.Granted {
			b.mustBe(e.Message.VM, e.Message.Attempt, e.Message.Lease, negotiate.DestHeld, negotiate.DestIncoming)
		}
	}
}

func (b *book) mustBe(vm negotiate.VMID, attempt negotiate.Attempt, lease negotiate.LeaseID, states ...negotiate.DestState) {
	r := b.journal[vm]
	for _, s := range states {
		if r.Attempt == attempt && r.Lease == lease && r.State == s {
			return
		}
	}
	b.t.Fatalf("JournalBeforeAct: %s %d/%s with a journal of %+v", vm, attempt, lease, r)
}

// slots: the book and the journal agree on which slots are taken. A copy that
// came without asking is counted although it exceeds the limit.
func (b *book) slots() {
	active := 0
	for _, l := range b.dest.Leases() {
		if r := b.journal[l.VM]; r.Lease != l.Lease || r.State != l.State {
			b.t.Fatalf("SlotConservation: the book has %+v, the journal %+v", l, r)
		}
		active++
	}
	taken := 0
	for _, r := range b.journal {
		if r.State != negotiate.DestOwned && r.State != negotiate.DestReleased {
			taken++
		}
	}
	if active != taken {
		b.t.Fatalf("SlotConservation: %d slots in the book, %d in the journal", active, taken)
	}
	if len(b.dest.Entries) > b.limits.MaxRecords {
		b.t.Fatalf("%d records, at most %d", len(b.dest.Entries), b.limits.MaxRecords)
	}
}

func (b *book) vm() negotiate.VMID {
	return negotiate.VMID(fmt.Sprintf("vm%d", rapid.IntRange(1, 5).Draw(b.t, "vm")))
}

// token is mostly the one in the book, else a stale or foreign one.
func (b *book) token(vm negotiate.VMID) (negotiate.HostID, negotiate.Attempt, negotiate.LeaseID) {
	e, ok := b.dest.Entry(vm)
	r := e.Record
	if !ok || rapid.IntRange(0, 3).Draw(b.t, "foreign token") == 0 {
		return negotiate.HostID(rapid.SampledFrom([]string{"A", "C"}).Draw(b.t, "source")),
			negotiate.Attempt(rapid.IntRange(1, 4).Draw(b.t, "attempt")), negotiate.LeaseID(rapid.SampledFrom([]string{"x", "1-0"}).Draw(b.t, "lease"))
	}
	return r.Source, r.Attempt, r.Lease
}

func (b *book) actions() map[string]func(*rapid.T) {
	copies := []negotiate.CopyState{negotiate.CopyIn, negotiate.CopyPaused, negotiate.CopyRunning}
	return map[string]func(*rapid.T){
		"reserve": func(t *rapid.T) {
			m := negotiate.Message{Kind: negotiate.Reserve, VM: b.vm(), Attempt: negotiate.Attempt(rapid.IntRange(1, 6).Draw(t, "attempt")),
				Guard: negotiate.GuardPaused, Need: &negotiate.Need{}}
			before := len(b.dest.Leases())
			b.step(negotiate.Received{From: "A", Message: m})
			if n := len(b.dest.Leases()); n > before && n > b.limits.MaxIncoming {
				t.Fatalf("BoundedConcurrency: granted slot %d of %d", n, b.limits.MaxIncoming)
			}
		},
		"message": func(t *rapid.T) {
			vm := b.vm()
			from, attempt, lease := b.token(vm)
			kind := rapid.SampledFrom([]negotiate.Kind{negotiate.Commit, negotiate.Abort, negotiate.Status}).Draw(t, "kind")
			b.step(negotiate.Received{From: from, Message: negotiate.Message{Kind: kind, VM: vm, Attempt: attempt, Lease: lease}})
		},
		"prepare": func(t *rapid.T) {
			vm := b.vm()
			from, attempt, lease := b.token(vm)
			e, _ := b.dest.Entry(vm)
			allowed := false
			for _, ef := range b.step(negotiate.PrepareCheck{VM: vm, Source: from, Attempt: attempt, Lease: lease}) {
				_, yes := ef.(negotiate.AllowPrepare)
				allowed = allowed || yes
			}
			r := e.Record
			if allowed != (r.State == negotiate.DestHeld && r.Source == from && r.Attempt == attempt && r.Lease == lease && b.now < e.Expires) {
				t.Fatalf("HookRefusesStale: allowed=%t for %s %d/%s at %s, entry %+v", allowed, from, attempt, lease, b.now, e)
			}
		},
		"copy": func(t *rapid.T) {
			vm := b.vm()
			_, attempt, lease := b.token(vm)
			b.step(negotiate.CopyAppeared{VM: vm, Attempt: attempt, Lease: lease, State: rapid.SampledFrom(copies).Draw(t, "state"), Query: b.query()})
		},
		"gone":   func(*rapid.T) { b.step(negotiate.CopyGone{VM: b.vm(), Query: b.query()}) },
		"silent": func(*rapid.T) { b.step(negotiate.CopyLost{VM: b.vm(), Query: b.query()}) },
		"failed": func(*rapid.T) { b.step(negotiate.ActFailed{VM: b.vm(), Err: "no"}) },
		"timer": func(t *rapid.T) {
			kind := rapid.SampledFrom([]negotiate.TimerKind{negotiate.TimerLease, negotiate.TimerPaused, negotiate.TimerRetry}).Draw(t, "kind")
			vm := b.vm()
			e, _ := b.dest.Entry(vm)
			for _, ef := range b.step(negotiate.TimerFired{Kind: kind, VM: vm}) {
				if act(ef) {
					t.Fatalf("NoActionOnTimeout: %s does %T", kind, ef)
				}
			}
			if after, ok := b.dest.Entry(vm); ok && e.Copy != negotiate.CopyNone && e.Record.State == negotiate.DestIncoming && after.Record.State != e.Record.State {
				t.Fatalf("a copy expired: %+v became %+v", e, after)
			}
		},
		"wait": func(t *rapid.T) { b.now += time.Duration(rapid.IntRange(1, 40).Draw(t, "seconds")) * time.Second },
		"restart": func(*rapid.T) {
			var records []negotiate.DestRecord
			for _, vm := range slices.Sorted(maps.Keys(b.journal)) {
				records = append(records, b.journal[vm])
			}
			var effects []negotiate.Effect
			b.dest, effects = negotiate.RecoverDestination("B", b.limits, records, negotiate.Moment{Now: b.now})
			for _, e := range effects { // several lists in one
				b.perform(0, e, false)
			}
			b.slots()
		},
	}
}

func (b *book) query() uint64 {
	return rapid.Uint64Range(0, b.dest.Query).Draw(b.t, "query")
}

// TestJournalBeforeAct: whatever happens in whatever order, no act comes before
// its durable record; tokens only grow; slots are conserved; a timer changes no
// run state; the hook lets in only what is held.
func TestJournalBeforeAct(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { t.Repeat(newBook(t).actions()) })
}

// TestLeaseExpires: after any history, without copies, every slot is free again
// within two lives of a lease.
func TestLeaseExpires(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBook(t)
		actions := b.actions()
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			actions[rapid.SampledFrom([]string{"reserve", "prepare", "wait", "timer", "restart"}).Draw(t, "action")](t)
		}
		for range 3 {
			b.now += 31 * time.Second
			for _, l := range b.dest.Leases() {
				for _, e := range b.step(negotiate.TimerFired{Kind: negotiate.TimerLease, VM: l.VM}) {
					if q, ok := e.(negotiate.QueryCopy); ok {
						b.step(negotiate.CopyGone{VM: l.VM, Query: q.Query})
					}
				}
			}
		}
		if left := b.dest.Leases(); len(left) > 0 {
			t.Fatalf("LeaseExpires: still held: %+v", left)
		}
	})
}

// TestNoActionOnTimeout: no timer makes a source decide or act on a run state; it
// may only give up what was not started, or repeat what its journal allows.
func TestNoActionOnTimeout(t *testing.T) {
	kinds := []negotiate.TimerKind{negotiate.TimerReserve, negotiate.TimerBind, negotiate.TimerCopy, negotiate.TimerAsk, negotiate.TimerResend}
	rapid.Check(t, func(t *rapid.T) {
		s := negotiate.NewSource("A", negotiate.Timing{})
		var journal negotiate.SourceRecord
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if journal.Attempt > 0 && rapid.IntRange(0, 9).Draw(t, "restart") == 0 {
				var effects []negotiate.Effect
				s, effects = negotiate.RecoverSource("A", negotiate.Timing{}, journal)
				for _, e := range effects {
					if p, ok := e.(negotiate.PersistSource); ok {
						journal = p.Record
					}
					checkSourceEffect(t, e, journal)
				}
			}
			ev := drawSourceEvent(t, s, kinds)
			before := journal
			var effects []negotiate.Effect
			s, effects = s.Step(negotiate.Moment{Random: rapid.Uint64().Draw(t, "random")}, ev)
			_, timer := ev.(negotiate.TimerFired)
			for i, e := range effects {
				if p, ok := e.(negotiate.PersistSource); ok {
					if i != 0 || p.Record.Attempt < journal.Attempt {
						t.Fatalf("JournalBeforeAct, TokenMonotonic: effect %d is %+v after %+v", i, p, journal)
					}
					journal = p.Record
				}
				checkSourceEffect(t, e, journal)
				if timer && act(e) {
					t.Fatalf("NoActionOnTimeout: %v does %T", ev, e)
				}
			}
			if timer && before.State == negotiate.SourceMigrating && journal.State != before.State {
				t.Fatalf("NoActionOnTimeout: %v made %s of %s", ev, journal.State, before.State)
			}
		}
	})
}

func drawSourceEvent(t *rapid.T, s negotiate.Source, kinds []negotiate.TimerKind) negotiate.SourceEvent {
	attempt, lease := s.Record.Attempt, s.Record.Lease
	reply := func(k negotiate.Kind) negotiate.SourceEvent {
		m := negotiate.Message{Kind: k, VM: "vm", Attempt: attempt, Lease: lease}
		switch k {
		case negotiate.Granted:
			m.TTLMS = 30_000
			if lease == "" {
				m.Lease = "l"
			}
		case negotiate.Refused:
			m.Refusal = &negotiate.Refusal{Kind: rapid.SampledFrom([]negotiate.RefusalKind{negotiate.RefusedBusy,
				negotiate.RefusedCopyMissing, negotiate.RefusedCopyRunning, negotiate.RefusedUnknownToken}).Draw(t, "refusal")}
		case negotiate.StatusReply:
			m.Copy = rapid.SampledFrom([]negotiate.CopyState{negotiate.CopyNone, negotiate.CopyIn, negotiate.CopyPaused,
				negotiate.CopyRunning, negotiate.CopyUnknown}).Draw(t, "copy")
		}
		return negotiate.Received{From: s.Record.To, Message: m}
	}
	switch rapid.SampledFrom([]string{"start", "reply", "reply", "stamped", "done", "job", "local", "local", "timer", "timer"}).Draw(t, "event") {
	case "start":
		guard := rapid.SampledFrom([]negotiate.Guard{negotiate.GuardPaused, negotiate.GuardLock, negotiate.GuardPlain}).Draw(t, "guard")
		return negotiate.Start{VM: "vm", Operator: "ann", CopyLimit: time.Minute, Candidates: []negotiate.Candidate{{Host: "B", Guard: guard}, {Host: "C", Guard: guard}}}
	case "reply":
		return reply(rapid.SampledFrom([]negotiate.Kind{negotiate.Granted, negotiate.Refused, negotiate.StatusReply, negotiate.Ack}).Draw(t, "kind"))
	case "stamped":
		return negotiate.Stamped{VM: "vm", Attempt: attempt, Lease: rapid.SampledFrom([]negotiate.LeaseID{lease, ""}).Draw(t, "lease"), Err: rapid.SampledFrom([]string{"", "", "no"}).Draw(t, "err")}
	case "done":
		return negotiate.MigrationDone{VM: "vm", Err: rapid.SampledFrom([]string{"", "no"}).Draw(t, "err")}
	case "job":
		return negotiate.MigrationStillRunning{VM: "vm", Query: s.Query}
	case "local":
		return negotiate.LocalState{VM: "vm", Query: s.Query, State: rapid.SampledFrom([]negotiate.LocalRun{negotiate.LocalUnknown,
			negotiate.LocalRunning, negotiate.LocalPaused, negotiate.LocalGone, negotiate.LocalMigrated}).Draw(t, "state")}
	}
	return negotiate.TimerFired{Kind: rapid.SampledFrom(kinds).Draw(t, "timer"), VM: "vm"}
}

func checkSourceEffect(t *rapid.T, e negotiate.Effect, r negotiate.SourceRecord) {
	bad := false
	switch e := e.(type) {
	case negotiate.StartMigration:
		bad = r.State != negotiate.SourceMigrating || r.Lease != e.Lease || r.Attempt != e.Attempt
	case negotiate.ResumeLocal:
		bad = r.State != negotiate.SourceAborted || !r.Resume
	case negotiate.DestroyLocal:
		bad = r.State == negotiate.SourceAborted && r.Closed || !r.Discard
	case negotiate.Send:
		if _, err := e.Message.Encode(); err != nil {
			t.Fatalf("message cannot be sent: %v", err)
		}
		switch e.Message.Kind {
		case negotiate.Commit:
			bad = r.State != negotiate.SourceCommitted
		case negotiate.Abort:
			bad = e.Message.Lease == r.Lease && r.Lease != "" && r.State != negotiate.SourceAborted
		}
	}
	if bad {
		t.Fatalf("JournalBeforeAct: %+v with a journal of %+v", e, r)
	}
}
