package planner

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Probes is how many random feasible hosts are asked. Few live probes almost never
// meet a refusal; the best host by gossip is what everybody else chooses too. With
// three instead of two, contention on recorded traces is a tenth less
// (docs/PLANNER.md), and a herd still spreads (docs/MESH.md).
const Probes = 3

// Decide makes one round's decision for host h: whether a VM should leave, and
// which peers to ask. It returns the record and the state for the next
// round. It reads no clock and draws only from rng (not nil), so the same
// arguments give the same decision.
//
// In modes advise and approve the same decision is made and recorded, without
// the permission to act on it. A caller that starts a move says so with
// State.NoteStarted and in Host.Outgoing; one whose probes were refused says so
// with State.NoteRefused, and the next round looks elsewhere.
func Decide(now time.Time, h Host, peers []Peer, st State, p Policy, rng *rand.Rand) (Decision, State) {
	h.Learned = h.Learned.Forget(now)
	h.Wanted = FreshWanted(h.Wanted, now, p)
	p = p.scaled(&h)
	r := &planning{now: now, h: &h, peers: peers, p: &p, rng: rng, st: st.expire(now)}
	r.begin()
	switch {
	case r.frozen():
	case r.moving():
	case h.Draining:
		r.drain()
	case r.calm():
		r.makeRoom()
	default:
		r.relieve()
	}
	r.d.Deciding = decided(&r.d, &p)
	return r.d, r.st
}

// planning is the work of one call of Decide.
type planning struct {
	now   time.Time
	h     *Host
	peers []Peer
	p     *Policy
	rng   *rand.Rand
	st    State
	src   *source // nil while data is missing
	open  []*Peer // see openPeers; nil until asked
	d     Decision
}

// begin records the inputs and counts the round.
func (r *planning) begin() {
	h, p := r.h, r.p
	missing := h.missing()
	r.d = Decision{
		ID: fmt.Sprintf("%s-%d", h.ID, r.now.UnixNano()), At: r.now, Host: h.ID, Name: h.Name,
		Action: ActionStay, Mode: p.Mode, Drain: h.Draining, ContentionAt: -1,
	}
	in := &r.d.Inputs
	*in = Inputs{
		Capacity: finite(h.Capacity), Usable: finite(h.usable()), Window: p.Window, VMs: len(h.VMs), Leases: len(h.Held),
		Incoming: len(h.Incoming), Outgoing: len(h.Outgoing), Peers: len(r.peers),
		LastHour: h.Learned.lastHour(r.now), Missing: missing, MinGain: CoreSeconds(number(float64(p.MinGain))),
	}
	for i := range h.VMs {
		in.NowDemand += Cores(number(float64(h.VMs[i].NowCPU)))
		in.NowWait += Cores(number(float64(h.VMs[i].NowWait)))
	}
	if len(missing) == 0 || h.Draining {
		r.src = newSource(h, p)
		in.Horizon = h.horizon(r.src.grid)
		in.Unserved = CoreSeconds(r.src.total)
		in.Starved = CoreSeconds(total(r.src.starved))
		r.d.ContentionAt = r.src.contends
	}
	f := ForecastSummary{Method: "sum", Observed: fewest(h.VMs), Ready: len(missing) == 0}
	if len(missing) > 0 {
		f.Why = missing[0]
	} else {
		in.Pressure = r.src.peak / float64(r.src.usable)
		if which, share := r.src.shares.tightest(); share > in.Pressure {
			in.Pressure, in.Shortest = share, which.String()
		}
		f.Peak = r.src.load.peakQuantiles()
	}
	in.Forecast = f
	r.st = r.st.round(r.pressed())
	in.Held = r.st.held(p.Window)
}

// pressed says whether the round counts: the forecast p90 is above HIGH and
// enough demand is expected to wait that relief could be worth a move. With the
// first condition alone a busy but sufficient host would be one wild forecast
// away from a move.
func (r *planning) pressed() bool {
	in := &r.d.Inputs
	return in.Pressure > r.p.High && in.Unserved >= r.p.MinGain && in.Unserved > 0
}

// finite replaces what JSON cannot carry by 0: the record of a decision that
// was refused for nonsense has to be written all the same.
func finite(c Capacity) Capacity {
	return Capacity{CPU: Cores(number(float64(c.CPU))), Memory: MiB(number(float64(c.Memory)))}
}

func number(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return v
}

func (r *planning) conclude(a Action, format string, args ...any) bool {
	r.d.Action, r.d.Reason = a, fmt.Sprintf(format, args...)
	return true
}

