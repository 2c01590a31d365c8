package negotiate

import (
	"fmt"
	"slices"
	"time"
)

// Phase is where an attempt stands at its source.
type Phase string

// The phases of a source. Reserving and binding are journalled as «reserving»,
// migrating and deciding as «migrating».
const (
	PhaseIdle       Phase = ""
	PhaseReserving  Phase = "reserving"
	PhaseBinding    Phase = "binding"
	PhaseMigrating  Phase = "migrating"
	PhaseDeciding   Phase = "deciding"
	PhaseCommitting Phase = "committing"
	PhaseAborting   Phase = "aborting"
)

// Source is the state of one VM at the host that moves it. Make it with
// NewSource or RecoverSource. The fields are for showing; only Step changes them.
type Source struct {
	Host   HostID
	Timing Timing
	Phase  Phase
	Record SourceRecord // of the last attempt, as journalled or about to be

	Candidates []Candidate
	Next       int // index of the candidate after the one being asked
	Refused    []CandidateResult
	Need       Need
	Failure    string // what libvirt said of the migration
	GrantedAt  time.Duration

	Tries  int       // resends in this phase, for the backoff
	Query  uint64    // number of the last look at libvirt
	Local  LocalRun  // what it showed
	Remote CopyState // what the destination said of its copy
	Clean  bool      // and that it never ran
	Fenced bool      // the stamp is taken back: no migration can start any more

	Acked     bool // the destination confirmed Abort
	Contested bool // the destination's copy runs in spite of our Abort
}

// NewSource is the state of a VM that was never tried, at this host.
func NewSource(host HostID, timing Timing) Source {
	return Source{Host: host, Timing: timing.withDefaults()}
}

// Busy reports whether an attempt is under way.
func (s Source) Busy() bool { return s.Phase != PhaseIdle }

// Step returns the state after the event and the effects to perform. An event
// that means nothing in the present phase changes nothing.
func (s Source) Step(at Moment, ev SourceEvent) (Source, []Effect) {
	switch e := ev.(type) {
	case Start:
		return s.start(e)
	case Received:
		return s.received(at, e)
	case Stamped:
		return s.stamped(at, e)
	case MigrationDone:
		return s.migrationDone(e)
	case MigrationStillRunning:
		return s.stillRunning(e)
	case LocalState:
		return s.localState(e)
	case TimerFired:
		return s.timer(at, e)
	case Cancel:
		return s.cancel(e)
	case Override:
		return s.override(e)
	case PersistFailed:
		return s.persistFailed(e)
	}
	return s, nil
}

func (s Source) start(e Start) (Source, []Effect) {
	if s.Busy() {
		return s, s.note("attempt %d is under way: a second one waits", s.Record.Attempt)
	}
	attempt := max(s.Record.Attempt, e.LastAttempt) + 1
	var usable []Candidate
	var refused []CandidateResult
	for _, c := range e.Candidates {
		known := slices.ContainsFunc(usable, func(u Candidate) bool { return u.Host == c.Host })
		switch {
		case c.Host == "" || c.Host == s.Host || known || len(usable) == MaxCandidates:
		case !c.Guard.Valid(), c.Guard == GuardPlain && e.Operator == "":
			refused = append(refused, CandidateResult{c.Host, Refusal{Kind: RefusedNoGuard,
				Text: "neither a disk lock nor a paused hand-over protects the VM; only an operator may move it"}})
		default:
			usable = append(usable, c)
		}
	}
	if len(usable) == 0 {
		return s, []Effect{Done{VM: e.VM, Attempt: s.Record.Attempt, Outcome: OutcomeRefused,
			Reason: "no usable candidate", Refused: refused}}
	}
	s = Source{Host: s.Host, Timing: s.Timing, Query: s.Query, Candidates: usable, Refused: refused,
		Need: e.Need, Record: SourceRecord{
			Version: RecordVersion, VM: e.VM, Attempt: attempt, From: s.Host, State: SourceReserving,
			Autostart: e.Autostart, Operator: e.Operator, CopyLimitMS: e.CopyLimit.Milliseconds(),
		}}
	return s.ask()
}

// ask goes to the next candidate, or ends the attempt when there is none.
func (s Source) ask(before ...Effect) (Source, []Effect) {
	if s.Next >= len(s.Candidates) {
		s.Record.State, s.Record.Lease = SourceAborted, ""
		return s.finish(OutcomeRefused, "no candidate took the VM", before...)
	}
	c := s.Candidates[s.Next]
	s.Next++
	s.Phase, s.Tries = PhaseReserving, 0
	s.Record.To, s.Record.Guard, s.Record.Lease = c.Host, c.Guard, ""
	effects := append([]Effect{PersistSource{s.Record}}, before...)
	return s, append(effects, s.send(Reserve), s.setTimer(TimerReserve, s.Timing.ReserveTimeout))
}

