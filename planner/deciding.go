package planner

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// What can decide a round beside a refusal kind.
const (
	DecidedByPressure = "pressure" // the forecast p90 against HIGH
	DecidedByUnserved = "unserved" // the demand expected to wait against the least gain
	DecidedByHold     = "hold"     // rounds with pressure against those needed
	DecidedByGain     = "gain"     // the gain against the required multiple of the cost
	DecidedByMode     = "mode"     // the mode leaves the move to people
	DecidedByFreeze   = "freeze"   // a condition under which nothing is planned
	DecidedByDrain    = "drain"    // the operator wants the host empty
	DecidedByMoves    = "moves"    // as many moves as allowed are under way
	DecidedByEmpty    = "empty"    // there is no VM that could leave
)

// Deciding is what tipped a decision, and how far away the opposite was.
type Deciding struct {
	// By is one of the DecidedBy words, or the refusal kind that stood in the way.
	By string `json:"by"`
	// Have was compared with Need, both in Unit; Factor is Need / Have. Absent
	// where no figure decides.
	Have   *float64 `json:"have,omitempty"`
	Need   *float64 `json:"need,omitempty"`
	Unit   string   `json:"unit,omitempty"`
	Factor *float64 `json:"factor,omitempty"`
	// Term is the largest cost term of the move ("overhead/copy"), TermCost its
	// size and TermText its words; empty where no move was weighed.
	Term     string      `json:"term,omitempty"`
	TermCost CoreSeconds `json:"term_core_s,omitempty"`
	TermText string      `json:"term_text,omitempty"`
	// Would is the counterfactual: what would have made it the other way round.
	Would string `json:"would"`
}

// figure notes the comparison that decided.
func (g *Deciding) figure(have, need float64, unit string) {
	g.Have, g.Need, g.Unit = known(have), known(need), unit
	if have > 0 && need > 0 {
		g.Factor = known(need / have)
	}
}

// times words the factor: «2.1 times higher».
func (g *Deciding) times() string {
	if g.Factor == nil {
		return "higher: there was none"
	}
	f, word := *g.Factor, "higher"
	if f < 1 {
		f, word = 1/f, "lower"
	}
	switch {
	case f >= 10:
		return fmt.Sprintf("%.0f times %s", f, word)
	case f >= 1.1:
		return fmt.Sprintf("%.1f times %s", f, word)
	}
	return fmt.Sprintf("%.2f times %s", f, word)
}

// decided finds what tipped d. It reads the record alone, so that it can be
// repeated on an old one.
func decided(d *Decision, p *Policy) *Deciding {
	g := &Deciding{}
	in := &d.Inputs
	switch {
	case d.Action == ActionFrozen:
		g.By, g.Would = DecidedByFreeze, "would have been planned without this: "+d.Reason
	case in.Outgoing >= p.MaxOutgoing && d.VM == "" && len(d.Considered) == 0:
		g.By, g.Would = DecidedByMoves, "would have been weighed after the moves that are under way"
		g.figure(float64(in.Outgoing), float64(p.MaxOutgoing), "moves")
	case d.Drain && d.Action != ActionStuck:
		g.By, g.Would = DecidedByDrain, "would stay if the host were not drained"
		if d.VM == "" {
			g.Would = "nothing is left to leave"
		}
	case d.VM == "" && len(d.Considered) == 0:
		g.calm(d, p)
	default:
		g.weighed(d, p)
	}
	return g
}

// calm explains a round in which no VM was weighed.
func (g *Deciding) calm(d *Decision, p *Policy) {
	in := &d.Inputs
	switch {
	case in.VMs == 0 || d.Action == ActionStuck:
		g.By, g.Would = DecidedByEmpty, "there is no VM that could leave"
	case !(in.Pressure > p.High):
		g.By = DecidedByPressure
		unit := "share of usable cores"
		if in.Shortest != "" {
			unit = "share of " + in.capacity()
		}
		g.figure(in.Pressure, p.High, unit)
		g.Would = "would have looked for a move if the forecast p90 had been " + g.times()
	case !(in.Unserved >= p.MinGain && in.Unserved > 0):
		g.By = DecidedByUnserved
		g.figure(float64(in.Unserved), float64(p.MinGain), "core-seconds")
		g.Would = "would have looked for a move if the demand expected to wait had been " + g.times()
	default:
		g.By = DecidedByHold
		g.figure(float64(in.Held), float64(p.Hold), "rounds")
		g.Would = fmt.Sprintf("would look for a move after %d more rounds like this", max(1, p.Hold-in.Held))
	}
}

