package planner

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// costFloor keeps net gain per cost finite for moves that cost next to nothing.
const costFloor = 1e-3

// options weighs every VM that is not on its way already, best first.
func (r *planning) options() []candidate {
	var out []candidate
	for i := range r.h.VMs {
		vm := &r.h.VMs[i]
		if r.onItsWay(vm) {
			continue
		}
		e := r.src.leaving(vm, "")
		e.finish(r.p, false)
		out = append(out, r.option(vm, e, append(r.stays(vm), r.resting(vm, &e)...)))
	}
	slices.SortFunc(out, func(a, b candidate) int { return r.rank(&a, &b) })
	return out
}

// leavers are the VMs to drain, allowed ones first, then the largest share of
// the host first: small ones fit anywhere later.
func (r *planning) leavers() []candidate {
	var out []candidate
	for i := range r.h.VMs {
		vm := &r.h.VMs[i]
		if r.onItsWay(vm) {
			continue
		}
		e := r.src.leaving(vm, "")
		e.finish(r.p, true)
		out = append(out, r.option(vm, e, r.stays(vm)))
	}
	slices.SortFunc(out, func(a, b candidate) int {
		return cmp.Or(
			cmp.Compare(b2i(len(a.Refusals) > 0), b2i(len(b.Refusals) > 0)),
			cmp.Compare(r.dominant(b.vm), r.dominant(a.vm)),
			cmp.Compare(a.VM, b.VM))
	})
	return out
}

// dominant is the VM's larger share of the host's two dimensions.
func (r *planning) dominant(vm *VM) float64 {
	c := r.h.Capacity
	cpu := p90(NeedOf(*vm, *r.h).CPU.Peak)
	return math.Max(ratio(cpu, float64(c.CPU)), ratio(float64(vm.Memory), float64(c.Memory)))
}

func ratio(a, b float64) float64 {
	if !(b > 0) {
		return 0
	}
	return a / b
}

func (r *planning) onItsWay(vm *VM) bool {
	return slices.Contains(r.h.Outgoing, vm.ID) || r.h.isTransient(vm.ID)
}

func (r *planning) option(vm *VM, e Evaluation, refusals []Refusal) candidate {
	refusals = append(refusals, e.Refusals...)
	e.Refusals = nil
	return candidate{vm: vm, tired: r.st.refusing(vm.ID) >= tiredAfter, Option: Option{
		VM: vm.ID, Name: vm.Name, Forecast: summarise(&vm.CPU), Evaluation: e, Refusals: refusals,
		Cures: float64(e.Residual) <= r.p.ResidualShare*float64(e.Source.Without),
		Ratio: float64(e.Net) / math.Max(costFloor, float64(e.Cost.Total)),
	}}
}

// freedom orders modes by what the agent may do alone.
func (r *planning) freedom(vm *VM) int {
	order, _ := r.st.order(vm.ID)
	switch mode := r.mode(vm); {
	case mode == ModeAuto || mode == ModeApprove && order.Approve:
		return 2
	case mode == ModeApprove:
		return 1
	}
	return 0
}

// stays lists what keeps a VM on its host whatever the gain; it binds a drain too.
func (r *planning) stays(vm *VM) []Refusal {
	out := vm.immovable()
	if pin := vm.Policy.Pin; pin == PinHere || pin != "" && (pin == string(r.h.ID) || pin == r.h.Name) {
		out = append(out, refuse(RefusePinned, "pinned to this host"))
	}
	if o, ok := r.st.order(vm.ID); ok && !o.Approve {
		out = append(out, refuse(RefuseRejected, "the operator rejected the move until %s", o.Until.UTC().Format(time.RFC3339)))
	}
	if rest, ok := r.st.rest(vm.ID, ""); ok {
		out = append(out, refuse(RefuseBackoff, "rests for %s: %s", round(rest.Until.Sub(r.now)), rest.Why))
	}
	return out
}