// noAnswer handles the end of the wait for an answer to Reserve. The Abort frees
// a slot whose grant was lost; it has no lease to name, so it can only reach one
// that has no copy.
func (s Source) noAnswer() (Source, []Effect) {
	s.Tries++
	if s.Tries < s.Timing.ReserveTries {
		return s, []Effect{s.send(Reserve), s.setTimer(TimerReserve, s.Timing.ReserveTimeout)}
	}
	s.Refused = appendResult(s.Refused, CandidateResult{s.Record.To, Refusal{Kind: RefusedTimeout,
		Text: fmt.Sprintf("no answer to %d requests", s.Tries)}})
	return s.ask(s.send(Abort))
}

// appendResult keeps a state from sharing its slice with an earlier state.
func appendResult(list []CandidateResult, r CandidateResult) []CandidateResult {
	return append(slices.Clone(list), r)
}

// received sorts the messages. Only the host being negotiated with, quoting the
// attempt, is heard.
func (s Source) received(at Moment, e Received) (Source, []Effect) {
	m := e.Message
	if m.VM != s.Record.VM {
		return s, nil
	}
	if m.Kind == Granted && (m.Attempt != s.Record.Attempt || e.From != s.Record.To || s.Phase != PhaseReserving) {
		return s, s.returnLease(e)
	}
	if e.From != s.Record.To || m.Attempt != s.Record.Attempt {
		return s, s.note("ignored %s of attempt %d from %s", m.Kind, m.Attempt, e.From)
	}
	if s.Phase == PhaseReserving {
		return s.answered(at, m)
	}
	if m.Lease != s.Record.Lease {
		return s, s.note("ignored %s for lease %q", m.Kind, m.Lease)
	}
	switch {
	case m.Kind == StatusReply && s.Phase == PhaseDeciding:
		if m.Copy == CopyUnknown { // asking again at once would help nobody
			return s, nil
		}
		s.Remote, s.Clean = m.Copy, m.NeverRan
		return s.decide()
	case m.Kind == Ack && s.Phase == PhaseCommitting:
		return s.finish(OutcomeMoved, "")
	case m.Kind == Ack && s.Phase == PhaseAborting:
		s.Acked = true
		return s.settleAbort()
	case m.Kind == Refused && s.Phase == PhaseCommitting:
		return s.commitRefused(*m.Refusal)
	case m.Kind == Refused && s.Phase == PhaseAborting:
		return s.abortRefused(*m.Refusal)
	}
	return s, nil
}

// returnLease answers a grant that came too late, so that the slot is not held
// for nothing. If the grant is for the attempt under way and from a former
// candidate, the attempt is not theirs any more. If it is from the present one
// and for another lease, a Reserve came there twice, the second time after the
// lease that we go by had run out.
func (s Source) returnLease(e Received) []Effect {
	m := Message{Version: MessageVersion, Kind: Abort, VM: e.Message.VM, Attempt: e.Message.Attempt, Lease: e.Message.Lease}
	if e.From == s.Record.To && e.Message.Attempt == s.Record.Attempt && e.Message.Lease == s.Record.Lease {
		return nil // a late copy of a grant whose story is over or has its own Abort
	}
	return append(s.note("gave back a late grant of %s for attempt %d", e.From, e.Message.Attempt), Send{e.From, m})
}

// answered handles the answer to Reserve.
func (s Source) answered(at Moment, m Message) (Source, []Effect) {
	switch {
	case m.Kind == Granted:
		s.Phase, s.Record.Lease, s.GrantedAt = PhaseBinding, m.Lease, at.Now
		limit := min(s.Timing.BindLimit, time.Duration(m.TTLMS)*time.Millisecond*2/3)
		var effects []Effect
		if s.Record.Autostart {
			effects = append(effects, Autostart{s.Record.VM, false})
		}
		return s, append(effects, s.stamp(), s.setTimer(TimerBind, limit))
	case m.Kind == Refused:
		s.Refused = appendResult(s.Refused, CandidateResult{s.Record.To, *m.Refusal})
		return s.ask()
	}
	return s, nil
}