// weighed explains a round in which VMs were weighed.
func (g *Deciding) weighed(d *Decision, p *Policy) {
	e, refusals := d.best()
	label := orElse(d.VMName, string(d.VM))
	if label == "" && len(d.Considered) > 0 {
		label = orElse(d.Considered[0].Name, string(d.Considered[0].VM))
	}
	if e != nil {
		g.largest(&e.Cost)
	}
	switch {
	case e != nil && (d.Action == ActionMove || d.Action == ActionAdvise || d.Action == ActionApprove):
		g.By = DecidedByGain
		g.figure(float64(e.Gain), float64(p.required(e.Cost.Total)), "core-seconds")
		g.Would = fmt.Sprintf("%s would have stayed if the gain had been %s", label, g.times())
		if d.Action != ActionMove {
			g.By = DecidedByMode
			g.Would = fmt.Sprintf("%s would have moved in mode auto; it would have been left where it is if the gain had been %s", label, g.times())
		}
	case len(refusals) > 0 && hasKind(refusals, RefuseGain) && e != nil:
		g.By = DecidedByGain
		g.figure(float64(e.Gain), float64(p.required(e.Cost.Total)), "core-seconds")
		g.Would = fmt.Sprintf("%s would have moved if the gain had been %s", label, g.times())
	case len(refusals) > 0:
		g.By = string(refusals[0].Kind)
		g.Would = fmt.Sprintf("%s might have moved without this: %s", label, refusals[0].Text)
	default:
		g.refusedHosts(d, p, label)
	}
}

// refusedHosts explains a VM that should have left and fits nowhere.
func (g *Deciding) refusedHosts(d *Decision, p *Policy, label string) {
	if near := nearest(d.Refused, p); near != nil {
		g.By = DecidedByGain
		g.figure(float64(near.Gain), float64(p.required(near.Cost)), "core-seconds")
		g.Would = fmt.Sprintf("%s would have moved to %s if the gain had been %s", label, orElse(near.Name, string(near.Host)), g.times())
		return
	}
	kind, n := commonest(d.RefusedKinds)
	if n == 0 {
		g.By, g.Would = string(RefuseUnreachable), label+" would have moved if another host had been there to ask"
		return
	}
	g.By = string(kind)
	g.Would = fmt.Sprintf("%s would have been offered to %d more hosts without refusals for %s", label, n, kind)
	for _, r := range d.Refused {
		if len(r.Refusals) > 0 && r.Refusals[0].Kind == kind {
			g.Would += fmt.Sprintf(" (%s: %s)", orElse(r.Name, string(r.Host)), r.Refusals[0].Text)
			break
		}
	}
}

// best is the weighing that decided, and what stood against it: that with the
// destination, else that of the VM proposed, else that of the first VM.
func (d *Decision) best() (*Evaluation, []Refusal) {
	if d.Evaluation != nil {
		return d.Evaluation, nil
	}
	for i := range d.Considered {
		if o := &d.Considered[i]; o.VM == d.VM || d.VM == "" {
			return &o.Evaluation, o.Refusals
		}
	}
	return nil, nil
}

// required is the gain that a move of that cost needs.
func (p *Policy) required(cost CoreSeconds) CoreSeconds {
	return max(p.MinGain, CoreSeconds(p.GainFactor)*cost)
}

// nearest is the refused destination that failed by its gain alone and by least.
func nearest(refused []RefusedDestination, p *Policy) *RefusedDestination {
	var best *RefusedDestination
	short := func(r *RefusedDestination) float64 { return float64(p.required(r.Cost)) / float64(r.Gain) }
	for i := range refused {
		r := &refused[i]
		if len(r.Refusals) != 1 || r.Refusals[0].Kind != RefuseGain || !(r.Gain > 0) {
			continue
		}
		if best == nil || short(r) < short(best) {
			best = r
		}
	}
	return best
}

func commonest(kinds map[Kind]int) (Kind, int) {
	var kind Kind
	most := 0
	for _, k := range Kinds() { // in their order: the same record is always explained the same way
		if kinds[k] > most {
			kind, most = k, kinds[k]
		}
	}
	return kind, most
}

