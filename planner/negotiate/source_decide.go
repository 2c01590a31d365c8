package negotiate

import "fmt"

// migrationDone takes libvirt's word for success and nothing else: whatever went
// wrong, the run states of both sides decide.
func (s Source) migrationDone(e MigrationDone) (Source, []Effect) {
	if e.VM != s.Record.VM || s.Phase != PhaseMigrating {
		return s, nil
	}
	if e.Err == "" {
		s.Local = LocalMigrated
		return s.commit("libvirt finished the migration")
	}
	s.Failure = e.Err
	return s.enterDeciding()
}

// enterDeciding forgets what was known and looks.
func (s Source) enterDeciding() (Source, []Effect) {
	s.Phase, s.Tries = PhaseDeciding, 0
	s.Local, s.Remote, s.Fenced = LocalUnknown, CopyUnknown, false
	s, effects := s.query()
	return s, append(effects, s.setTimer(TimerAsk, s.Timing.Poll))
}

// query looks at libvirt here. The number tells a fresh answer from a late one.
func (s Source) query() (Source, []Effect) {
	s.Query++
	effects := []Effect{QueryLocal{s.Record.VM, s.Query}}
	if s.Phase == PhaseMigrating {
		effects = append(effects, s.setTimer(TimerAsk, s.Timing.Poll))
	}
	return s, effects
}

// askAgain repeats the whole question: both sides may have changed.
func (s Source) askAgain(at Moment) (Source, []Effect) {
	s.Tries++
	s.Local, s.Remote = LocalUnknown, CopyUnknown
	s, effects := s.query()
	effects = append(effects, s.setTimer(TimerAsk, max(s.Timing.Poll, s.Timing.backoff(s.Tries, at.Random))))
	if s.Tries == undecidedAlarm {
		effects = append(effects, Alarm{s.Record.VM, fmt.Sprintf(
			"attempt %d to %s is undecided: the VM may be stopped until both hosts answer", s.Record.Attempt, s.Record.To)})
	}
	return s, effects
}

// undecidedAlarm is the number of fruitless rounds after which an operator is
// called: with the default timing within 15 seconds.
const undecidedAlarm = 4

// stillRunning goes back to watching the job.
func (s Source) stillRunning(e MigrationStillRunning) (Source, []Effect) {
	if e.VM != s.Record.VM || e.Query != s.Query || (s.Phase != PhaseMigrating && s.Phase != PhaseDeciding) {
		return s, nil
	}
	effects := []Effect{s.setTimer(TimerAsk, s.Timing.Poll)}
	if s.Phase == PhaseDeciding && s.Record.CopyLimitMS > 0 {
		effects = append(effects, s.setTimer(TimerCopy, s.copyLimit()))
	}
	s.Phase, s.Tries, s.Fenced = PhaseMigrating, 0, false
	return s, effects
}

// localState takes in what libvirt says of the VM here.
func (s Source) localState(e LocalState) (Source, []Effect) {
	if e.VM != s.Record.VM || e.Query != s.Query {
		return s, nil
	}
	switch s.Phase {
	case PhaseMigrating: // no job any more, and nobody waits for the call
		s.Phase, s.Tries = PhaseDeciding, 0
		s.Local, s.Remote, s.Fenced = e.State, CopyUnknown, false
		s, effects := s.decide()
		if s.Phase == PhaseDeciding {
			effects = append(effects, s.setTimer(TimerAsk, s.Timing.Poll))
		}
		return s, effects
	case PhaseDeciding:
		s.Local = e.State
		return s.decide()
	case PhaseCommitting:
		return s.localWhileCommitting(e)
	case PhaseAborting:
		return s.localWhileAborting(e)
	}
	return s, nil
}

// decide is row 6 of the protocol: it acts only on known facts, and otherwise
// asks for the next one that is missing. The ask timer is running.
//
// Before the VM is declared to stay here the stamp is taken back. Otherwise a
// migrate call that libvirt has accepted but not begun, from before a crash of
// this agent, could carry the VM away behind an Abort.
func (s Source) decide() (Source, []Effect) {
	switch {
	case s.Local == LocalUnknown:
		return s, nil
	case (s.Local == LocalRunning || s.Local == LocalPaused) && !s.Fenced:
		return s, []Effect{s.unstamp()}
	case s.Local == LocalRunning && s.Record.Guard != GuardPlain:
		return s.abort("the VM runs here")
	}
	switch s.Remote {
	case CopyNone:
		if s.Local == LocalPaused && s.Record.Guard != GuardPaused && !s.Clean {
			return s, s.suspect()
		}
		return s.abort("the destination has no copy")
	case CopyPaused, CopyRunning:
		return s.decideForCopy()
	case CopyIn:
		if s.Local == LocalRunning {
			return s.abort("the VM runs here and the copy is not complete")
		}
		return s, nil
	}
	return s, []Effect{s.send(Status)}
}

