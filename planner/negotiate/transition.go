package negotiate

import (
	"fmt"
	"strings"
)

// Transition is one step of a state machine in words: what a journal or a log
// tells of a run, and what is held against the protocol's table of transitions.
// It encodes as one line of JSON.
type Transition struct {
	Side    string   `json:"side"` // source or destination
	Host    HostID   `json:"host"`
	VM      VMID     `json:"vm"`
	Attempt Attempt  `json:"attempt,omitempty"` // after the step
	Lease   LeaseID  `json:"lease,omitempty"`   // after the step
	From    string   `json:"from"`              // phase of the source, state of the lease; idle or none
	Event   string   `json:"event"`
	To      string   `json:"to"`
	Acts    []string `json:"acts,omitempty"` // effects that change a run state, allow one, or promise something
}

// The sides of a hand-over.
const (
	SideSource      = "source"
	SideDestination = "destination"
)

// String is the transition in one line.
func (t Transition) String() string {
	s := fmt.Sprintf("%s %s %s %d/%s: %s -[%s]-> %s", t.Side, t.Host, t.VM, t.Attempt, t.Lease, t.From, t.Event, t.To)
	if len(t.Acts) > 0 {
		s += ", " + strings.Join(t.Acts, ", ")
	}
	return s
}

// SourceTransition describes a step of a source.
func SourceTransition(before Source, ev SourceEvent, after Source, effects []Effect) Transition {
	name := func(p Phase) string {
		if p == PhaseIdle {
			return "idle"
		}
		return string(p)
	}
	r := after.Record
	return Transition{Side: SideSource, Host: after.Host, VM: r.VM, Attempt: r.Attempt, Lease: r.Lease,
		From: name(before.Phase), Event: eventName(ev), To: name(after.Phase), Acts: acts(effects)}
}

// DestinationTransition describes what a step of a destination did to one VM.
func DestinationTransition(vm VMID, before Destination, ev DestinationEvent, after Destination, effects []Effect) Transition {
	name := func(d Destination) (Entry, string) {
		e, ok := d.Entry(vm)
		if !ok {
			return e, "none"
		}
		return e, string(e.Record.State)
	}
	_, from := name(before)
	e, to := name(after)
	r := e.Record
	return Transition{Side: SideDestination, Host: after.Host, VM: vm, Attempt: r.Attempt, Lease: r.Lease,
		From: from, Event: eventName(ev), To: to, Acts: acts(effects)}
}

// EventRestart is the event of a state machine that comes back from its record.
const EventRestart = "restart"

// RecoveredSource describes a source after RecoverSource.
func RecoveredSource(after Source, effects []Effect) Transition {
	t := SourceTransition(after, nil, after, effects)
	t.From, t.Event = string(after.Record.State), EventRestart
	return t
}

// RecoveredDestination describes what RecoverDestination made of one VM.
func RecoveredDestination(vm VMID, after Destination, effects []Effect) Transition {
	t := DestinationTransition(vm, after, nil, after, effects)
	t.Event = EventRestart
	return t
}

// eventName tells events apart as far as the machines do.
func eventName(ev any) string {
	ok := func(what, err string) string {
		if err != "" {
			return what + "_failed"
		}
		return what
	}
	switch e := ev.(type) {
	case Start:
		return "start"
	case Received:
		return string(e.Message.Kind)
	case Stamped:
		if e.Lease == "" {
			return ok("unstamped", e.Err)
		}
		return ok("stamped", e.Err)
	case MigrationDone:
		return ok("migrated", e.Err)
	case MigrationStillRunning:
		return "still_running"
	case LocalState:
		return "local_" + string(e.State)
	case TimerFired:
		return "timer_" + string(e.Kind)
	case Cancel:
		return "cancel"
	case Override:
		return "override_" + string(e.Action)
	case PersistFailed:
		return "persist_failed"
	case PrepareCheck:
		return "prepare"
	case CopyAppeared:
		return "copy_" + string(e.State)
	case CopyGone:
		return "copy_gone"
	case CopyLost:
		return "copy_lost"
	case ActFailed:
		return "act_failed"
	}
	return fmt.Sprintf("%T", ev)
}

// acts lists the effects that matter to a VM's run state, in order.
func acts(effects []Effect) []string {
	var out []string
	for _, e := range effects {
		switch e := e.(type) {
		case PersistSource:
			out = append(out, "record "+string(e.Record.State))
		case PersistDestination:
			out = append(out, "record "+string(e.Record.State))
		case Send:
			out = append(out, "send "+string(e.Message.Kind))
		case StartMigration:
			out = append(out, "start_migration")
		case AbortMigration:
			out = append(out, "abort_migration")
		case ResumeLocal:
			out = append(out, "resume_local")
		case DestroyLocal:
			out = append(out, "destroy_local")
		case ResumeCopy:
			out = append(out, "resume_copy")
		case DestroyCopy:
			out = append(out, "destroy_copy")
		case AllowPrepare:
			out = append(out, "allow_prepare")
		case RefusePrepare:
			out = append(out, "refuse_prepare")
		}
	}
	return out
}
