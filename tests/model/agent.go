package model

import (
	"fmt"
	"slices"
	"time"

	"headroom/planner/negotiate"
)

// violate notes the first broken invariant.
func (w *World) violate(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
		w.tracef("VIOLATION %s", w.broken)
	}
}

func (w *World) toSource(h, v int, ev negotiate.SourceEvent) {
	if w.Hosts[h].Agent {
		w.Hosts[h].Inbox = append(w.Hosts[h].Inbox, Input{Source: ev, VM: v})
	}
}

func (w *World) toDest(h, v int, ev negotiate.DestinationEvent) {
	if w.Hosts[h].Agent {
		w.Hosts[h].Inbox = append(w.Hosts[h].Inbox, Input{Destination: ev, VM: v})
	}
}

// moment is now, on the host's own clock. An untimed world stands at the due
// time of the timer that fires, and at zero otherwise.
func (w *World) moment(h int, due time.Duration) negotiate.Moment {
	if w.cfg.Untimed {
		return negotiate.Moment{Now: due}
	}
	return negotiate.Moment{Now: w.Clock - w.Hosts[h].Boot, Random: w.random()}
}

// journalFails as a crash point lets the step's Persist fail.
const journalFails = -2

// run holds what the effects of one step have in common.
type run struct {
	w       *World
	host    int
	vm      int
	source  bool
	timer   bool // the step was caused by a timer
	now     time.Duration
	allowed bool // the hook's answer
}

// stepSource gives an event to a source. With crash >= 0 the agent dies after
// that many effects.
func (w *World) stepSource(h, v int, ev negotiate.SourceEvent, crash int, due time.Duration) {
	host := &w.Hosts[h]
	_, timer := ev.(negotiate.TimerFired)
	if w.cfg.Trace != nil { // describing costs more than the step
		w.tracef("%s source %s: %s", host.ID, w.VMs[v].ID, describe(ev))
	}
	at := w.moment(h, due)
	next, effects := host.Sources[v].Step(at, ev)
	if crash == journalFails && persists(effects) {
		w.Budget.JournalFailures--
		ev, crash = negotiate.PersistFailed{VM: w.VMs[v].ID, Err: "disk full"}, -1
		w.tracef("  the journal fails")
		next, effects = host.Sources[v].Step(at, ev)
	}
	if w.cfg.Record != nil {
		w.cfg.Record(negotiate.SourceTransition(host.Sources[v], ev, next, effects))
	}
	host.Sources[v] = next
	r := &run{w: w, host: h, vm: v, source: true, timer: timer, now: at.Now}
	r.all(effects, crash)
}

// stepDest gives an event to a destination; it reports the hook's answer.
func (w *World) stepDest(h int, ev negotiate.DestinationEvent, timer bool, crash int) bool {
	return w.stepDestAt(h, ev, timer, crash, 0)
}

func (w *World) stepDestAt(h int, ev negotiate.DestinationEvent, timer bool, crash int, due time.Duration) bool {
	host := &w.Hosts[h]
	if w.cfg.Trace != nil {
		w.tracef("%s destination: %s", host.ID, describe(ev))
	}
	at := w.moment(h, due)
	next, effects := host.Dest.Step(at, ev)
	if crash == journalFails && persists(effects) {
		w.Budget.JournalFailures--
		id := effects[0].(negotiate.PersistDestination).Record.VM
		w.tracef("  the journal fails")
		crash = -1
		next, effects = host.Dest.Step(at, negotiate.PersistFailed{VM: id, Err: "disk full"})
	}
	if id, ok := subjectOf(ev); ok && w.cfg.Record != nil {
		w.cfg.Record(negotiate.DestinationTransition(id, host.Dest, ev, next, effects))
	}
	host.Dest = next
	r := &run{w: w, host: h, timer: timer, now: at.Now}
	r.all(effects, crash)
	return r.allowed
}

// subjectOf is the VM that a destination's event is about.
func subjectOf(ev negotiate.DestinationEvent) (negotiate.VMID, bool) {
	switch e := ev.(type) {
	case negotiate.Received:
		return e.Message.VM, true
	case negotiate.PrepareCheck:
		return e.VM, true
	case negotiate.CopyAppeared:
		return e.VM, true
	case negotiate.CopyGone:
		return e.VM, true
	case negotiate.CopyLost:
		return e.VM, true
	case negotiate.ActFailed:
		return e.VM, true
	case negotiate.TimerFired:
		return e.VM, true
	}
	return "", false
}

