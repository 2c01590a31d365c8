package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"headroom/agent/handover"
	"headroom/agent/hypervisor"
	"headroom/mesh"
	"headroom/planner"
	"headroom/planner/negotiate"
)

// The outcomes of an attempt, for short.
const (
	outcomeMoved   = negotiate.OutcomeMoved
	outcomeRefused = negotiate.OutcomeRefused
)

// proposal is what the probing of one decision came to.
type proposal struct {
	decision planner.Decision
	refused  []planner.RefusedDestination
	err      error // why the attempt did not start
	started  bool
}

// round forecasts, publishes slots and decides.
func (l *loop) round(ctx context.Context) {
	for _, v := range l.vms {
		v.refresh()
	}
	now := time.Now()
	l.comparePauses(ctx)
	l.state.Orders = l.a.standing.answers(now)
	v := &view{host: l.host()}
	host := l.a.withHoldings(v, l.a.desk.Holdings())
	l.publish(host, now)
	l.judgeDue(now)
	if l.busy {
		return
	}
	d, state := planner.Decide(now, host, l.a.peers(), l.state, l.a.policy, l.rng)
	l.state = state
	if len(d.Candidates) == 0 {
		l.note(d, now)
		return
	}
	l.busy = true
	vm := vmOf(host, d.VM)
	dom := l.vms[string(d.VM)].dom
	l.a.wg.Go(func() {
		p := l.a.propose(ctx, d, vm, host, dom)
		select {
		case l.a.proposals <- p:
		case <-ctx.Done():
		}
	})
}

func vmOf(h planner.Host, id planner.VMID) planner.VM {
	for i := range h.VMs {
		if h.VMs[i].ID == id {
			return h.VMs[i]
		}
	}
	return planner.VM{ID: id}
}

// propose probes the candidates of a decision, chooses, and starts the attempt
// when the mode allows it. It runs beside the loop.
func (a *Agent) propose(ctx context.Context, d planner.Decision, vm planner.VM, src planner.Host, dom hypervisor.Domain) proposal {
	if !sleep(ctx, d.Delay) {
		return proposal{decision: d, err: ctx.Err()}
	}
	offers := a.probe(ctx, *d.Need, d.Candidates)
	to, e, refused := planner.Choose(vm, src, offers, a.policy)
	d = d.Conclude(to, e, refused, a.policy)
	a.offers.received(vm, offers, to, e, refused)
	p := proposal{decision: d, refused: refused}
	if to == "" || d.Action != planner.ActionMove {
		return p
	}
	if why := a.held(); why != "" { // since the round
		p.err = errors.New(why)
		return p
	}
	order := []planner.HostID{to}
	for _, o := range offers { // the second best, should the first refuse the lease
		if o.Host != to && len(o.Refusals) == 0 {
			if e := planner.EvaluateMigration(vm, src, o, a.policy); e.Allowed() {
				order = append(order, o.Host)
			}
		}
	}
	p.err = a.start(ctx, vm, dom, order, d, "")
	p.started = p.err == nil
	return p
}

// sleep waits for d and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// start hands the attempt to the desk.
func (a *Agent) start(ctx context.Context, vm planner.VM, dom hypervisor.Domain, order []planner.HostID, d planner.Decision, operator string) error {
	s := negotiate.Start{
		VM: negotiate.VMID(vm.ID), LastAttempt: negotiate.Attempt(dom.Metadata.Attempt), Autostart: dom.Autostart,
		Need: negotiate.Need{MemoryMiB: float64(vm.Memory)}, Operator: operator, CopyLimit: a.policy.MaxCopyTime,
	}
	if vm.CPU.Peak.Known() {
		s.Need.Cores = vm.CPU.Peak[2] // 0.9
	}
	for _, id := range order {
		s.Candidates = append(s.Candidates, negotiate.Candidate{Host: negotiate.HostID(id), Guard: a.guardFor(dom, operator)})
	}
	cause := causePlanner
	if operator != "" {
		cause = causeOperator
	}
	a.moves.expect(vm, d, cause)
	if err := a.desk.Start(ctx, s); err != nil {
		a.moves.unexpect(vm.ID)
		return fmt.Errorf("start moving %s: %w", vm.Name, err)
	}
	return nil
}

