package planner

import (
	"fmt"
	"math"
	"strings"
	"time"

	"headroom/predict"
)

// Action is what a round decided.
type Action string

// The actions.
const (
	ActionStay    Action = "stay"          // nothing has to move
	ActionMove    Action = "move"          // probe Candidates; move if one accepts
	ActionAdvise  Action = "advise"        // would move, the mode only advises
	ActionApprove Action = "wait-approval" // would move, waits for the operator
	ActionFrozen  Action = "frozen"        // may not plan; Reason says why
	ActionStuck   Action = "stuck"         // something should leave and fits nowhere
)

// ForecastSummary is a forecast as records keep it.
type ForecastSummary struct {
	Method   string            `json:"method"`
	Peak     predict.Quantiles `json:"peak"`
	Skill    *float64          `json:"skill"`    // null: not known yet
	Coverage *float64          `json:"coverage"` // null: not known yet
	Observed int               `json:"observed_samples"`
	Ready    bool              `json:"ready"`
	Why      string            `json:"why,omitempty"`
}

func summarise(f *predict.Forecast) ForecastSummary {
	return ForecastSummary{
		Method: f.Method, Peak: f.Peak, Skill: known(f.Skill), Coverage: known(f.Coverage),
		Observed: f.Observed, Ready: f.Ready, Why: f.Why,
	}
}