func persists(effects []negotiate.Effect) bool {
	if len(effects) == 0 {
		return false
	}
	switch effects[0].(type) {
	case negotiate.PersistSource, negotiate.PersistDestination:
		return true
	}
	return false
}

func (r *run) all(effects []negotiate.Effect, crash int) {
	for i, e := range effects {
		if i == crash {
			r.w.tracef("  the agent of %s dies here", r.w.Hosts[r.host].ID)
			r.w.Budget.AgentCrashes--
			r.w.crashAgent(r.host)
			return
		}
		switch e.(type) {
		case negotiate.PersistSource, negotiate.PersistDestination:
			if i != 0 {
				r.w.violate("JournalBeforeAct: a Persist is effect %d of its list", i)
			}
		}
		if r.w.cfg.Trace != nil {
			r.w.tracef("  -> %s", describe(e))
		}
		r.perform(e)
	}
}

func (r *run) perform(e negotiate.Effect) {
	switch e := e.(type) {
	case negotiate.PersistSource:
		r.persistSource(e.Record)
	case negotiate.PersistDestination:
		r.persistDest(e.Record)
	case negotiate.ForgetDestination:
		r.w.Hosts[r.host].DestJournal[r.w.vm(e.VM)] = negotiate.DestRecord{}
	case negotiate.Send:
		r.checkSend(e.Message)
		r.w.post(Packet{r.host, r.w.host(e.To), e.Message})
	case negotiate.SetTimer:
		r.w.setTimer(r.host, Timer{r.source, e.Kind, r.w.vm(e.VM), r.now + e.After})
	case negotiate.AllowPrepare:
		r.allowed = true
	case negotiate.Stamp, negotiate.StartMigration, negotiate.AbortMigration, negotiate.QueryLocal,
		negotiate.ResumeLocal, negotiate.DestroyLocal:
		r.actLocal(e)
	case negotiate.QueryCopy, negotiate.ResumeCopy, negotiate.DestroyCopy, negotiate.StampOwned:
		r.actCopy(e)
	}
}

// actLocal is libvirt's work at the source.
func (r *run) actLocal(e negotiate.Effect) {
	w, host := r.w, &r.w.Hosts[r.host]
	d, j := &host.Domains[r.vm], &host.Jobs[r.vm]
	free := host.Libvirtd && j.Phase < Copying
	switch e := e.(type) {
	case negotiate.Stamp:
		err := ""
		if !free || d.Run == None {
			err = "libvirt cannot change the domain now"
		} else {
			d.Attempt, d.Lease, d.From = e.Attempt, e.Lease, e.From
		}
		w.toSource(r.host, r.vm, negotiate.Stamped{VM: e.VM, Attempt: e.Attempt, Lease: e.Lease, Err: err})
	case negotiate.StartMigration:
		r.checkJournal(host.SourceJournal[r.vm], negotiate.SourceMigrating, e)
		if j.Phase != NoJob || !host.Libvirtd {
			w.toSource(r.host, r.vm, negotiate.MigrationDone{VM: e.VM, Err: "libvirt refuses"})
			return
		}
		*j = Job{Phase: Called, To: w.host(e.To), Session: e.Attempt, Paused: e.Paused, Waiting: true}
	case negotiate.AbortMigration:
		if j.Phase == Called || j.Phase == Copying {
			j.Cut = true
		}
	case negotiate.QueryLocal:
		w.toSource(r.host, r.vm, w.lookLocal(r.host, r.vm, e.Query))
	case negotiate.ResumeLocal:
		r.checkJournal(host.SourceJournal[r.vm], negotiate.SourceAborted, e)
		if free && d.Run == Paused {
			w.startRunning(r.host, r.vm, false)
		}
		w.toSource(r.host, r.vm, w.lookLocal(r.host, r.vm, e.Query))
	case negotiate.DestroyLocal:
		if rec := host.SourceJournal[r.vm]; !rec.Discard {
			w.violate("JournalBeforeAct: DestroyLocal with a journal of %s", rec.State)
		}
		if free && d.Run == Paused {
			*d = Domain{Left: true}
		}
		w.toSource(r.host, r.vm, w.lookLocal(r.host, r.vm, e.Query))
	}
}

