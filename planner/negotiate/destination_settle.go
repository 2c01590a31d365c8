package negotiate

import "fmt"

// commit answers Commit. The record comes before the copy is resumed, so that a
// restart in between resumes it.
func (d Destination) commit(ev Received) (Destination, []Effect) {
	m := ev.Message
	e, ok := d.Entry(m.VM)
	r := e.Record
	if ok && r.Attempt > m.Attempt {
		// That attempt is over: a later one was negotiated since.
		return d, []Effect{ack(ev), Note{m.VM, fmt.Sprintf("Commit of old attempt %d, at %d", m.Attempt, r.Attempt)}}
	}
	if !ok || r.Attempt != m.Attempt || r.Lease != m.Lease || r.Source != ev.From {
		return d, []Effect{refuse(ev.From, m, Refusal{Kind: RefusedUnknownToken,
			Text: "no record of this lease: look at the copy and use the override"})}
	}
	switch r.State {
	case DestOwned:
		return d, []Effect{ack(ev)}
	case DestHeld, DestIncoming:
		return d.decideCommit(e)
	case DestCommitted:
		d, look := d.look(e)
		return d, []Effect{look}
	case DestAborting:
		return d, []Effect{Alarm{m.VM, fmt.Sprintf("%s sends Commit after Abort for attempt %d", ev.From, m.Attempt)}}
	}
	return d, []Effect{refuse(ev.From, m, Refusal{Kind: RefusedCopyMissing, Text: r.Reason})}
}

// decideCommit makes the decision durable and acts on what is known of the copy.
func (d Destination) decideCommit(e Entry) (Destination, []Effect) {
	if e.Copy == CopyRunning {
		return d.own(e)
	}
	e.Record.State, e.Tries = DestCommitted, 0
	retry := SetTimer{TimerRetry, e.Record.VM, d.Limits.Retry}
	d, e = d.number(e)
	if e.Copy == CopyPaused {
		return d.persist(e, e.resume(), retry)
	}
	return d.persist(e, QueryCopy{e.Record.VM, e.Look}, retry)
}

// finishCommit goes on with a durable Commit.
func (d Destination) finishCommit(e Entry) (Destination, []Effect) {
	switch e.Copy {
	case CopyRunning:
		return d.own(e)
	case CopyPaused:
		d, e = d.number(e)
		return d.with(e), []Effect{e.resume()}
	}
	return d.with(e), nil
}

// own makes the copy this host's VM.
func (d Destination) own(e Entry) (Destination, []Effect) {
	r := e.Record
	e.Record.State, e.Tries, e.Unnoted = DestOwned, 0, true
	effects := []Effect{StampOwned{r.VM, r.Attempt, r.Source}, SetTimer{TimerRetry, r.VM, d.Limits.Retry}}
	if r.Autostart {
		effects = append(effects, Autostart{r.VM, true})
	}
	return d.persist(e, append(effects, ReleaseLease{r.VM, r.Lease}, e.reply(Ack))...)
}

// abort answers Abort: with the token of the copy it ends lease and copy, with
// any other it finds nothing to do. Without a lease it is from a source that
// never heard the grant, and ends only a lease without a copy.
func (d Destination) abort(ev Received) (Destination, []Effect) {
	m := ev.Message
	e, ok := d.Entry(m.VM)
	r := e.Record
	mine := ok && r.Attempt == m.Attempt && r.Source == ev.From
	if mine && m.Lease == "" && r.State == DestHeld {
		e.Record.Aborted = true
		return d.release(e, "the source gave up before the grant")
	}
	if !mine || r.Lease != m.Lease {
		return d, []Effect{ack(ev)}
	}
	switch r.State {
	case DestHeld:
		e.Record.Aborted = true
		return d.release(e, "the source aborted", ack(ev))
	case DestReleased:
		return d.abortReleased(e, ev)
	case DestIncoming, DestAborting:
		if e.Copy == CopyRunning {
			return d, []Effect{d.copyRuns(e)}
		}
		d, e = d.number(e)
		if r.State == DestAborting {
			return d.with(e), []Effect{e.destroy()}
		}
		e.Record.State, e.Tries = DestAborting, 0
		return d.persist(e, e.destroy(), SetTimer{TimerRetry, r.VM, d.Limits.Retry})
	}
	return d, []Effect{d.copyRuns(e), Alarm{r.VM, fmt.Sprintf(
		"%s aborts attempt %d, which is %s here", r.Source, r.Attempt, r.State)}}
}