// decideForCopy: the destination's copy is complete.
func (s Source) decideForCopy() (Source, []Effect) {
	switch {
	case s.Local == LocalMigrated, s.Local == LocalGone && (s.Remote == CopyRunning || s.Record.Discard),
		s.Local == LocalGone && s.Record.Guard != GuardPaused: // without that guard a complete copy has run
		return s.commit("the copy at the destination is complete and nothing is left here")
	case s.Local == LocalGone:
		// The VM may have been resumed here before it died, and written to its
		// disk since the copy was made.
		return s.abort("the VM died here and the stopped copy may be older than its disk")
	case s.Local == LocalRunning && s.Remote == CopyPaused:
		return s.abort("the VM runs here and the copy is stopped")
	case s.Local == LocalRunning:
		return s, []Effect{Alarm{s.Record.VM, fmt.Sprintf(
			"the VM runs here and at %s without a guard: destroy one of the two", s.Record.To)}}
	}
	s.Query++
	destroy := DestroyLocal{s.Record.VM, s.Query}
	if s.Record.Discard {
		return s, []Effect{destroy}
	}
	s.Record.Discard = true
	return s, []Effect{PersistSource{s.Record}, destroy}
}

// suspect calls an operator: without the paused guard, a copy that is gone may
// have run and written to the disk, and the VM stopped here would then resume on
// a disk that is newer than its memory.
func (s Source) suspect() []Effect {
	if s.Tries > 0 {
		return nil
	}
	return []Effect{Alarm{s.Record.VM, fmt.Sprintf("the VM is stopped here, and its copy at %s is gone and may have run: "+
		"if it surely did not, override with abort; else destroy the VM here and start it from its disk", s.Record.To)}}
}

// commit makes the copy the VM. Nothing is left of the VM here.
func (s Source) commit(reason string) (Source, []Effect) {
	s.Phase, s.Tries = PhaseCommitting, 0
	s.Record.State, s.Record.Discard, s.Record.Resume = SourceCommitted, false, false
	s.Record.Reason = reason
	return s, []Effect{PersistSource{s.Record}, s.send(Commit), s.setTimer(TimerResend, s.Timing.ResendMin)}
}

// abort keeps the VM here: it runs, or is stopped and gets resumed, or is gone
// on both sides.
func (s Source) abort(reason string) (Source, []Effect) {
	s.Phase, s.Tries, s.Acked, s.Contested = PhaseAborting, 0, false, false
	s.Record.State, s.Record.Discard = SourceAborted, false
	s.Record.Resume = s.Local == LocalPaused || s.Local == LocalUnknown
	s.Record.Reason = reason
	if s.Failure != "" {
		s.Record.Reason += ": " + s.Failure
	}
	effects := []Effect{PersistSource{s.Record}}
	if s.Record.Resume {
		s.Query++
		effects = append(effects, ResumeLocal{s.Record.VM, s.Query})
	}
	if s.Record.Autostart {
		effects = append(effects, Autostart{s.Record.VM, true})
	}
	if s.Local == LocalGone || s.Local == LocalMigrated {
		effects = append(effects, Alarm{s.Record.VM, "the VM runs nowhere: start it here from its disk"})
	}
	return s, append(effects, s.send(Abort), s.setTimer(TimerResend, s.Timing.ResendMin))
}

// giveUp aborts an attempt that never started a migration: the VM runs here.
func (s Source) giveUp(reason string) (Source, []Effect) {
	if s.Phase == PhaseReserving {
		s.Record.State = SourceAborted
		return s.finish(OutcomeAborted, reason, s.send(Abort))
	}
	s.Local = LocalRunning
	s, effects := s.abort(reason)
	return s, append(effects, s.unstamp())
}