// actCopy is libvirt's work at the destination.
func (r *run) actCopy(e negotiate.Effect) {
	w, host := r.w, &r.w.Hosts[r.host]
	switch e := e.(type) {
	case negotiate.StampOwned:
		if d := &host.Domains[w.vm(e.VM)]; host.Libvirtd && d.Run != None {
			d.Lease = ""
		}
	case negotiate.QueryCopy:
		v := w.vm(e.VM)
		w.toDest(r.host, v, w.lookCopy(r.host, v, e.Query))
	case negotiate.ResumeCopy:
		v := w.vm(e.VM)
		d := &host.Domains[v]
		rec := host.DestJournal[v]
		if rec.State != negotiate.DestCommitted || rec.Attempt != e.Attempt || rec.Lease != e.Lease {
			w.violate("JournalBeforeAct: ResumeCopy %d/%s with a journal of %d/%s %s", e.Attempt, e.Lease, rec.Attempt, rec.Lease, rec.State)
		}
		mine := host.Libvirtd && d.Attempt == e.Attempt && d.Lease == e.Lease
		if mine && (d.Run == Running || d.Run == Paused && w.startRunning(r.host, v, false)) {
			w.toDest(r.host, v, w.lookCopy(r.host, v, e.Query))
			return
		}
		w.toDest(r.host, v, negotiate.ActFailed{VM: e.VM, Err: "cannot resume"})
	case negotiate.DestroyCopy:
		v := w.vm(e.VM)
		d := host.Domains[v]
		rec := host.DestJournal[v]
		allowed := rec.State == negotiate.DestAborting || rec.State == negotiate.DestReleased && rec.Aborted
		if !allowed || rec.Attempt != e.Attempt || rec.Lease != e.Lease {
			w.violate("JournalBeforeAct: DestroyCopy %d/%s with a journal of %d/%s %s", e.Attempt, e.Lease, rec.Attempt, rec.Lease, rec.State)
		}
		visible := d.Run == Incoming || d.Run == Ready || d.Run == Paused
		mine := d.Attempt == e.Attempt && d.Lease == e.Lease || w.cfg.Mutant == MutantTokensNotCompared
		if host.Libvirtd && visible && mine {
			w.dropCopy(r.host, v, e.Query)
			return
		}
		w.toDest(r.host, v, w.lookCopy(r.host, v, e.Query))
	}
}

func (r *run) checkJournal(rec negotiate.SourceRecord, want negotiate.SourceState, e negotiate.Effect) {
	if rec.State != want || want == negotiate.SourceAborted && !rec.Resume {
		r.w.violate("JournalBeforeAct: %T with a journal of %s", e, rec.State)
	}
}

// checkSend: a promise is sent only from the journal.
func (r *run) checkSend(m negotiate.Message) {
	host, v := &r.w.Hosts[r.host], r.w.vm(m.VM)
	if err := PromiseRecorded(m, host.SourceJournal[v], host.DestJournal[v]); err != nil {
		r.w.violate("JournalBeforeAct: %v", err)
	}
}

func (r *run) persistSource(rec negotiate.SourceRecord) {
	old := &r.w.Hosts[r.host].SourceJournal[r.vm]
	if rec.Attempt < old.Attempt {
		r.w.violate("TokenMonotonic: source record of attempt %d after %d", rec.Attempt, old.Attempt)
	}
	decided := rec.State == negotiate.SourceCommitted || rec.State == negotiate.SourceAborted && old.State == negotiate.SourceMigrating
	if r.timer && decided && rec.State != old.State {
		r.w.violate("NoActionOnTimeout: a timer turned %s into %s", old.State, rec.State)
	}
	*old = rec
}

func (r *run) persistDest(rec negotiate.DestRecord) {
	v := r.w.vm(rec.VM)
	old := &r.w.Hosts[r.host].DestJournal[v]
	if rec.Attempt < old.Attempt {
		r.w.violate("TokenMonotonic: destination record of attempt %d after %d", rec.Attempt, old.Attempt)
	}
	if r.timer && !(rec.State == negotiate.DestReleased && old.State == negotiate.DestHeld) {
		r.w.violate("NoActionOnTimeout: a timer turned %s into %s", old.State, rec.State)
	}
	*old = rec
}