// abortReleased remembers that the source gave the attempt up, so that a copy
// which comes late may go.
func (d Destination) abortReleased(e Entry, ev Received) (Destination, []Effect) {
	if e.Record.Aborted {
		return d, []Effect{ack(ev)}
	}
	e.Record.Aborted = true
	return d.persist(e, ack(ev))
}

// copyRuns tells the source that its Abort comes too late.
func (d Destination) copyRuns(e Entry) Send {
	return refuse(e.Record.Source, e.reply(Abort).Message, Refusal{Kind: RefusedCopyRunning, Text: "the copy runs here"})
}

// finishAbort goes on with a durable Abort.
func (d Destination) finishAbort(e Entry) (Destination, []Effect) {
	switch e.Copy {
	case CopyNone:
		e.Record.Aborted = true
		return d.release(e, "the source aborted", e.reply(Ack))
	case CopyRunning:
		// Never destroyed by a message. The source looks at itself and may
		// find that this copy is the VM.
		e.Record.State = DestIncoming
		return d.persist(e, d.copyRuns(e))
	}
	d, e = d.number(e)
	return d.with(e), []Effect{e.destroy()}
}

// actFailed waits for the retry timer.
func (d Destination) actFailed(ev ActFailed) (Destination, []Effect) {
	e, ok := d.Entry(ev.VM)
	if !ok {
		return d, nil
	}
	e.Tries++
	effects := []Effect{Note{ev.VM, "libvirt: " + ev.Err}}
	if e.Tries == 1 {
		effects = append(effects, Alarm{ev.VM, fmt.Sprintf("the copy is %s and libvirt refuses: %s", e.Record.State, ev.Err)})
	}
	return d.with(e), append(effects, SetTimer{TimerRetry, ev.VM, d.Limits.Retry})
}

// override takes an operator's word in place of the source's.
func (d Destination) override(o Override) (Destination, []Effect) {
	e, ok := d.Entry(o.VM)
	if !ok || !e.Record.State.active() {
		return d, []Effect{Note{o.VM, "override: no open hand-over of this VM here"}}
	}
	if o.By == "" || o.Evidence == "" {
		return d, []Effect{Note{o.VM, "override without name or evidence ignored"}}
	}
	word := fmt.Sprintf("%s forced %s: %s", o.By, o.Action, o.Evidence)
	e.Record.Override = word
	var effects []Effect
	switch {
	case o.Action == OverrideCommit && e.Record.State != DestHeld:
		d, effects = d.decideCommit(e)
	case o.Action == OverrideAbort && e.Record.State == DestHeld,
		o.Action == OverrideClose && (e.Copy == CopyNone || e.Copy == CopyUnknown):
		d, effects = d.release(e, word)
	case o.Action == OverrideAbort && e.Copy != CopyRunning:
		e.Record.State = DestAborting
		d, e = d.number(e)
		d, effects = d.persist(e, e.destroy(), SetTimer{TimerRetry, o.VM, d.Limits.Retry})
	default:
		return d, []Effect{Note{o.VM, fmt.Sprintf("override %s means nothing while %s with the copy %s", o.Action, e.Record.State, e.Copy)}}
	}
	return d, append(effects, Alarm{o.VM, word})
}

// ack confirms a message in its own words.
func ack(ev Received) Send {
	m := ev.Message
	return Send{ev.From, Message{Version: MessageVersion, Kind: Ack, VM: m.VM, Attempt: m.Attempt, Lease: m.Lease}}
}