// proposed takes up what a proposal came to.
func (l *loop) proposed(p proposal) {
	l.busy = false
	now := time.Now()
	if p.err != nil {
		p.decision.Reason += notStarted + p.err.Error()
		p.decision.Action = planner.ActionStuck
	}
	if fresh := l.note(p.decision, now); fresh && p.decision.Action == planner.ActionApprove {
		l.a.event("approval-wanted", l.a.o.Name, string(p.decision.VM), fmt.Sprintf("decision %s: %s to %s %s",
			shortID(p.decision.ID), p.decision.VMName, l.a.hostName(p.decision.To), p.decision.Reason))
	}
	if p.decision.To == "" {
		l.state = l.state.NoteRefused(now, p.decision.VM, p.refused, l.a.policy)
	}
	if p.started {
		// A stay cannot be judged any more once something moved.
		l.judge = slices.DeleteFunc(l.judge, func(v verdictDue) bool { return v.decision.Action != planner.ActionMove })
		if err := l.a.standing.used(p.decision.VM); err != nil {
			l.a.log.Warn("an approval is not taken back, and may serve once more", "vm", p.decision.VMName, "err", err)
		}
		l.expectVerdict(p.decision, now)
		l.a.event("decision", l.a.o.Name, string(p.decision.VM), "move "+p.decision.VMName+" to "+l.a.hostName(p.decision.To)+": "+p.decision.Reason)
	}
}

// note records a decision; one to stay that is another one than before is judged
// later, as a move is.
func (l *loop) note(d planner.Decision, now time.Time) (fresh bool) {
	fresh = l.a.book.add(d)
	if fresh && d.Action != planner.ActionMove && judgeable(&d) && len(l.judge) < maxDue/2 {
		d.To = "" // what was only wished is judged as a stay
		l.expectVerdict(d, now)
	}
	return fresh
}

// publish gossips the host's free slots.
func (l *loop) publish(host planner.Host, now time.Time) {
	if l.a.o.Mesh == nil {
		return
	}
	l.advertise(host)
	slots := planner.Slots(host, l.a.policy.Classes, l.a.policy.SlotProbability, now)
	d := mesh.Digest{ValidFor: l.a.policy.MaxDigestAge, Incoming: uint8(min(255, len(host.Held)+len(host.Incoming)))}
	for i, s := range slots {
		if i < len(d.Free) {
			d.Free[i] = uint8(min(255, s.Free))
		}
	}
	d.Pressure = pressureByte(planner.HostPressure(host))
	l.digest++
	d.Seq = l.digest
	if _, err := l.a.o.Mesh.PublishDigest(d); err != nil {
		l.a.log.Warn("digest not published", "err", err)
	}
}

// pressureByte packs a share of capacity into hundredths, at most 2.55: a host of which
// nothing is known looks full.
func pressureByte(share float64) uint8 {
	if math.IsNaN(share) {
		return math.MaxUint8
	}
	return uint8(min(255, max(0, math.Round(100*share))))
}

// peers are the other hosts as gossip shows them.
func (a *Agent) peers() []planner.Peer {
	var out []planner.Peer
	members := a.members()
	life := mesh.DigestLife(a.policy.MaxDigestAge, len(members))
	for _, m := range members {
		if m.ID == a.o.Mesh.Self() {
			continue
		}
		p := planner.Peer{
			ID: planner.HostID(m.ID), Name: m.Name, Alive: m.Status == mesh.StatusAlive, Draining: m.Tags.Draining,
			RTT: m.RTT, RTTKnown: m.RTTKnown, CPUModel: m.Tags.CPUModel, Pools: poolsOf(m.Tags),
		}
		if m.HasDigest {
			p.Free = map[string]int{}
			for i, c := range a.policy.Classes {
				p.Free[c.Name] = int(m.Digest.Free[i])
			}
			p.Pressure, p.Incoming = float64(m.Digest.Pressure)/100, int(m.Digest.Incoming)
			p.DigestAge, p.ValidFor = m.DigestAge, min(life, m.Digest.ValidFor)
		}
		out = append(out, p)
	}
	return out
}

// bequeath sends what was learned of a VM to the host it moves to.
func (l *loop) bequeath(v *vm, u handover.Update) {
	var bodies [][]byte
	for s, m := range v.models {
		if m == nil {
			continue
		}
		state, err := m.MarshalBinary()
		var body []byte
		if err == nil {
			body, err = json.Marshal(modelMessage{VM: v.dom.ID, Signal: signal(s).String(), State: state})
		}
		if err != nil {
			l.a.log.Warn("learned model not handed over", "vm", v.dom.Name, "signal", signal(s).String(), "err", err)
			continue
		}
		bodies = append(bodies, body)
	}
	l.a.wg.Go(func() {
		for _, body := range bodies {
			if _, err := l.a.call(context.Background(), planner.HostID(u.Peer), methodModel, body); err != nil {
				l.a.log.Info("learned model not handed over; the new host learns anew", "vm", v.dom.Name, "err", err)
			}
		}
	})
}
