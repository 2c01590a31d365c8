package model

import (
	"fmt"

	"headroom/planner/negotiate"
)

// Op is a kind of action.
type Op uint8

// The kinds of action. Those from CrashAgent to FailJournal are faults; those
// from Start to Restart begin something new; the rest is the world going on.
const (
	Deliver Op = iota
	Duplicate
	Hear
	Fire
	Begin
	Appear
	SwitchOver
	Finish
	Confirm
	FailSource
	FailCopy
	RestartAgent
	RestartLibvirtd
	RestartHost
	CrashAgent
	CrashLibvirtd
	CrashHost
	CutLink
	Start
	Cancel
	StartFromDisk
	Operate
)

var opNames = [...]string{"deliver", "duplicate", "hear", "fire", "begin", "appear", "switch over", "finish",
	"confirm", "source half fails", "copy half fails", "restart agent", "restart libvirtd", "restart host",
	"crash agent", "crash libvirtd", "crash host", "cut link", "start", "cancel", "start from disk", "operator decides"}

// Action is one thing that can happen now. Crash is the number of effects after
// which the agent dies in the step, -1 for never, or journalFails.
type Action struct {
	Op    Op
	Host  int
	VM    int
	Arg   int // index of the packet or timer; first candidate of a start
	Crash int
}

func (a Action) String() string {
	s := fmt.Sprintf("%s at %c, vm%d, arg %d", opNames[a.Op], 'A'+a.Host, a.VM+1, a.Arg)
	switch {
	case a.Crash >= 0:
		s += fmt.Sprintf(", agent dies after %d effects", a.Crash)
	case a.Crash == journalFails:
		s += ", journal fails"
	}
	return s
}

// Fault reports whether the action is one that nature need not do.
func (a Action) Fault() bool {
	return a.Op == Duplicate || a.Crash != -1 || (a.Op >= CrashAgent && a.Op <= CutLink)
}

// Begins reports whether the action begins something new.
func (a Action) Begins() bool { return a.Op >= Start && a.Op <= StartFromDisk }

// Actions lists what can happen now, without crash points; see CrashPoints.
func (w *World) Actions(dst []Action) []Action {
	add := func(op Op, h, v, arg int) { dst = append(dst, Action{op, h, v, arg, -1}) }
	for i, p := range w.Net {
		if w.Hosts[p.To].Agent && !(w.cfg.Untimed && len(w.Hosts[p.To].Inbox) > 1) {
			add(Deliver, p.To, w.vm(p.Message.VM), i)
			if w.Budget.Duplicates > 0 {
				add(Duplicate, p.To, w.vm(p.Message.VM), i)
			}
		}
	}
	for h := range w.Hosts {
		dst = w.hostActions(h, dst)
		for v := range w.VMs {
			dst = w.migrationActions(h, v, dst)
			dst = w.newActions(h, v, dst)
		}
	}
	return dst
}

func (w *World) hostActions(h int, dst []Action) []Action {
	host := &w.Hosts[h]
	add := func(op Op, v, arg int) { dst = append(dst, Action{op, h, v, arg, -1}) }
	switch {
	case !host.Up:
		add(RestartHost, 0, 0)
		return dst
	case !host.Libvirtd:
		add(RestartLibvirtd, 0, 0)
	case w.Budget.LibvirtCrashes > 0:
		add(CrashLibvirtd, 0, 0)
	}
	if w.Budget.HostCrashes > 0 {
		add(CrashHost, 0, 0)
	}
	if !host.Agent {
		add(RestartAgent, 0, 0)
		return dst
	}
	if w.Budget.AgentCrashes > 0 {
		add(CrashAgent, 0, 0)
	}
	if len(host.Inbox) > 0 {
		add(Hear, host.Inbox[0].VM, 0)
	}
	for i, t := range host.Timers {
		if w.mayFire(h, t) {
			add(Fire, t.VM, i)
		}
	}
	return dst
}

// mayFire keeps the one assumption about durations: a QEMU appears within a
// lease's life after the hook's yes, or never.
func (w *World) mayFire(h int, t Timer) bool {
	if w.cfg.Untimed && len(w.Hosts[h].Inbox) > 0 {
		return false // an agent hears what waits before a second is over
	}
	for i := range w.Hosts {
		for v, d := range w.Hosts[i].Domains {
			e, ok := w.Hosts[i].Dest.Entry(w.VMs[v].ID)
			if d.Run != Allowed || !ok {
				continue
			}
			if w.cfg.Untimed && i == h && !t.Source && t.Kind == negotiate.TimerLease && t.VM == v {
				return false
			}
			if !w.cfg.Untimed && w.Hosts[h].Boot+t.Due >= w.Hosts[i].Boot+e.Expires {
				return false
			}
		}
	}
	return true
}