// largest notes the cost term that weighs most.
func (g *Deciding) largest(c *Cost) {
	if len(c.Terms) == 0 {
		return
	}
	t := slices.MaxFunc(c.Terms, func(a, b Term) int { return cmp.Compare(math.Abs(float64(a.Value)), math.Abs(float64(b.Value))) })
	g.Term, g.TermCost, g.TermText = t.Group+"/"+t.Name, t.Value, t.Text
}

// Story tells the decision in whole sentences, one a line, to somebody who does
// not know the planner. name gives a host's name.
func (d Decision) Story(name func(HostID) string) []string {
	out := []string{d.headline(name), "Why: " + d.Reason + "."}
	in := &d.Inputs
	if in.Forecast.Ready {
		line := fmt.Sprintf("The host: its VMs are forecast to want up to %.2f of %.2f usable cores (p90 of the peak within %s), now they want %.2f; %.2f core-seconds of demand are expected to wait",
			in.Pressure*float64(in.Usable.CPU), in.Usable.CPU, round(in.Horizon), in.NowDemand, in.Unserved)
		if d.ContentionAt >= 0 {
			line += ", from " + d.At.Add(d.ContentionAt).UTC().Format(time.TimeOnly) + " UTC on"
		}
		out = append(out, line+".")
	} else if in.Forecast.Why != "" {
		out = append(out, "The host: its demand is not forecast: "+in.Forecast.Why+".")
	}
	if e, _ := d.best(); e != nil && len(e.Cost.Terms) > 0 {
		line := fmt.Sprintf("The move: leaving avoids %.2f core-seconds of waiting", e.Gain)
		if e.Room > 0 {
			line += fmt.Sprintf(", %.2f of them where it lets another VM leave", e.Room)
		}
		out = append(out, fmt.Sprintf("%s and costs %.2f; copying takes about %s with a pause of %s.", line, e.Cost.Total, round(e.Cost.CopyTime), round(e.Cost.Blackout)))
	}
	if g := d.Deciding; g != nil {
		if g.Term != "" {
			out = append(out, fmt.Sprintf("The largest cost: %s, %.2f core-seconds: %s.", g.Term, g.TermCost, g.TermText))
		}
		line := "What decided: " + g.By
		if g.Have != nil && g.Need != nil {
			line += fmt.Sprintf(", %.3g against %.3g %s", *g.Have, *g.Need, g.Unit)
		}
		out = append(out, line+".", "Otherwise: "+g.Would+".")
	}
	if d.Counterfactual != "" {
		out = append(out, "Expected: "+d.Counterfactual+".")
	}
	return out
}

// headline says in one sentence what was decided.
func (d *Decision) headline(name func(HostID) string) string {
	vm := orElse(d.VMName, string(d.VM))
	at := d.At.UTC().Format(time.TimeOnly) + " UTC: "
	to := "another host"
	if d.To != "" {
		to = name(d.To)
	}
	switch d.Action {
	case ActionMove:
		return at + "move " + vm + " to " + to + "."
	case ActionAdvise:
		return at + "would move " + vm + " to " + to + ", and only says so."
	case ActionApprove:
		return at + "would move " + vm + " to " + to + ", and waits for approval."
	case ActionFrozen:
		return at + "nothing is planned."
	case ActionStuck:
		return at + "something should leave, and cannot."
	}
	return at + "nothing has to move."
}

// About says what the decision means for one VM, which need not be the one that
// it chose; "" when the round did not look at that VM.
func (d Decision) About(vm VMID, p Policy) string {
	if vm == d.VM {
		return ""
	}
	for i := range d.Considered {
		o := &d.Considered[i]
		if o.VM != vm {
			continue
		}
		label := orElse(o.Name, string(o.VM))
		e := &o.Evaluation
		weighed := fmt.Sprintf("%s stays: its leaving would avoid %.2f core-seconds and cost %.2f", label, e.Gain, e.Cost.Total)
		switch {
		case hasKind(o.Refusals, RefuseGain):
			g := Deciding{}
			g.figure(float64(e.Gain), float64(p.required(e.Cost.Total)), "")
			return weighed + "; it would have been worth it if the gain had been " + g.times()
		case len(o.Refusals) > 0:
			return weighed + "; against it: " + o.Refusals[0].Text
		}
		return weighed + "; " + orElse(d.VMName, string(d.VM)) + " was the better choice"
	}
	return ""
}
