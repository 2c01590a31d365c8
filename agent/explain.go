package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"headroom/agent/api"
	"headroom/planner"
)

// Plan makes a round on trial: the same decision as the loop would make now, the
// same live probe, and then nothing.
func (a *Agent) Plan(ctx context.Context) (api.Plan, error) {
	now := time.Now()
	v := a.view.Load()
	host := a.withHoldings(v, a.desk.Holdings())
	state := v.state
	state.Orders = a.standing.answers(now)
	d, _ := planner.Decide(now, host, a.peers(), state, a.policy, rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())))
	if len(d.Candidates) > 0 {
		vm := vmOf(host, d.VM)
		to, e, refused := planner.Choose(vm, host, a.probe(ctx, *d.Need, d.Candidates), a.policy)
		d = d.Conclude(to, e, refused, a.policy)
	}
	out := api.Plan{At: now.UTC(), Text: d.Story(a.hostName), Learned: a.apiLearned(host.Learned)}
	out.Decision = a.apiDecision(entry{Decision: d, LastAt: d.At}, true)
	return out, ctx.Err()
}

// Explain tells a decision, or the last one that concerned a VM.
func (a *Agent) Explain(what string) (api.Explanation, error) {
	if e, ok := a.book.find(what); ok {
		return a.explanation(e, ""), nil
	}
	v := a.view.Load()
	vm, here := findVM(&v.host, what)
	e, ok := a.book.concerning(what, vm.ID)
	switch {
	case !ok && !here:
		return api.Explanation{}, fmt.Errorf("%q: %w: neither a decision of this host nor a VM that it has decided about", what, api.ErrNotFound)
	case !ok:
		return api.Explanation{}, fmt.Errorf("VM %s: %w: no round has been made yet", what, api.ErrNotFound)
	}
	out := a.explanation(e, what)
	if text := e.Decision.About(vm.ID, a.policy); here && text != "" {
		out.Text = append([]string{"About " + vm.Name + ": " + text + "."}, out.Text...)
	}
	return out, nil
}

// concerning is the latest decision that chose or weighed a VM, by name or UUID;
// failing that, the latest decision, if the VM is here.
func (b *book) concerning(name string, id planner.VMID) (entry, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	is := func(vm planner.VMID, called string) bool {
		return called == name || string(vm) == name || id != "" && vm == id
	}
	for i := len(b.list) - 1; i >= 0; i-- {
		d := &b.list[i].Decision
		if is(d.VM, d.VMName) {
			return b.list[i], true
		}
		for j := range d.Considered {
			if is(d.Considered[j].VM, d.Considered[j].Name) {
				return b.list[i], true
			}
		}
		if i == len(b.list)-1 && len(d.Considered) == 0 && id != "" {
			return b.list[i], true // a round that weighed nobody is about all VMs
		}
	}
	if n := len(b.list); n > 0 && id != "" {
		return b.list[n-1], true
	}
	return entry{}, false
}

// explanation tells a decision with what became of it.
func (a *Agent) explanation(e entry, vm string) api.Explanation {
	d := &e.Decision
	out := api.Explanation{VM: vm, Decision: a.apiDecision(e, true), Text: d.Story(a.hostName), Deciding: apiDeciding(d.Deciding),
		Learned: a.apiLearned(a.view.Load().host.Learned)}
	if e.Repeats > 0 {
		out.Text = append(out.Text, fmt.Sprintf("Repeated: %d more rounds came to the same end, the last at %s UTC.", e.Repeats, e.LastAt.UTC().Format(time.TimeOnly)))
	}
	for _, r := range d.Refused {
		out.Text = append(out.Text, fmt.Sprintf("Refused: %s: %s.", a.hostName(r.Host), reasons(r.Refusals)))
	}
	if e.Answer != "" {
		out.Text = append(out.Text, "Answer: an operator "+e.Answer+" it.")
	}
	due := d.At.Add(a.cfg.Planner.VerdictAfter.Duration).UTC()
	switch v := e.Verdict; {
	case v != nil:
		out.Verdict = &api.Verdict{Finding: string(v.Finding), Text: v.Text, Predicted: float64(v.Predicted), Measured: float64(v.Measured)}
		out.Text = append(out.Text, "Afterwards: "+v.Text+".")
	case judgeable(d) && time.Now().Before(due):
		out.VerdictDue = &due
		out.Text = append(out.Text, "Afterwards: judged at "+due.Format(time.TimeOnly)+" UTC.")
	default:
		out.Text = append(out.Text, "Afterwards: not judged.")
	}
	return out
}

func apiDeciding(g *planner.Deciding) *api.Deciding {
	if g == nil {
		return nil
	}
	return &api.Deciding{By: g.By, Have: g.Have, Need: g.Need, Unit: g.Unit, Factor: g.Factor,
		Term: g.Term, TermCoreSeconds: float64(g.TermCost), Would: g.Would}
}

func (a *Agent) apiLearned(l planner.Learned) api.Learned {
	out := api.Learned{Migrations: l.Migrations, CopyFactor: orOne(l.CopyRatio), BlackoutFactor: orOne(l.BlackoutRatio), Links: []api.LearnedLink{}}
	for _, e := range l.Links {
		out.Links = append(out.Links, api.LearnedLink{Peer: a.hostName(e.Peer), MiBPerS: float64(e.Bandwidth) / (1 << 20), Samples: e.Samples})
	}
	for _, m := range l.Moves {
		out.Moves++
		if !m.OK {
			out.Failed++
		}
	}
	return out
}

// orOne reads a factor that is zero while nothing is learned.
func orOne(f float64) float64 {
	if f == 0 {
		return 1
	}
	return f
}

// judgeable says whether what happens after a decision can be held against it.
func judgeable(d *planner.Decision) bool {
	return d.Action == planner.ActionMove && d.To != "" && !strings.Contains(d.Reason, notStarted) ||
		d.Action != planner.ActionMove && d.Action != planner.ActionFrozen && d.Inputs.Forecast.Ready && d.Inputs.VMs > 0 && d.Inputs.Outgoing == 0
}

// notStarted marks a decision whose move did not begin.
const notStarted = "; the move did not start: "