// post puts a message on the network. Copies of a message that is under way
// already are one: the network repeats by itself.
func (w *World) post(p Packet) {
	same := func(q Packet) bool { return q.From == p.From && q.To == p.To && sameMessage(q.Message, p.Message) }
	if !slices.ContainsFunc(w.Net, same) {
		w.Net = append(w.Net, p)
	}
}

func sameMessage(a, b negotiate.Message) bool {
	return a.Kind == b.Kind && a.VM == b.VM && a.Attempt == b.Attempt && a.Lease == b.Lease && a.Copy == b.Copy &&
		a.Record == b.Record && (a.Refusal == nil) == (b.Refusal == nil) && (a.Refusal == nil || a.Refusal.Kind == b.Refusal.Kind)
}

func (w *World) setTimer(h int, t Timer) {
	host := &w.Hosts[h]
	for i, o := range host.Timers {
		if o.Source == t.Source && o.Kind == t.Kind && o.VM == t.VM {
			host.Timers[i] = t
			return
		}
	}
	host.Timers = append(host.Timers, t)
}

// crashAgent kills the agent: all but its journal is gone.
func (w *World) crashAgent(h int) {
	host := &w.Hosts[h]
	host.Agent = false
	host.Inbox, host.Timers = nil, nil
	host.Dest = negotiate.Destination{}
	for v := range w.VMs {
		host.Sources[v] = negotiate.Source{}
		host.Jobs[v].Waiting = false
		if w.cfg.Mutant == MutantMemoryJournal {
			host.DestJournal[v] = negotiate.DestRecord{}
		}
	}
}

// restartAgent recovers both sides from the encoded journal. With crash >= 0 it
// dies again after so many effects of the recovery of the first VM.
func (w *World) restartAgent(h, crash int) {
	host := &w.Hosts[h]
	w.tracef("%s agent restarts", host.ID)
	host.Agent, host.Boot = true, w.Clock
	var records []negotiate.DestRecord
	for v := range w.VMs {
		if rec := host.DestJournal[v]; rec.Attempt != 0 {
			records = append(records, throughJournal(rec, negotiate.DecodeDestRecord))
		}
	}
	at := w.moment(h, 0)
	var effects []negotiate.Effect
	host.Dest, effects = negotiate.RecoverDestination(host.ID, w.cfg.Limits, records, at)
	for _, e := range effects { // several records, so several lists in one
		if w.cfg.Trace != nil {
			w.tracef("  -> %s", describe(e))
		}
		(&run{w: w, host: h, now: at.Now}).perform(e)
	}
	for v := range w.VMs {
		rec := host.SourceJournal[v]
		if rec.Attempt == 0 {
			host.Sources[v] = negotiate.NewSource(host.ID, w.cfg.Timing)
			continue
		}
		host.Sources[v], effects = negotiate.RecoverSource(host.ID, w.cfg.Timing, throughJournal(rec, negotiate.DecodeSourceRecord))
		(&run{w: w, host: h, vm: v, source: true, now: at.Now}).all(effects, crash)
		if !host.Agent {
			return
		}
	}
}

// throughJournal encodes and decodes, as a restart does.
func throughJournal[R interface{ Encode() ([]byte, error) }](rec R, decode func([]byte) (R, error)) R {
	b, err := rec.Encode()
	if err != nil {
		panic(err)
	}
	back, err := decode(b)
	if err != nil {
		panic(err)
	}
	return back
}

// idle reports whether a timer would have no effect if it fired now.
func (w *World) idle(h int, t Timer) bool {
	host := &w.Hosts[h]
	at := negotiate.Moment{Now: t.Due}
	ev := negotiate.TimerFired{Kind: t.Kind, VM: w.VMs[t.VM].ID}
	var effects []negotiate.Effect
	if t.Source {
		_, effects = host.Sources[t.VM].Step(at, ev)
	} else {
		_, effects = host.Dest.Step(at, ev)
	}
	return len(effects) == 0
}