func (w *World) migrationActions(h, v int, dst []Action) []Action {
	host := &w.Hosts[h]
	if !host.Up || !host.Libvirtd {
		return dst
	}
	add := func(op Op) { dst = append(dst, Action{op, h, v, 0, -1}) }
	j, d := host.Jobs[v], host.Domains[v]
	switch {
	case j.Phase == Called:
		add(Begin)
	case j.Phase != NoJob && !w.linked(h, v):
		add(FailSource)
	case j.Phase == Copying && w.Hosts[j.To].Domains[v].Run == Incoming && w.Hosts[j.To].Libvirtd:
		add(SwitchOver)
	case j.Phase == Switched && w.Hosts[j.To].Domains[v].Run >= Paused && w.Hosts[j.To].Libvirtd:
		add(Confirm)
	}
	if j.Phase >= Copying && !j.Cut && w.Budget.Cuts > 0 {
		add(CutLink)
	}
	switch d.Run {
	case Allowed:
		add(Appear)
	case Ready:
		add(Finish) // also when the link was cut after Finish went out
	}
	if (d.Run == Allowed || d.Run == Incoming || d.Run == Ready) && w.orphaned(h, v) {
		add(FailCopy)
	}
	return dst
}

func (w *World) newActions(h, v int, dst []Action) []Action {
	host := &w.Hosts[h]
	if !host.Up || !host.Libvirtd || !host.Agent {
		return dst
	}
	idle := !host.Sources[v].Busy()
	mine, _ := host.Dest.MayMove(w.VMs[v].ID)
	if w.Budget.Attempts > 0 && idle && mine && host.Domains[v].Run == Running && host.Jobs[v].Phase == NoJob {
		for to := range w.Hosts {
			if to != h {
				dst = append(dst, Action{Start, h, v, to, -1})
			}
		}
	}
	if p := host.Sources[v].Phase; w.Budget.Cancels > 0 && !idle && p != negotiate.PhaseCommitting && p != negotiate.PhaseAborting && p != negotiate.PhaseDeciding {
		dst = append(dst, Action{Cancel, h, v, 0, -1})
	}
	if s := host.Sources[v]; s.Phase == negotiate.PhaseDeciding && s.Local == negotiate.LocalPaused && s.Fenced &&
		s.Remote == negotiate.CopyNone && host.Domains[v].Run == Paused {
		dst = append(dst, Action{Operate, h, v, 0, -1})
	}
	if w.cfg.Restart && host.Domains[v].Run == None && w.used(h, v) < w.cfg.Capacity && w.startsFromDisk(h, v) {
		dst = append(dst, Action{StartFromDisk, h, v, 0, -1})
	}
	return dst
}

// startsFromDisk is a restart by whoever watches over crashed VMs: by the
// journal of the host where the VM belongs, and by nothing else.
func (w *World) startsFromDisk(h, v int) bool {
	host := &w.Hosts[h]
	src, dst := host.SourceJournal[v], host.DestJournal[v]
	if host.Jobs[v].Phase != NoJob {
		return false
	}
	if dst.Attempt > 0 && dst.Attempt >= src.Attempt {
		return dst.State == negotiate.DestOwned
	}
	if src.Attempt == 0 {
		return v%len(w.Hosts) == h
	}
	ok, _ := src.StartAllowed()
	return ok && src.State == negotiate.SourceAborted
}

// CrashPoints lists the variants of an action in which the agent dies between
// two effects, or its journal fails. It finds them by a trial on a copy.
func (w *World) CrashPoints(a Action, dst []Action) []Action {
	if a.Op > Fire && a.Op != Start && a.Op != RestartAgent && a.Op != Cancel {
		return dst
	}
	if w.Budget.AgentCrashes > 0 {
		for k := 1; k <= 3; k++ {
			a.Crash = k
			dst = append(dst, a)
		}
	}
	if w.Budget.JournalFailures > 0 && a.Op != RestartAgent {
		a.Crash = journalFails
		dst = append(dst, a)
	}
	return dst
}

// Do performs the action and returns the invariant that is broken now, or "".
func (w *World) Do(a Action) string {
	if w.cfg.Trace != nil {
		w.tracef("* %s", a)
	}
	host := &w.Hosts[a.Host]
	switch a.Op {
	case Deliver, Duplicate:
		w.deliver(a)
	case Hear:
		in := host.Inbox[0]
		host.Inbox = host.Inbox[1:]
		if in.Source != nil {
			w.stepSource(a.Host, in.VM, in.Source, a.Crash, 0)
		} else {
			w.stepDest(a.Host, in.Destination, false, a.Crash)
		}
	case Fire:
		w.fire(a)
	case Start:
		w.start(a)
	case Cancel:
		w.Budget.Cancels--
		w.stepSource(a.Host, a.VM, negotiate.Cancel{VM: w.VMs[a.VM].ID, Reason: "cancelled"}, a.Crash, 0)
	case StartFromDisk:
		host.Domains[a.VM] = Domain{Epoch: w.VMs[a.VM].Epoch}
		if !w.startRunning(a.Host, a.VM, false) {
			host.Domains[a.VM] = Domain{}
		}
	case Operate:
		w.operate(a)
	case RestartAgent:
		w.restartAgent(a.Host, a.Crash)
	case CrashAgent:
		w.Budget.AgentCrashes--
		w.crashAgent(a.Host)
	default:
		w.doLibvirt(a)
	}
	w.check()
	return w.broken
}

