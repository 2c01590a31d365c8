package negotiate

import "fmt"

// appeared takes in the state of a copy. Only the token in its stamp says whose
// copy it is.
func (d Destination) appeared(ev CopyAppeared) (Destination, []Effect) {
	e, ok := d.Entry(ev.VM)
	if !ok || e.Record.Attempt != ev.Attempt || e.Record.Lease != ev.Lease {
		return d.stranger(e, ok, ev)
	}
	before := e.Copy
	e.Copy = ev.State
	e.Ran = e.Ran || ev.State == CopyRunning
	switch e.Record.State {
	case DestHeld:
		e.Record.State = DestIncoming
		return d.persist(e, Alarm{ev.VM, "a copy came in without asking: is the qemu hook installed?"})
	case DestIncoming:
		return d.with(e), d.arrived(e, before)
	case DestCommitted:
		return d.finishCommit(e)
	case DestAborting:
		return d.finishAbort(e)
	case DestReleased:
		return d.late(e)
	case DestOwned: // its stamp still says that it is on its way
		if e.Unnoted && e.Copy == CopyRunning {
			effects := []Effect{StampOwned{ev.VM, ev.Attempt, e.Record.Source}}
			if before == CopyNone { // it was off, and looked for seldom
				e.Tries = 0
				effects = append(effects, SetTimer{TimerRetry, ev.VM, d.Limits.Retry})
			}
			return d.with(e), effects
		}
	}
	return d.with(e), nil
}

// stranger is a copy with a token that the book does not hold.
func (d Destination) stranger(e Entry, known bool, ev CopyAppeared) (Destination, []Effect) {
	if known && ev.State == CopyRunning && !e.Record.State.active() {
		e.Copy, e.Unnoted = ev.State, false // noted, or it came back by other means; it is here
		return d.with(e), nil
	}
	if ev.State == CopyRunning {
		return d, nil // a VM of this host
	}
	return d, []Effect{Alarm{ev.VM, fmt.Sprintf(
		"a copy is %s here for attempt %d without a lease: it is left alone", ev.State, ev.Attempt)}}
}

// arrived watches a copy that nobody has decided on yet.
func (d Destination) arrived(e Entry, before CopyState) []Effect {
	if e.Copy == before {
		return nil
	}
	switch {
	case e.Copy == CopyPaused:
		return []Effect{SetTimer{TimerPaused, e.Record.VM, d.Limits.PausedAlarm}}
	case e.Copy == CopyRunning && e.Record.Guard == GuardPaused:
		return []Effect{Alarm{e.Record.VM, fmt.Sprintf(
			"the copy runs without a Commit from %s: make sure that it does not run there", e.Record.Source)}}
	}
	return nil
}

// late is a copy that comes after its lease ended.
func (d Destination) late(e Entry) (Destination, []Effect) {
	r := e.Record
	switch {
	case r.Aborted && e.Copy == CopyRunning:
		return d.with(e), []Effect{Alarm{r.VM, fmt.Sprintf("the copy runs, and %s aborted attempt %d", r.Source, r.Attempt)}}
	case r.Aborted:
		d, e = d.number(e)
		return d.with(e), []Effect{e.destroy()}
	}
	e.Record.State, e.Record.Reason = DestIncoming, "the copy came after the lease had ended"
	return d.persist(e, Alarm{r.VM, e.Record.Reason})
}

// gone takes in that there is no copy: that one which was seen went, or that the
// last look found none. An answer to an earlier look says nothing.
func (d Destination) gone(ev CopyGone) (Destination, []Effect) {
	e, ok := d.Entry(ev.VM)
	if !ok {
		return d, nil
	}
	seen := e.Copy == CopyIn || e.Copy == CopyPaused || e.Copy == CopyRunning
	looked := ev.Query != 0 && ev.Query >= e.Look
	if !looked && (ev.Query != 0 || !seen) {
		return d, nil
	}
	// An owned VM that is off, as after its host died, is started with the stamp
	// that it had: Unnoted stays.
	e.Copy = CopyNone
	switch e.Record.State {
	case DestIncoming:
		if seen || e.Ending != 0 && ev.Query >= e.Ending {
			return d.release(e, "libvirt dropped the copy")
		}
	case DestCommitted:
		refusal := refuse(e.Record.Source, e.reply(Commit).Message, Refusal{Kind: RefusedCopyMissing, Text: "libvirt has no such VM"})
		return d.release(e, "the copy is gone", refusal,
			Alarm{ev.VM, "the VM was committed to this host and has no copy: start it from its disk"})
	case DestAborting:
		return d.finishAbort(e)
	}
	return d.with(e), nil
}

// question notes a Status and looks.
func (d Destination) question(ev Received) (Destination, []Effect) {
	m := ev.Message
	q := Question{ev.From, m.VM, m.Attempt, m.Lease, d.Query + 1}
	for _, o := range d.Questions {
		if o.From == q.From && o.VM == q.VM && o.Attempt == q.Attempt && o.Lease == q.Lease {
			return d, []Effect{QueryCopy{m.VM, o.Query}}
		}
	}
	if len(d.Questions) >= d.Limits.MaxQuestions {
		return d, []Effect{Note{m.VM, "too many questions wait for libvirt: this one is dropped"}}
	}
	d.Query++
	d.Questions = append(append([]Question(nil), d.Questions...), q)
	return d, []Effect{QueryCopy{m.VM, q.Query}}
}

// answer tells every host that asked about the VM what libvirt said just now,
// after the event's own effects. A stopped copy of another token is not theirs,
// and nobody may act on it; a running one is told as it is, whatever its token.
func (d Destination) answer(seen CopyAppeared, effects []Effect) (Destination, []Effect) {
	var rest []Question
	for _, q := range d.Questions {
		if q.VM != seen.VM || seen.Query < q.Query {
			rest = append(rest, q)
			continue
		}
		state := seen.State
		theirs := seen.Attempt == q.Attempt && seen.Lease == q.Lease
		if (state == CopyIn || state == CopyPaused) && !theirs {
			state = CopyUnknown
		}
		m := Message{Version: MessageVersion, Kind: StatusReply, VM: q.VM, Attempt: q.Attempt, Lease: q.Lease, Copy: state}
		if e, ok := d.Entry(q.VM); ok && e.Record.Attempt == q.Attempt && e.Record.Lease == q.Lease {
			m.Record = e.Record.State
			m.NeverRan = e.Watched && !e.Ran
		}
		effects = append(effects, Send{q.From, m})
	}
	d.Questions = rest
	return d, effects
}
