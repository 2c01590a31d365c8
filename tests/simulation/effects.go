package simulation

import (
	"time"

	"headroom/planner/negotiate"
	"headroom/tests/model"
)

// subject is the VM that an effect is about.
func (w *world) subject(e negotiate.Effect) (int, bool) {
	var id negotiate.VMID
	switch e := e.(type) {
	case negotiate.PersistSource:
		id = e.Record.VM
	case negotiate.PersistDestination:
		id = e.Record.VM
	case negotiate.Send:
		id = e.Message.VM
	case negotiate.SetTimer:
		id = e.VM
	case negotiate.Autostart:
		id = e.VM
	case negotiate.Stamp:
		id = e.VM
	case negotiate.QueryLocal:
		id = e.VM
	case negotiate.ResumeLocal:
		id = e.VM
	case negotiate.QueryCopy:
		id = e.VM
	case negotiate.ReleaseLease:
		id = e.VM
	case negotiate.Done:
		id = e.VM
	case negotiate.Alarm:
		id = e.VM
	}
	v, ok := w.vmOf[id]
	return v, ok
}

// effect does one effect. Calls of libvirt take time and are answered by events;
// a call that was made is done even if the agent dies meanwhile.
func (w *world) effect(h *host, in input, e negotiate.Effect, s *stepping) {
	if s != nil && s.timer {
		w.checkTimer(h, e)
	}
	switch e := e.(type) {
	case negotiate.ForgetDestination:
		delete(h.dstJournal, w.vmOf[e.VM])
	case negotiate.Send:
		w.checkSend(h, e.Message)
		w.send(h.n, w.hostOf[e.To], e.Message)
	case negotiate.SetTimer:
		w.setTimer(h, timerKey{isSourceTimer(e.Kind), e.Kind, w.vmOf[e.VM]}, e)
	case negotiate.AllowPrepare:
		w.checkAllowed(h, in, e)
		if s != nil && s.in.hooked != nil {
			s.answered = true
			s.in.hooked(true)
		}
	case negotiate.Stamp, negotiate.StartMigration, negotiate.AbortMigration, negotiate.QueryLocal,
		negotiate.ResumeLocal, negotiate.DestroyLocal:
		w.actLocal(h, w.vmIn(in, e), e)
	case negotiate.QueryCopy, negotiate.ResumeCopy, negotiate.DestroyCopy:
		w.actCopy(h, e)
	case negotiate.StampOwned:
		if w.notes(s) {
			w.actCopy(h, e)
		}
	case negotiate.Alarm:
		w.tracef("%s ALARM %s: %s", h.id, e.VM, e.Text)
	case negotiate.Done:
		w.done(h, e)
	}
}

// vmIn is the VM of an effect of the source's side: that of its event.
func (w *world) vmIn(in input, e negotiate.Effect) int {
	if v, ok := w.subject(e); ok {
		return v
	}
	return in.vm
}

func isSourceTimer(k negotiate.TimerKind) bool {
	switch k {
	case negotiate.TimerReserve, negotiate.TimerBind, negotiate.TimerCopy, negotiate.TimerAsk, negotiate.TimerResend:
		return true
	}
	return false
}

func (w *world) setTimer(h *host, key timerKey, e negotiate.SetTimer) {
	h.agent.timers[key]++
	set, life := h.agent.timers[key], h.agent.life
	w.after(h.truly(e.After), func() {
		if h.agent.life != life || h.agent.timers[key] != set {
			return
		}
		fired := negotiate.TimerFired{Kind: e.Kind, VM: e.VM}
		if key.source {
			w.post(h, input{vm: key.vm, src: fired})
		} else {
			w.post(h, input{vm: key.vm, dst: fired})
		}
	})
}

// call does something in libvirt after a while, and lets the agent hear the answer
// if it still lives.
func (w *world) call(h *host, v int, do func() input) {
	life := h.agent.life
	latency := w.between(200*time.Microsecond, 5*time.Millisecond)
	if w.chance(0.02) {
		latency = w.between(100*time.Millisecond, 5*time.Second)
	}
	w.after(latency, func() {
		answer := do()
		w.checkHost(h, v)
		if h.agent.life == life && (answer.src != nil || answer.dst != nil) {
			answer.vm = v
			w.post(h, answer)
		}
	})
}