func (w *World) doLibvirt(a Action) {
	host := &w.Hosts[a.Host]
	switch a.Op {
	case Begin:
		w.begin(a.Host, a.VM)
	case Appear:
		host.Domains[a.VM].Run = Incoming
		w.copyChanged(a.Host, a.VM)
	case SwitchOver:
		w.switchOver(a.Host, a.VM)
	case Finish:
		w.finish(a.Host, a.VM)
	case Confirm:
		w.confirm(a.Host, a.VM)
	case FailSource:
		w.failSource(a.Host, a.VM)
	case FailCopy:
		w.dropCopy(a.Host, a.VM, 0)
	case RestartLibvirtd:
		w.restartLibvirtd(a.Host)
	case RestartHost:
		host.Up, host.Libvirtd = true, true
	case CrashLibvirtd:
		w.Budget.LibvirtCrashes--
		w.crashLibvirtd(a.Host)
	case CrashHost:
		w.Budget.HostCrashes--
		w.crashHost(a.Host)
	case CutLink:
		w.Budget.Cuts--
		host.Jobs[a.VM].Cut = true
	}
}

func (w *World) start(a Action) {
	w.Budget.Attempts--
	host, vm := &w.Hosts[a.Host], w.VMs[a.VM]
	candidates := []negotiate.Candidate{{Host: w.Hosts[a.Arg].ID, Guard: vm.Guard}}
	for i, o := range w.Hosts {
		if i != a.Host && i != a.Arg {
			candidates = append(candidates, negotiate.Candidate{Host: o.ID, Guard: vm.Guard})
		}
	}
	w.stepSource(a.Host, a.VM, negotiate.Start{VM: vm.ID, Candidates: candidates, Operator: "model",
		LastAttempt: max(host.Domains[a.VM].Attempt, host.Dest.LastAttempt(vm.ID)), Need: negotiate.Need{MemoryMiB: 1}}, a.Crash, 0)
}

// operate is the operator answering the alarm, after a look at the disk.
func (w *World) operate(a Action) {
	d, id := &w.Hosts[a.Host].Domains[a.VM], w.VMs[a.VM].ID
	if d.Epoch != w.VMs[a.VM].Epoch {
		*d = Domain{}
		return
	}
	w.stepSource(a.Host, a.VM, negotiate.Override{VM: id, Action: negotiate.OverrideAbort, By: "operator",
		Evidence: "the disk was not written"}, a.Crash, 0)
}

// fire lets a timer run out: the clock is then at least at its due time.
func (w *World) fire(a Action) {
	host := &w.Hosts[a.Host]
	t := host.Timers[a.Arg]
	host.Timers = append(append([]Timer(nil), host.Timers[:a.Arg]...), host.Timers[a.Arg+1:]...)
	w.Clock = max(w.Clock, host.Boot+t.Due)
	ev := negotiate.TimerFired{Kind: t.Kind, VM: w.VMs[t.VM].ID}
	if t.Source {
		w.stepSource(a.Host, t.VM, ev, a.Crash, t.Due)
		return
	}
	if e, ok := host.Dest.Entry(ev.VM); w.cfg.Mutant == MutantActOnTimeouts && t.Kind == negotiate.TimerPaused && ok {
		m := negotiate.Message{Version: 1, Kind: negotiate.Commit, VM: ev.VM, Attempt: e.Record.Attempt, Lease: e.Record.Lease}
		w.stepDest(a.Host, negotiate.Received{From: e.Record.Source, Message: m}, false, a.Crash)
		return
	}
	w.stepDestAt(a.Host, ev, true, a.Crash, t.Due)
}

func (w *World) deliver(a Action) {
	p := w.Net[a.Arg]
	if a.Op == Duplicate {
		w.Budget.Duplicates--
	} else {
		w.Net = append(append([]Packet(nil), w.Net[:a.Arg]...), w.Net[a.Arg+1:]...)
	}
	m := p.Message
	ev := negotiate.Received{From: w.Hosts[p.From].ID, Message: m}
	switch m.Kind {
	case negotiate.Granted, negotiate.Refused, negotiate.Ack, negotiate.StatusReply:
		w.stepSource(p.To, a.VM, ev, a.Crash, 0)
		return
	case negotiate.Reserve:
		if w.Hosts[p.To].Sources[a.VM].Busy() {
			ev.Admission = &negotiate.Refusal{Kind: negotiate.RefusedBusy}
		} else if w.used(p.To, a.VM) >= w.cfg.Capacity {
			ev.Admission = &negotiate.Refusal{Kind: negotiate.RefusedNoRoom}
		}
	case negotiate.Commit, negotiate.Abort:
		if e, ok := w.Hosts[p.To].Dest.Entry(m.VM); ok && w.cfg.Mutant == MutantTokensNotCompared {
			ev.Message.Attempt, ev.Message.Lease = e.Record.Attempt, e.Record.Lease
		}
	}
	w.stepDest(p.To, ev, false, a.Crash)
}
