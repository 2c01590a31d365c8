package simulation

import (
	"maps"
	"slices"
	"time"

	"headroom/planner"
	"headroom/planner/negotiate"
	"headroom/tests/model"
)

// freshAgent is an agent that has just started, before it reads its journal.
func (w *world) freshAgent(h *host, life int) agent {
	return agent{alive: true, life: life, boot: w.now, since: w.now, sources: map[int]negotiate.Source{},
		dest: negotiate.NewDestination(h.id, w.limits), timers: map[timerKey]int{}, needs: map[asked]planner.Need{}}
}

// post gives an agent something to hear. What is for an earlier life of it, or
// comes while it is dead, is lost.
func (w *world) post(h *host, in input) {
	if !h.agent.alive {
		return
	}
	h.agent.inbox = append(h.agent.inbox, in)
	w.turn(h)
}

// turn lets the agent hear the next event, unless it is writing.
func (w *world) turn(h *host) {
	for h.agent.alive && !h.agent.busy && len(h.agent.inbox) > 0 && w.broken == "" {
		in := h.agent.inbox[0]
		h.agent.inbox = h.agent.inbox[1:]
		w.step(h, in)
	}
}

// step runs one event through a state machine, as agent/handover does: the new
// state holds when its record is durable, and not at all if that fails.
func (w *world) step(h *host, in input) {
	st := &stepping{w: w, h: h, in: in}
	st.judge()
	at := negotiate.Moment{Now: w.local(h), Random: w.rng.Uint64()}
	st.now(at, false)
	if !persists(st.effects) {
		st.perform()
		return
	}
	life := h.agent.life
	latency := w.between(50*time.Microsecond, 2*time.Millisecond) + h.disk.slow
	h.agent.busy, h.agent.writing = true, st.write
	w.after(latency, func() {
		if h.agent.life != life || !h.agent.alive {
			return
		}
		h.agent.busy, h.agent.writing = false, nil
		if h.disk.full && !w.quiet {
			w.tracef("%s the disk is full", h.id)
			st.now(at, true)
		}
		st.perform()
		w.turn(h)
	})
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

// stepping is one step and what is done for it.
type stepping struct {
	w        *world
	h        *host
	in       input
	failed   bool
	timer    bool
	effects  []negotiate.Effect
	commit   func() // puts the new state in force
	transit  negotiate.Transition
	answered bool
}

// judge fills in what the agent knows and the state machine asks for.
func (s *stepping) judge() {
	if r, ok := s.in.dst.(negotiate.Received); ok && r.Message.Kind == negotiate.Reserve {
		r.Admission = s.w.admit(s.h, r)
		s.in.dst = r
	}
	switch ev := s.in.dst.(type) {
	case negotiate.TimerFired:
		s.timer = true
		s.in.dst = s.w.hastened(s.h, ev)
	}
	if _, ok := s.in.src.(negotiate.TimerFired); ok {
		s.timer = true
	}
}

// hastened is the mutant that takes a time-out for a Commit.
func (w *world) hastened(h *host, t negotiate.TimerFired) negotiate.DestinationEvent {
	e, ok := h.agent.dest.Entry(t.VM)
	if w.cfg.Mutant != model.MutantActOnTimeouts || t.Kind != negotiate.TimerPaused || !ok {
		return t
	}
	m := negotiate.Message{Version: 1, Kind: negotiate.Commit, VM: t.VM, Attempt: e.Record.Attempt, Lease: e.Record.Lease}
	return negotiate.Received{From: e.Record.Source, Message: m}
}

// now computes the step; with failed the event is that the record could not be
// written.
func (s *stepping) now(at negotiate.Moment, failed bool) {
	h, v := s.h, s.in.vm
	id := s.w.vms[v].id
	s.failed = failed
	if s.in.src != nil {
		old, known := h.agent.sources[v]
		if !known {
			old = negotiate.NewSource(h.id, s.w.timing)
		}
		ev := s.in.src
		if failed {
			ev = negotiate.PersistFailed{VM: id, Err: "disk full"}
		}
		next, effects := old.Step(at, ev)
		s.effects, s.commit = effects, func() { h.agent.sources[v] = next }
		if w := s.w.cfg; w.Trace != nil || w.Record != nil { // describing costs as much as stepping
			s.transit = negotiate.SourceTransition(old, ev, next, effects)
		}
		return
	}
	ev := s.in.dst
	if failed {
		ev = negotiate.PersistFailed{VM: id, Err: "disk full"}
	}
	old := h.agent.dest
	next, effects := old.Step(at, ev)
	s.effects, s.commit = effects, func() { h.agent.dest = next }
	if w := s.w.cfg; w.Trace != nil || w.Record != nil {
		s.transit = negotiate.DestinationTransition(id, old, ev, next, effects)
	}
}

// write is the record reaching the disk.
func (s *stepping) write() {
	switch e := s.effects[0].(type) {
	case negotiate.PersistSource:
		s.w.persistSource(s.h, e.Record, s.timer)
	case negotiate.PersistDestination:
		s.w.persistDest(s.h, e.Record, s.timer)
	}
}

// perform does the effects in order. The agent may die before any of them, and
// after the last.
func (s *stepping) perform() {
	w, h := s.w, s.h
	s.trace()
	dies := -1
	if w.chance(w.rates.crash) {
		dies = w.rng.IntN(len(s.effects) + 1)
	}
	if dies != 0 {
		s.commit()
		w.record(s.transit)
	}
	for i, e := range s.effects {
		if i == dies {
			break
		}
		if i == 0 && persists(s.effects) {
			s.write()
			continue
		}
		if _, late := e.(negotiate.PersistSource); late {
			w.violate("JournalBeforeAct: a Persist is effect %d of its list", i)
		}
		w.effect(h, s.in, e, s)
	}
	if s.in.hooked != nil && !s.answered && dies < 0 {
		s.in.hooked(false)
	}
	if dies >= 0 {
		w.tracef("%s the agent dies after %d of %d effects", h.id, dies, len(s.effects))
		w.crashAgent(h)
	}
	w.checkHost(h, s.in.vm)
}

// record hands a step to whoever follows the run.
func (w *world) record(t negotiate.Transition) {
	if w.cfg.Record != nil {
		w.cfg.Record(t)
	}
}

func (s *stepping) trace() {
	if s.w.cfg.Trace == nil {
		return
	}
	s.w.tracef("%s %s", s.h.id, s.transit)
}

// crashAgent kills the agent: all but its journal is gone. The record that it was
// writing may have reached the disk.
func (w *world) crashAgent(h *host) {
	if !h.agent.alive {
		return
	}
	w.stats.Crashes++
	if h.agent.writing != nil && w.rng.IntN(2) == 0 && !h.disk.full {
		h.agent.writing()
	}
	life := h.agent.life
	h.agent = agent{life: life}
	if w.cfg.Mutant == model.MutantMemoryJournal {
		clear(h.dstJournal)
	}
	w.after(w.between(100*time.Millisecond, 20*time.Second), func() { w.restartAgent(h) })
}

// restartAgent recovers both sides from the encoded journal, and may die again
// while it does.
func (w *world) restartAgent(h *host) {
	if h.agent.alive || !h.up {
		return
	}
	h.agent = w.freshAgent(h, h.agent.life+1)
	w.tracef("%s the agent restarts", h.id)
	at := negotiate.Moment{Now: 0, Random: w.rng.Uint64()}
	var records []negotiate.DestRecord
	for _, v := range slices.Sorted(maps.Keys(h.dstJournal)) {
		records = append(records, throughJournal(h.dstJournal[v], negotiate.DecodeDestRecord))
	}
	var effects []negotiate.Effect
	h.agent.dest, effects = negotiate.RecoverDestination(h.id, w.limits, records, at)
	for _, r := range records {
		w.record(negotiate.RecoveredDestination(r.VM, h.agent.dest, effects))
	}
	if !w.recovering(h, effects) {
		return
	}
	for _, v := range slices.Sorted(maps.Keys(h.srcJournal)) {
		s, effects := negotiate.RecoverSource(h.id, w.timing, throughJournal(h.srcJournal[v], negotiate.DecodeSourceRecord))
		h.agent.sources[v] = s
		w.record(negotiate.RecoveredSource(s, effects))
		if !w.recovering(h, effects) {
			return
		}
	}
	for _, v := range slices.Sorted(maps.Keys(h.domains)) {
		w.copyChanged(h, v)
	}
}

// recovering performs the effects of a recovery; it reports false when the agent
// died of it.
func (w *world) recovering(h *host, effects []negotiate.Effect) bool {
	dies := -1
	if w.chance(w.rates.crash) {
		dies = w.rng.IntN(len(effects) + 1)
	}
	for i, e := range effects {
		if i == dies {
			break
		}
		v, _ := w.subject(e)
		switch e := e.(type) {
		case negotiate.PersistSource:
			w.persistSource(h, e.Record, false)
		case negotiate.PersistDestination:
			w.persistDest(h, e.Record, false)
		default:
			w.effect(h, input{vm: v}, e, nil)
		}
	}
	if dies >= 0 {
		w.crashAgent(h)
	}
	return dies < 0
}

// throughJournal encodes and decodes, as a restart does.
func throughJournal[R interface{ Encode() ([]byte, error) }](rec R, decode func([]byte) (R, error)) R {
	b, err := rec.Encode()
	if err != nil {
		panic(err) // the state machine made a record that cannot be written
	}
	back, err := decode(b)
	if err != nil {
		panic(err)
	}
	return back
}