// actLocal is libvirt's work at the source.
func (w *world) actLocal(h *host, v int, e negotiate.Effect) {
	switch e := e.(type) {
	case negotiate.Stamp:
		w.call(h, v, func() input {
			return input{src: negotiate.Stamped{VM: e.VM, Attempt: e.Attempt, Lease: e.Lease, Err: w.stamp(h, v, e)}}
		})
	case negotiate.StartMigration:
		w.checkStart(h, v, e)
		w.startMigration(h, v, e)
	case negotiate.AbortMigration:
		if j := h.jobs[v]; j != nil && j.phase < switched {
			w.cut(j)
		}
	case negotiate.QueryLocal:
		w.call(h, v, func() input { return input{src: w.lookLocal(h, v, e.Query)} })
	case negotiate.ResumeLocal:
		w.checkJournal(h, v, negotiate.SourceAborted, "ResumeLocal")
		w.call(h, v, func() input {
			if d := h.domains[v]; h.virt && d != nil && d.run == paused && !h.migrating(v) {
				w.startRunning(h, v, false)
			}
			return input{src: w.lookLocal(h, v, e.Query)}
		})
	case negotiate.DestroyLocal:
		if r := h.srcJournal[v]; !r.Discard {
			w.violate("JournalBeforeAct: DestroyLocal of %s with a journal of %s", e.VM, r.State)
		}
		w.call(h, v, func() input {
			if d := h.domains[v]; h.virt && d != nil && d.run == paused && !h.migrating(v) {
				w.undefine(h, v)
			}
			return input{src: w.lookLocal(h, v, e.Query)}
		})
	}
}

// stamp writes the token; libvirt refuses it while a migration runs.
func (w *world) stamp(h *host, v int, e negotiate.Stamp) string {
	d := h.domains[v]
	if !h.virt || d == nil || h.migrating(v) {
		return "libvirt cannot change the domain now"
	}
	m := h.meta[v]
	m.attempt, m.lease, m.to = max(m.attempt, e.Attempt), e.Lease, e.To
	h.meta[v] = m
	return ""
}

// actCopy is libvirt's work at the destination.
func (w *world) actCopy(h *host, e negotiate.Effect) {
	switch e := e.(type) {
	case negotiate.StampOwned:
		v := w.vmOf[e.VM]
		w.call(h, v, func() input { return w.stampOwned(h, v, e) })
	case negotiate.QueryCopy:
		v := w.vmOf[e.VM]
		w.call(h, v, func() input { return input{dst: w.lookCopy(h, v, e.Query)} })
	case negotiate.ResumeCopy:
		v := w.vmOf[e.VM]
		w.checkCopyAct(h, v, "ResumeCopy", e.Attempt, e.Lease, negotiate.DestCommitted)
		w.call(h, v, func() input {
			d := h.domains[v]
			if h.virt && d != nil && h.owns(v, e.Attempt, e.Lease) && (d.run == running || d.run == paused && w.startRunning(h, v, false)) {
				return input{dst: w.lookCopy(h, v, e.Query)}
			}
			return input{dst: negotiate.ActFailed{VM: e.VM, Err: "cannot resume"}}
		})
	case negotiate.DestroyCopy:
		v := w.vmOf[e.VM]
		w.checkCopyAct(h, v, "DestroyCopy", e.Attempt, e.Lease, negotiate.DestAborting)
		w.call(h, v, func() input {
			d := h.domains[v]
			mine := h.owns(v, e.Attempt, e.Lease) || w.cfg.Mutant == model.MutantTokensNotCompared
			if h.virt && d != nil && mine && (d.run == incoming || d.run == ready || d.run == paused) {
				w.undefine(h, v)
			}
			return input{dst: w.lookCopy(h, v, e.Query)}
		})
	}
}

// owns reports whether the VM here carries the token.
func (h *host) owns(v int, attempt negotiate.Attempt, lease negotiate.LeaseID) bool {
	m := h.meta[v]
	return m.attempt == attempt && m.lease == lease
}

// migrating reports whether libvirt is at work on a VM's migration from here.
func (h *host) migrating(v int) bool { return h.jobs[v] != nil && h.jobs[v].phase >= asking }

// stampOwned notes the finished move once, in the metadata that travels.
func (w *world) stampOwned(h *host, v int, e negotiate.StampOwned) input {
	m, defined := h.meta[v]
	switch {
	case !h.virt || !defined:
		return input{} // a failure is only logged
	case m.lastFrom == e.From && m.lease == "":
		return input{dst: w.lookCopy(h, v, 0)}
	}
	m.lastFrom, m.movedAt, m.lease = e.From, w.date(h), ""
	recent := m.moves[:0:0]
	for _, at := range m.moves {
		if m.movedAt.Sub(at) < 24*time.Hour {
			recent = append(recent, at)
		}
	}
	m.moves = append(recent, m.movedAt)
	h.meta[v] = m
	return input{dst: w.lookCopy(h, v, 0)}
}

// done counts a finished attempt.
func (w *world) done(h *host, e negotiate.Done) {
	if e.Outcome == negotiate.OutcomeMoved {
		w.stats.Moved++
	}
	for _, r := range e.Refused {
		if r.Refusal.Kind != negotiate.RefusedTimeout {
			w.stats.Refusals++
		}
	}
}