// immovable lists what keeps a VM from moving anywhere now.
func (vm *VM) immovable() []Refusal {
	var out []Refusal
	if vm.Unmovable != "" {
		out = append(out, refuse(RefuseUnmovable, "can never be migrated: %s", vm.Unmovable))
	}
	if !vm.Guarded {
		out = append(out, refuse(RefuseNoGuard, "has no hand-over guard, and without one it might run twice"))
	}
	if vm.Busy != "" {
		out = append(out, refuse(RefuseBusy, "waits for: %s", vm.Busy))
	}
	return out
}

// resting lists what keeps a VM on its host unless the host is drained.
func (r *planning) resting(vm *VM, e *Evaluation) []Refusal {
	var out []Refusal
	if left := CooldownLeft(vm.History, r.now, *r.p); left > 0 && !r.urgent(vm, e) {
		out = append(out, refuse(RefuseCooldown, "cools down for another %s, move(s) in the last 24 h: %d%s",
			round(left), vm.History.recent(r.now), r.sooner(vm)))
	}
	if near := r.h.bound(vm); len(near) > 0 {
		out = append(out, refuse(RefuseAffinity, "must stay with %s", near[0]))
	}
	return out
}

// recent counts the moves of the last 24 h, the last one included.
func (h MoveHistory) recent(now time.Time) int {
	n := 0
	for _, t := range h.Moves {
		if now.Sub(t) <= 24*time.Hour {
			n++
		}
	}
	if n == 0 && !h.LastMoved.IsZero() && now.Sub(h.LastMoved) <= 24*time.Hour {
		n = 1
	}
	return n
}

// CooldownLeft is how long a VM must still rest at now: Policy.Cooldown after
// its last move, doubled for each further move in 24 h, at most CooldownCap.
// A last move in the future, by another host's clock, counts as just now.
func CooldownLeft(h MoveHistory, now time.Time, p Policy) time.Duration {
	n := h.recent(now)
	if n == 0 {
		return 0
	}
	rest := p.Cooldown
	for i := 1; i < n && rest < p.CooldownCap; i++ {
		rest *= 2
	}
	rest = min(rest, p.CooldownCap)
	last := h.LastMoved
	for _, t := range h.Moves {
		if t.After(last) {
			last = t
		}
	}
	return max(0, rest-max(0, now.Sub(last)))
}

// returnLeft is how long the VM may not yet return to a host it left.
func (r *planning) returnLeft(vm *VM, to HostID) time.Duration {
	left := r.banned(vm, to)
	if left > 0 && r.src != nil {
		if e := r.src.leaving(vm, ""); r.urgent(vm, &e) {
			return 0
		}
	}
	return left
}

// banned is returnLeft of a VM that is not urgent.
func (r *planning) banned(vm *VM, to HostID) time.Duration {
	h := &vm.History
	if h.LastFrom == "" || h.LastFrom != to || h.LastMoved.IsZero() {
		return 0
	}
	return max(0, r.p.ReturnAfter-max(0, r.now.Sub(h.LastMoved)))
}

// urgent says that so much demand is expected to wait if vm stays that neither its
// cool-down nor its return ban binds. They keep a wrong forecast from sending VMs to
// and fro; to hold on to them while far more waits than any move costs would be to
// suffer for the sake of the rule. Each move of the last 24 h doubles what it takes, so
// that a VM cannot go to and fro on urgency either. Room made for others never counts.
func (r *planning) urgent(vm *VM, e *Evaluation) bool {
	least := r.p.urgentGain(vm.History.recent(r.now))
	return least > 0 && e.Gain-e.Room >= least
}

// urgentGain is the gain from which a VM with so many moves in 24 h need not rest; 0: it
// always must.
func (p *Policy) urgentGain(moves int) CoreSeconds {
	return CoreSeconds(math.Ldexp(p.UrgentFactor, max(0, moves-1))) * p.MinGain
}

// sooner words what would end the VM's rest.
func (r *planning) sooner(vm *VM) string {
	least := r.p.urgentGain(vm.History.recent(r.now))
	if least == 0 {
		return ""
	}
	return fmt.Sprintf("; sooner for a gain of %.2f core-seconds", least)
}
