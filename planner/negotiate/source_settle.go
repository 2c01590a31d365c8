package negotiate

import "fmt"

// finish closes the attempt: the record keeps the counter and the outcome.
func (s Source) finish(o Outcome, reason string, before ...Effect) (Source, []Effect) {
	s.Record.Closed, s.Record.Resume = true, false
	if reason != "" {
		s.Record.Reason = reason
	}
	done := Done{VM: s.Record.VM, Attempt: s.Record.Attempt, Outcome: o, To: s.Record.To,
		Reason: s.Record.Reason, Refused: s.Refused}
	effects := append([]Effect{PersistSource{s.Record}}, before...)
	s = Source{Host: s.Host, Timing: s.Timing, Query: s.Query, Record: s.Record}
	return s, append(effects, done)
}

// resend repeats the decision until the destination has heard it.
func (s Source) resend(at Moment) (Source, []Effect) {
	if s.Phase != PhaseCommitting && s.Phase != PhaseAborting {
		return s, nil
	}
	s.Tries++
	var effects []Effect
	if s.Record.Resume || s.Contested || (s.Phase == PhaseCommitting && !s.leftHere()) {
		s, effects = s.query()
	}
	switch {
	case s.Phase == PhaseCommitting && s.leftHere():
		effects = append(effects, s.send(Commit))
	case s.Phase == PhaseAborting && !s.Acked:
		effects = append(effects, s.send(Abort))
	}
	return s, append(effects, s.setTimer(TimerResend, s.Timing.backoff(s.Tries, at.Random)))
}

// localWhileCommitting follows a restart: before Commit goes out again, nothing
// may run here.
func (s Source) localWhileCommitting(e LocalState) (Source, []Effect) {
	s.Local = e.State
	switch e.State {
	case LocalGone, LocalMigrated:
		return s, []Effect{s.send(Commit)}
	case LocalUnknown:
		return s, nil
	}
	return s, []Effect{Alarm{s.Record.VM, fmt.Sprintf(
		"the VM was handed to %s in attempt %d, not acknowledged, and is %s here: find out where it belongs before Commit goes out again", s.Record.To, s.Record.Attempt, e.State)}}
}

// localWhileAborting follows a ResumeLocal, or a destination whose copy runs.
func (s Source) localWhileAborting(e LocalState) (Source, []Effect) {
	s.Local = e.State
	switch {
	case s.Contested && (s.leftHere() || e.State == LocalPaused):
		// The copy took over after we had given it up, which a disk lock
		// allows when this host dies in between. It runs, ours does not.
		s.Phase, s.Tries = PhaseDeciding, 0
		s.Remote, s.Fenced, s.Contested = CopyRunning, true, false
		s, effects := s.decide()
		if s.Phase == PhaseDeciding {
			effects = append(effects, s.setTimer(TimerAsk, s.Timing.Poll))
		}
		return s, effects
	case s.Contested && e.State == LocalRunning:
		s.Contested = false
		return s, []Effect{Alarm{s.Record.VM, fmt.Sprintf(
			"the VM runs here and at %s: destroy one of the two", s.Record.To)}}
	case !s.Record.Resume:
		return s, nil
	case e.State == LocalRunning:
		s.Record.Resume = false
		return s.settleAbort()
	case s.leftHere():
		s.Record.Resume = false
		s, effects := s.settleAbort()
		return s, append(effects, Alarm{s.Record.VM, "the VM runs nowhere: start it here from its disk"})
	case e.State == LocalPaused && s.Tries > 0:
		s.Query++
		effects := []Effect{ResumeLocal{s.Record.VM, s.Query}}
		if s.Tries == 1 {
			effects = append(effects, Alarm{s.Record.VM, "the VM stays paused here and does not resume"})
		}
		s.Tries++
		return s, effects
	}
	return s, nil
}

// leftHere reports whether nothing of the VM lives here any more.
func (s Source) leftHere() bool { return s.Local == LocalGone || s.Local == LocalMigrated }

// settleAbort closes when both hosts are done.
func (s Source) settleAbort() (Source, []Effect) {
	if !s.Acked || s.Record.Resume {
		return s, nil
	}
	if s.leftHere() {
		return s.finish(OutcomeLost, "")
	}
	return s.finish(OutcomeAborted, "")
}