// frozen applies the conditions under which a host plans nothing at all.
func (r *planning) frozen() bool {
	h, p := r.h, r.p
	if h.Paused != "" {
		return r.conclude(ActionFrozen, "%s", h.Paused)
	}
	if until, quiet := p.quiet(r.now); quiet && !h.Draining {
		return r.conclude(ActionFrozen, "quiet hours until %s", until.Format("Mon 15:04 MST"))
	}
	if missing := r.d.Inputs.Missing; len(missing) > 0 && !h.Draining {
		more := ""
		if len(missing) > 1 {
			more = fmt.Sprintf(" (and %d more)", len(missing)-1)
		}
		return r.conclude(ActionFrozen, "missing data: %s%s", missing[0], more)
	}
	if !h.View.Stable {
		return r.conclude(ActionFrozen, "the view of the cluster is not stable: %s", orElse(h.View.Why, "no reason given"))
	}
	if h.HealthScore > 0 {
		return r.conclude(ActionFrozen, "this agent's own health score is %d, not 0", h.HealthScore)
	}
	for _, c := range []MoveCount{r.d.Inputs.LastHour, h.Heard} {
		if c.Failed >= p.FreezeMinFailed && float64(c.Failed) > p.FreezeFailedShare*float64(c.Moves) {
			return r.conclude(ActionFrozen, "%d of %d moves failed in the last hour, more than %.0f %%", c.Failed, c.Moves, 100*p.FreezeFailedShare)
		}
	}
	return false
}

// moving bounds the moves under way.
func (r *planning) moving() bool {
	if n := len(r.h.Outgoing); n >= r.p.MaxOutgoing {
		return r.conclude(ActionStay, "%d of %d outgoing moves are under way", n, r.p.MaxOutgoing)
	}
	return false
}

// calm ends the round unless pressure held long enough.
func (r *planning) calm() bool {
	in, p := &r.d.Inputs, r.p
	r.d.CounterfactualUnserved = in.Unserved
	r.d.Counterfactual = fmt.Sprintf("if nothing moves, %.2f core-seconds of demand are expected to wait within %s", in.Unserved, round(in.Horizon))
	switch {
	case in.Pressure <= p.High:
		return r.conclude(ActionStay, "forecast p90 is %.0f %% of %s, not above HIGH %.0f %%", 100*in.Pressure, in.capacity(), 100*p.High)
	case !r.pressed():
		return r.conclude(ActionStay, "forecast p90 is %.0f %% of %s, above HIGH %.0f %%, but only %.2f core-seconds are expected to wait, less than %.3g",
			100*in.Pressure, in.capacity(), 100*p.High, in.Unserved, p.MinGain)
	case in.Held < p.Hold:
		return r.conclude(ActionStay, "contention is expected (p90 %.0f %% of %s) in %d of the last %d rounds; %d are needed",
			100*in.Pressure, in.capacity(), in.Held, p.Window, p.Hold)
	}
	return false
}

// relieve looks for the VM whose leaving is worth most, and for peers to ask.
func (r *planning) relieve() {
	options := r.options()
	r.keep(options)
	eligible := slices.IndexFunc(options, func(o candidate) bool { return len(o.Refusals) > 0 })
	if eligible < 0 {
		eligible = len(options)
	}
	if eligible == 0 {
		r.nobody(options)
		return
	}
	for _, o := range options[:min(eligible, r.p.MaxConsidered)] {
		if r.propose(&o) {
			return
		}
	}
	r.d.VM, r.d.VMName = options[0].VM, options[0].Name
	r.conclude(ActionStuck, "%s should leave, but no peer is feasible", options[0].vm.label())
}

// nobody ends a round under pressure in which no VM may leave.
func (r *planning) nobody(options []candidate) {
	if len(options) == 0 {
		r.conclude(ActionStuck, "demand is above capacity and no VM can leave: none is here that is not on its way")
		return
	}
	best := &options[0]
	e := &best.Evaluation
	if hasKind(best.Refusals, RefuseGain) {
		r.conclude(ActionStay, "no move is worth it: the best, %s, would avoid %.2f core-seconds and cost %.2f", best.vm.label(), e.Gain, e.Cost.Total)
		return
	}
	r.conclude(ActionStuck, "demand is expected above capacity, but no VM may leave; the best, %s: %s", best.vm.label(), best.Refusals[0].Text)
}

// keep records the options, bounded.
func (r *planning) keep(options []candidate) {
	n := min(len(options), r.p.MaxConsidered)
	r.d.Considered = make([]Option, n)
	for i := range n {
		r.d.Considered[i] = options[i].Option
	}
	r.d.Omitted = len(options) - n
}