func known(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// Inputs is what a decision was made from.
type Inputs struct {
	Capacity Capacity        `json:"capacity"`
	Usable   Capacity        `json:"usable"`
	Forecast ForecastSummary `json:"forecast"` // the host's
	Horizon  time.Duration   `json:"horizon_ns"`
	// Pressure is the forecast p90 of the host's peak as a share of usable cores,
	// or of the limit of Shortest, the resource of which it is shorter; Held of
	// Window rounds counted as pressure.
	Pressure float64 `json:"pressure"`
	Shortest string  `json:"shortest,omitempty"`
	Held     int     `json:"held_rounds"`
	Window   int     `json:"window_rounds"`
	// Unserved is the demand expected to wait within the horizon if nothing moves.
	// MinGain is what it has to reach for a look, and a move's gain for the move.
	// Starved is the part of it that is for memory, disk or network.
	Unserved  CoreSeconds `json:"expected_unserved_core_s"`
	Starved   CoreSeconds `json:"expected_starved_core_s,omitempty"`
	MinGain   CoreSeconds `json:"min_gain_core_s"`
	VMs       int         `json:"vms"`
	Leases    int         `json:"leases"`
	Incoming  int         `json:"incoming"`
	Outgoing  int         `json:"outgoing"`
	Peers     int         `json:"peers"`
	LastHour  MoveCount   `json:"last_hour"`
	Missing   []string    `json:"missing,omitempty"`
	NowWait   Cores       `json:"now_wait_cores"`
	NowDemand Cores       `json:"now_demand_cores"`
}

// capacity words what Pressure is a share of.
func (in *Inputs) capacity() string {
	if in.Shortest != "" {
		return in.Shortest + " capacity"
	}
	return "capacity"
}

// Option is one VM that a decision looked at.
type Option struct {
	VM       VMID            `json:"vm"`
	Name     string          `json:"name"`
	Forecast ForecastSummary `json:"forecast"`
	// Evaluation is without a destination: its gain and the cost of the copy.
	Evaluation Evaluation `json:"evaluation"`
	// Cures says that the VM's leaving removes the expected contention.
	Cures    bool      `json:"cures"`
	Ratio    float64   `json:"net_per_cost"`
	Refusals []Refusal `json:"refusals,omitempty"`
}

// Decision is the record of one round, also of one that stays. It is complete
// after Conclude has added what the probed destinations answered.
type Decision struct {
	ID     string    `json:"id"`
	At     time.Time `json:"at"`
	Host   HostID    `json:"host"`
	Name   string    `json:"host_name,omitempty"`
	Action Action    `json:"action"`
	Mode   Mode      `json:"mode"`
	Drain  bool      `json:"drain,omitempty"`
	Reason string    `json:"reason"`
	Inputs Inputs    `json:"inputs"`

	// VM is the one that should leave; Need is the probe to send to the
	// Candidates, after Delay. A VM without candidates is stuck.
	VM         VMID          `json:"vm,omitempty"`
	VMName     string        `json:"vm_name,omitempty"`
	Need       *Need         `json:"need,omitempty"`
	Candidates []HostID      `json:"candidates,omitempty"`
	Delay      time.Duration `json:"delay_ns,omitempty"`

	// Considered are the VMs looked at, best first; Omitted counts the rest.
	Considered []Option `json:"considered,omitempty"`
	Omitted    int      `json:"omitted_vms,omitempty"`
	// Feasible counts the peers from which Candidates were drawn. Refused are
	// the others with every reason; RefusedKinds counts all of them by first kind.
	Feasible     int                  `json:"feasible_peers"`
	Refused      []RefusedDestination `json:"refused,omitempty"`
	RefusedKinds map[Kind]int         `json:"refused_kinds,omitempty"`

	// To and Evaluation are set by Conclude when a destination accepted.
	To         HostID      `json:"to,omitempty"`
	Evaluation *Evaluation `json:"evaluation,omitempty"`

	// Deciding is what tipped the decision, and how far away the opposite was.
	Deciding *Deciding `json:"deciding,omitempty"`
	// Counterfactual says what is expected if the opposite is done;
	// CounterfactualUnserved is its number.
	Counterfactual         string      `json:"counterfactual"`
	CounterfactualUnserved CoreSeconds `json:"counterfactual_unserved_core_s"`
	// ContentionAt is the predicted start of contention from At; -1: none.
	ContentionAt time.Duration `json:"contention_at_ns"`
	// PredictedWaitDrop is the wait for cores that the move is expected to avoid at
	// both hosts together within the horizon.
	PredictedWaitDrop CoreSeconds `json:"predicted_wait_drop_core_s"`
}

// Conclude returns the decision completed by what Choose answered: the
// destination and its evaluation, or, when to is empty, the reasons for which
// the VM stays after all.
func (d Decision) Conclude(to HostID, e Evaluation, refused []RefusedDestination, p Policy) Decision {
	p.MinGain = max(p.MinGain, d.Inputs.MinGain)
	kinds := map[Kind]int{}
	for k, n := range d.RefusedKinds {
		kinds[k] = n
	}
	d.RefusedKinds = kinds
	// The probed destinations come first: their reasons are live.
	probed := tallied(&d, refused)
	d.Refused = clipped(append(probed, d.Refused...), p.MaxRefused)
	if to == "" {
		if d.Action == ActionMove || d.Action == ActionAdvise || d.Action == ActionApprove {
			d.Action = ActionStuck
		}
		d.Reason = fmt.Sprintf("%s should leave, but none of the %d probed hosts may take it", orElse(d.VMName, string(d.VM)), len(refused))
		d.PredictedWaitDrop = 0
		d.Deciding = decided(&d, &p)
		return d
	}
	d.To, d.Evaluation = to, &e
	d.PredictedWaitDrop = e.Gain - e.Shared - e.Room
	d.Counterfactual, d.CounterfactualUnserved = unmoved(&d, &e)
	d.Deciding = decided(&d, &p)
	return d
}

// tallied counts refusals by their first kind and returns a copy.
func tallied(d *Decision, refused []RefusedDestination) []RefusedDestination {
	out := make([]RefusedDestination, 0, len(refused))
	for _, r := range refused {
		if len(r.Refusals) > 0 {
			d.RefusedKinds[r.Refusals[0].Kind]++
		}
		out = append(out, r)
	}
	return out
}

func clipped(refused []RefusedDestination, limit int) []RefusedDestination {
	return refused[:min(len(refused), limit)]
}

// unmoved words what happens if the VM stays.
func unmoved(d *Decision, e *Evaluation) (string, CoreSeconds) {
	if d.Drain {
		return fmt.Sprintf("without the move %s stays on a host that is to be emptied", orElse(d.VMName, string(d.VM))), e.Source.Without
	}
	when := "within " + round(e.Horizon).String()
	if e.ContentionAt >= 0 {
		when = fmt.Sprintf("from +%s on, within %s", round(e.ContentionAt), round(e.Horizon))
	}
	return fmt.Sprintf("without the move %.2f core-seconds of demand would wait here %s; with it %.2f here and %.2f more at %s",
		e.Source.Without, when, e.Source.With, e.Destination.With-e.Destination.Without, orElse(string(e.To), "the destination")), e.Source.Without
}

// Explain tells the decision to people, several lines, newline-terminated.
func (d Decision) Explain() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", d.Action)
	if d.VM != "" {
		fmt.Fprintf(&b, " %s", orElse(d.VMName, string(d.VM)))
	}
	if d.To != "" {
		fmt.Fprintf(&b, " -> %s", d.To)
	} else if len(d.Candidates) > 0 {
		fmt.Fprintf(&b, " probe %v", d.Candidates)
	}
	fmt.Fprintf(&b, ": %s\n", d.Reason)
	if in := &d.Inputs; in.Forecast.Ready {
		of := fmt.Sprintf("%.2f cores", in.Usable.CPU)
		if in.Shortest != "" {
			of = in.capacity()
		}
		fmt.Fprintf(&b, "  pressure %.0f %% of %s, held %d of %d rounds, %.2f core-seconds expected to wait\n",
			100*in.Pressure, of, in.Held, in.Window, in.Unserved)
	} else {
		fmt.Fprintf(&b, "  pressure unknown: %s\n", in.Forecast.Why)
	}
	for _, o := range d.Considered {
		fmt.Fprintf(&b, "  vm %s: gain %.2f cost %.2f net %.2f", orElse(o.Name, string(o.VM)), o.Evaluation.Gain, o.Evaluation.Cost.Total, o.Evaluation.Net)
		explainRefusals(&b, o.Refusals)
	}
	for _, r := range d.Refused {
		fmt.Fprintf(&b, "  host %s:", r.Host)
		explainRefusals(&b, r.Refusals)
	}
	if e := d.Evaluation; e != nil {
		fmt.Fprintf(&b, "  to %s: gain %.2f cost %.2f (resource %.2f, network %.2f, overhead %.2f, risk %.2f), p90 after %.0f %%, copy %s, blackout %s\n",
			e.To, e.Gain, e.Cost.Total, e.Cost.Resource, e.Cost.Network, e.Cost.Overhead, e.Cost.Risk, 100*e.DestP90, round(e.Cost.CopyTime), round(e.Cost.Blackout))
	}
	if d.Counterfactual != "" {
		fmt.Fprintf(&b, "  %s\n", d.Counterfactual)
	}
	return b.String()
}

func explainRefusals(b *strings.Builder, rs []Refusal) {
	for i, r := range rs {
		if i > 0 {
			b.WriteString(";")
		}
		fmt.Fprintf(b, " [%s] %s", r.Kind, r.Text)
	}
	b.WriteString("\n")
}