// stamped goes on when libvirt holds the token, or when it was taken back.
func (s Source) stamped(at Moment, e Stamped) (Source, []Effect) {
	if e.VM != s.Record.VM || e.Attempt != s.Record.Attempt {
		return s, nil
	}
	switch {
	case s.Phase == PhaseBinding && e.Lease == s.Record.Lease:
		if e.Err != "" {
			return s.giveUp("the VM cannot be stamped: " + e.Err)
		}
		if at.Now-s.GrantedAt > s.Timing.BindLimit {
			return s.giveUp("the lease is too old to start a migration")
		}
		s.Phase, s.Record.State = PhaseMigrating, SourceMigrating
		r := s.Record
		effects := []Effect{PersistSource{r}, StartMigration{VM: r.VM, To: r.To, Attempt: r.Attempt,
			Lease: r.Lease, Guard: r.Guard, Paused: r.Guard == GuardPaused}}
		if r.CopyLimitMS > 0 {
			effects = append(effects, s.setTimer(TimerCopy, s.copyLimit()))
		}
		return s, effects
	case s.Phase == PhaseDeciding && e.Lease == "":
		if e.Err == "" {
			s.Fenced = true
		}
		// Either way libvirt has to be asked again: what it said before the
		// stamp was taken back may be out of date.
		s.Local = LocalUnknown
		if e.Err != "" {
			return s, s.note("the stamp cannot be taken back yet: %s", e.Err)
		}
		return s.query()
	}
	return s, nil
}

// timer handles each timer in the phase that set it.
func (s Source) timer(at Moment, e TimerFired) (Source, []Effect) {
	if e.VM != s.Record.VM {
		return s, nil
	}
	switch {
	case e.Kind == TimerReserve && s.Phase == PhaseReserving:
		return s.noAnswer()
	case e.Kind == TimerBind && s.Phase == PhaseBinding:
		return s.giveUp("the VM could not be stamped in time")
	case e.Kind == TimerCopy && s.Phase == PhaseMigrating:
		return s, append(s.note("the copy takes longer than %s", s.copyLimit()),
			AbortMigration{s.Record.VM}, s.setTimer(TimerCopy, s.copyLimit()))
	case e.Kind == TimerAsk && s.Phase == PhaseMigrating:
		return s.query()
	case e.Kind == TimerAsk && s.Phase == PhaseDeciding:
		return s.askAgain(at)
	case e.Kind == TimerResend:
		return s.resend(at)
	}
	return s, nil
}

// cancel gives up while the VM is surely untouched; later it only asks libvirt to.
func (s Source) cancel(e Cancel) (Source, []Effect) {
	if e.VM != s.Record.VM {
		return s, nil
	}
	switch s.Phase {
	case PhaseReserving, PhaseBinding:
		return s.giveUp(e.Reason)
	case PhaseMigrating:
		return s, []Effect{AbortMigration{s.Record.VM}}
	}
	return s, nil
}

// persistFailed arranges for the lost event to be found out again.
func (s Source) persistFailed(e PersistFailed) (Source, []Effect) {
	effects := []Effect{Alarm{e.VM, "the journal cannot be written: " + e.Err}}
	switch s.Phase {
	case PhaseIdle:
		return s, append(effects, Done{VM: e.VM, Attempt: s.Record.Attempt, Outcome: OutcomeRefused,
			Reason: "the journal cannot be written: " + e.Err})
	case PhaseReserving:
		return s, append(effects, s.setTimer(TimerReserve, s.Timing.ReserveTimeout))
	case PhaseBinding:
		return s, append(effects, s.setTimer(TimerBind, s.Timing.ReserveTimeout))
	case PhaseMigrating, PhaseDeciding:
		return s, append(effects, s.setTimer(TimerAsk, s.Timing.Poll))
	}
	return s, append(effects, s.setTimer(TimerResend, s.Timing.ResendMin))
}

func (s Source) send(kind Kind) Send {
	m := Message{Version: MessageVersion, Kind: kind, VM: s.Record.VM, Attempt: s.Record.Attempt, Lease: s.Record.Lease}
	if kind == Reserve {
		need := s.Need
		m.Guard, m.Need, m.Autostart = s.Record.Guard, &need, s.Record.Autostart
	}
	return Send{s.Record.To, m}
}

func (s Source) copyLimit() time.Duration {
	return time.Duration(s.Record.CopyLimitMS) * time.Millisecond
}

func (s Source) stamp() Stamp {
	return Stamp{s.Record.VM, s.Record.Attempt, s.Record.Lease, s.Host, s.Record.To}
}

// unstamp takes the permission to migrate back.
func (s Source) unstamp() Stamp {
	return Stamp{VM: s.Record.VM, Attempt: s.Record.Attempt, From: s.Host}
}

func (s Source) setTimer(kind TimerKind, after time.Duration) SetTimer {
	return SetTimer{kind, s.Record.VM, after}
}

func (s Source) note(format string, args ...any) []Effect {
	return []Effect{Note{s.Record.VM, fmt.Sprintf(format, args...)}}
}