// propose makes the decision for one VM, if any peer is feasible.
func (r *planning) propose(o *candidate) bool {
	// The record keeps the reasons of the first VM tried, or of the proposed one.
	if r.d.RefusedKinds != nil && !r.anyFeasible(o.vm) {
		return false
	}
	feasible, refused := r.feasible(o.vm)
	r.refusedBy(refused)
	if len(feasible) == 0 {
		return false
	}
	need := r.src.need(o.vm)
	need.Worth = o.Evaluation.Gain - o.Evaluation.Room
	r.d.VM, r.d.VMName, r.d.Need = o.VM, o.Name, &need
	r.d.Feasible = len(feasible)
	r.d.Candidates = draw(feasible, Probes, r.rng)
	if r.p.MaxJitter > 0 {
		r.d.Delay = time.Duration(r.rng.Int64N(int64(r.p.MaxJitter)))
	}
	e := &o.Evaluation
	r.d.PredictedWaitDrop = e.Gain - e.Shared - e.Room
	r.d.Counterfactual, r.d.CounterfactualUnserved = unmoved(&r.d, e)
	r.permit(o)
	return true
}

// permit turns the wish into the action that the mode allows.
func (r *planning) permit(o *candidate) {
	if r.h.Draining {
		r.conclude(ActionMove, "the host is being drained: %s leaves next", o.vm.label())
		return
	}
	e := &o.Evaluation
	why := fmt.Sprintf("%s leaving avoids %.2f of %.2f core-seconds expected to wait, at a cost of %.2f", o.vm.label(), e.Gain, e.Source.Without, e.Cost.Total)
	if room, worth := r.src.roomFor(o.vm); room != nil {
		why = fmt.Sprintf("%s leaving makes room for %s of %s, worth %.2f core-seconds there, at a cost of %.2f", o.vm.label(), room.label(), room.From, worth, e.Cost.Total)
	}
	if in := &r.d.Inputs; in.Shortest != "" {
		why += fmt.Sprintf("; the host is short of %s", in.Shortest)
	}
	if left := CooldownLeft(o.vm.History, r.now, *r.p); left > 0 {
		why += fmt.Sprintf("; urgent, so its cool-down of another %s does not bind", round(left))
	}
	if last := o.vm.History.LastFrom; r.banned(o.vm, last) > 0 && slices.Contains(r.d.Candidates, last) {
		why += fmt.Sprintf("; urgent, so it may return to %s, which it left %s ago", last, round(r.now.Sub(o.vm.History.LastMoved)))
	}
	mode := r.mode(o.vm)
	r.d.Mode = mode
	switch order, _ := r.st.order(o.VM); {
	case mode == ModeAuto:
		r.conclude(ActionMove, "%s", why)
	case mode == ModeApprove && order.Approve:
		r.conclude(ActionMove, "approved by the operator: %s", why)
	case mode == ModeApprove:
		r.conclude(ActionApprove, "waits for approval: %s", why)
	default:
		r.conclude(ActionAdvise, "mode is advise: %s", why)
	}
}

// mode is the VM's own mode, or the host's.
func (r *planning) mode(vm *VM) Mode {
	if vm.Policy.Mode != "" {
		return vm.Policy.Mode
	}
	return r.p.Mode
}

// draw returns n random members of ids, which are sorted, without order among
// them meaning anything.
func draw(ids []HostID, n int, rng *rand.Rand) []HostID {
	ids = slices.Clone(ids)
	n = min(n, len(ids))
	for i := range n {
		j := i + rng.IntN(len(ids)-i)
		ids[i], ids[j] = ids[j], ids[i]
	}
	return ids[:n]
}

// drain empties the host, the VM that is hardest to place first.
func (r *planning) drain() {
	options := r.leavers()
	r.keep(options)
	if len(options) == 0 {
		r.conclude(ActionStay, "the host is drained: no VM is left on it")
		return
	}
	tried := 0
	for i := range options {
		if len(options[i].Refusals) > 0 {
			continue
		}
		if tried++; tried > r.p.MaxConsidered {
			break
		}
		if r.propose(&options[i]) {
			return
		}
	}
	if tried > 0 {
		r.d.VM, r.d.VMName = options[0].VM, options[0].Name
		r.conclude(ActionStuck, "the host is being drained: %d of its VMs remain and no peer is feasible for them", len(options))
		return
	}
	r.conclude(ActionStuck, "the host is being drained: %d of its VMs remain and none may leave; %s: %s", len(options), options[0].vm.label(), options[0].Refusals[0].Text)
}
