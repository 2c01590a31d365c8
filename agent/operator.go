package agent

import (
	"fmt"
	"time"

	"headroom/agent/api"
	"headroom/planner"
)

// Drain says how far the emptying of this host is.
func (a *Agent) Drain() api.Drain {
	d, on := a.standing.draining()
	out := api.Drain{Draining: on, Reason: d.Reason}
	if on {
		at := d.At.UTC()
		out.Since = &at
	}
	v := a.view.Load()
	host := a.withHoldings(v, a.desk.Holdings())
	out.Known = v.known
	out.VMs, out.Outgoing, out.Arriving = len(host.VMs), len(host.Outgoing), len(host.Held)+len(host.Incoming)
	if last := a.book.latest(api.Query{Limit: 1}, func(e entry) api.Decision { return a.apiDecision(e, false) }); on && len(last) == 1 && !last[0].LastAt.Before(d.At) {
		out.Note = last[0].Reason
	}
	return out
}

// SetDrain orders this host to be emptied, or takes the order back.
func (a *Agent) SetDrain(on bool, reason string) (api.Drain, error) {
	_, was := a.standing.draining()
	var err error
	if on {
		err = a.standing.drain(time.Now(), reason)
	} else {
		err = a.standing.undrain()
	}
	if err != nil {
		return api.Drain{}, err
	}
	if on != was {
		word := "drained: its VMs leave, and it takes none"
		if !on {
			word = "drained no more"
		}
		a.log.Info("this host is "+word, "reason", reason)
		a.event("drain", a.o.Name, "", a.o.Name+" is "+word)
	}
	return a.Drain(), nil
}

// Pause is the cluster's last order as this host knows it.
func (a *Agent) Pause() api.Pause {
	p := a.standing.pause()
	out := api.Pause{Paused: p.holds(time.Now()), Version: p.Version, Reason: p.Reason, Held: a.held()}
	out.Hosts, out.Aware = a.aware()
	if p.Version == 0 {
		return out
	}
	at := p.At.UTC()
	out.Host, out.Since = a.hostName(p.Host), &at
	if !p.Until.IsZero() {
		until := p.Until.UTC()
		out.Until = &until
	}
	return out
}

// SetPause gives an order to the whole cluster. It holds here when it returns;
// the peers learn it by gossip and ask for it.
func (a *Agent) SetPause(on bool, reason string, lasts time.Duration) (api.Pause, error) {
	now := time.Now().UTC()
	p := pauseOrder{Paused: on, Host: a.o.ID, Reason: reason, At: now}
	if lasts > 0 {
		p.Until = now.Add(lasts)
	}
	p, err := a.standing.order(p)
	if err != nil {
		return api.Pause{}, err
	}
	a.tellPause(p)
	a.announcePause(p)
	return a.Pause(), nil
}

// Answer approves or rejects a decision that waits. An approval moves nothing by
// itself: the next round weighs everything anew, and only asks no more.
func (a *Agent) Answer(id string, approve bool) (api.AnswerReply, error) {
	e, ok := a.book.find(id)
	if !ok {
		return api.AnswerReply{}, fmt.Errorf("decision %q: %w among the latest %d; `headroom decisions` lists them", id, api.ErrNotFound, maxDecisions)
	}
	d, now := &e.Decision, time.Now()
	if d.Action != planner.ActionApprove {
		return api.AnswerReply{}, fmt.Errorf("decision %s: %w: it does not wait for an answer, its verdict is %q%s", shortID(d.ID), api.ErrConflict, d.Action, insteadOf(d))
	}
	if at := a.expiry(e); !now.Before(at) {
		return api.AnswerReply{}, fmt.Errorf("decision %s: %w: it expired at %s; `headroom plan` shows what is needed now", shortID(d.ID), api.ErrConflict, at.Format(time.RFC3339))
	}
	holds := a.cfg.Planner.RejectionHolds.Duration
	if approve {
		holds = a.cfg.Planner.ApprovalExpires.Duration
	}
	o := planner.Order{VM: d.VM, Approve: approve, Until: now.Add(holds).UTC()}
	if err := a.standing.answer(now, o); err != nil {
		return api.AnswerReply{}, err
	}
	a.book.answered(d.ID, approve)
	out := api.AnswerReply{Decision: shortID(d.ID), VM: string(d.VM), VMName: d.VMName, Approved: approve, Until: o.Until}
	a.log.Info("an operator answered", "decision", out.Decision, "vm", d.VMName, "approved", approve)
	a.event("answer", a.o.Name, string(d.VM), fmt.Sprintf("decision %s on %s is %s", out.Decision, d.VMName, answerWord(approve)))
	return out, nil
}

// insteadOf says what an operator can do about a decision that needs no answer.
func insteadOf(d *planner.Decision) string {
	if d.Action == planner.ActionAdvise {
		return "; `headroom migrate " + orID(d.VMName, d.VM) + "` moves the VM now"
	}
	return ""
}

func orID(name string, id planner.VMID) string {
	if name == "" {
		return string(id)
	}
	return name
}

func answerWord(approve bool) string {
	if approve {
		return "approved"
	}
	return "rejected"
}

// expiry is until when a decision may be answered: a time after the last round
// that came to it.
func (a *Agent) expiry(e entry) time.Time {
	return e.LastAt.Add(a.cfg.Planner.ApprovalExpires.Duration).UTC()
}