// commitRefused: the destination cannot run what it was given.
func (s Source) commitRefused(r Refusal) (Source, []Effect) {
	if r.Kind == RefusedCopyMissing {
		s, effects := s.finish(OutcomeLost, "the copy at the destination is gone: "+r.Text)
		return s, append(effects, Alarm{s.Record.VM, "the VM runs nowhere: start it from its disk"})
	}
	if s.Tries > 1 {
		return s, nil
	}
	return s, []Effect{Alarm{s.Record.VM, fmt.Sprintf("%s refuses Commit: %s %s", s.Record.To, r.Kind, r.Text)}}
}

// abortRefused: the destination's copy runs. Look here before anything else.
func (s Source) abortRefused(r Refusal) (Source, []Effect) {
	if r.Kind != RefusedCopyRunning || s.Contested {
		return s, nil
	}
	s.Contested = true
	return s.query()
}

// override takes an operator's word. What it allows is still done in the safe
// order: the record first, and a VM that runs here is never destroyed.
func (s Source) override(e Override) (Source, []Effect) {
	if e.VM != s.Record.VM || !s.Busy() {
		return s, nil
	}
	if e.By == "" || e.Evidence == "" {
		return s, s.note("override without name or evidence ignored")
	}
	word := fmt.Sprintf("%s forced %s: %s", e.By, e.Action, e.Evidence)
	before := s
	s.Record.Override = word
	switch {
	case e.Action == OverrideCommit && s.Phase == PhaseDeciding && s.leftHere():
		return s.alarmed(word)(s.commit(word))
	case e.Action == OverrideCommit && s.Phase == PhaseDeciding && s.Local == LocalPaused && s.Fenced:
		s.Remote = CopyPaused
		return s.alarmed(word)(s.decideForCopy())
	case e.Action == OverrideAbort && (s.Phase == PhaseDeciding || s.Phase == PhaseCommitting):
		return s.alarmed(word)(s.abort(word))
	case e.Action == OverrideClose && s.Phase == PhaseCommitting,
		e.Action == OverrideClose && s.Phase == PhaseAborting && !s.Record.Resume:
		return s.alarmed(word)(s.finish(OutcomeClosed, word))
	}
	return before, before.note("override %s means nothing while %s with the VM %s here", e.Action, before.Phase, before.Local)
}

// alarmed adds the operator's word to the effects, so that it is seen.
func (Source) alarmed(word string) func(Source, []Effect) (Source, []Effect) {
	return func(s Source, effects []Effect) (Source, []Effect) {
		return s, append(effects, Alarm{s.Record.VM, word})
	}
}

// RecoverSource is the state after a restart, from the VM's journal record, and
// what has to be done. A closed record gives an idle source and no effects.
func RecoverSource(host HostID, timing Timing, r SourceRecord) (Source, []Effect) {
	s := NewSource(host, timing)
	s.Record, s.Local, s.Remote = r, LocalUnknown, CopyUnknown
	if r.Closed {
		return s, nil
	}
	switch r.State {
	case SourceReserving:
		// The migration was not started: Migrating is written before that.
		s.Record.State = SourceAborted
		before := []Effect{s.unstamp(), s.send(Abort)}
		if r.Autostart {
			before = append([]Effect{Autostart{r.VM, true}}, before...)
		}
		return s.finish(OutcomeAborted, "the agent restarted before the migration", before...)
	case SourceMigrating:
		return s.enterDeciding()
	case SourceCommitted:
		s.Phase = PhaseCommitting
		s, effects := s.query()
		return s, append(effects, s.setTimer(TimerResend, s.Timing.ResendMin))
	case SourceAborted:
		s.Phase = PhaseAborting
		var effects []Effect
		if r.Resume {
			s, effects = s.query()
			s.Tries = 1
		}
		if r.Autostart {
			effects = append(effects, Autostart{r.VM, true})
		}
		return s, append(effects, s.send(Abort), s.setTimer(TimerResend, s.Timing.ResendMin))
	}
	return s, nil
}
