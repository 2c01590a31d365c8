package planner

import (
	"fmt"
	"math"
	"time"
)

// Finding is what the check after a decision found.
type Finding string

// The findings.
const (
	FoundAsPredicted Finding = "as-predicted" // the wait fell, or stayed low, as predicted
	FoundBetter      Finding = "better"       // the wait fell clearly more than predicted
	FoundLess        Finding = "less"         // it fell, clearly less than predicted
	FoundNoEffect    Finding = "no-effect"    // the move changed nothing measurable
	FoundWorse       Finding = "worse"        // more demand waits than without the move
	FoundMissed      Finding = "missed"       // stayed, and demand waited that was not predicted
	FoundFalseAlarm  Finding = "false-alarm"  // contention was predicted that did not come
	FoundUnknown     Finding = "unknown"      // not enough was measured
)

// Outcome is what was measured after a decision. Waits are run-queue waits of
// all VMs of a host, averaged, in cores.
type Outcome struct {
	// Window is the measured time after the move (or the decision to stay).
	Window time.Duration `json:"window_ns"`
	// Measured is false when samples were missing; Why says which.
	Measured bool   `json:"measured"`
	Why      string `json:"why,omitempty"`
	// SourceBefore and DestBefore are waits just before, *After in the window.
	// For a decision to stay only the source's are used.
	SourceBefore Cores `json:"source_wait_before_cores"`
	SourceAfter  Cores `json:"source_wait_after_cores"`
	DestBefore   Cores `json:"dest_wait_before_cores"`
	DestAfter    Cores `json:"dest_wait_after_cores"`
	// SourceDemand and MovedDemand are the demands in the window, in equal
	// steps, of the VMs that stayed and of the one that moved. With them the
	// wait without the move is computed; a move ahead of contention cannot
	// be judged by the wait before it.
	SourceDemand []Cores `json:"source_demand_cores,omitempty"`
	MovedDemand  []Cores `json:"moved_demand_cores,omitempty"`
}

// Verdict is the check of a decision against what happened, usually ten
// minutes later. Drops are in core-seconds per horizon of the decision.
type Verdict struct {
	DecisionID string  `json:"decision_id"`
	Finding    Finding `json:"finding"`
	Text       string  `json:"text"`
	// Predicted and Measured are the drop in wait at both hosts together.
	Predicted CoreSeconds `json:"predicted_drop_core_s"`
	Measured  CoreSeconds `json:"measured_drop_core_s"`
	// WithoutMove is the mean wait, in cores, that the source would have had.
	WithoutMove Cores `json:"wait_without_move_cores"`
	// Error is Measured less Predicted.
	Error CoreSeconds `json:"error_core_s"`
}

// Tolerances of a verdict: a drop within half of the prediction, or within a
// hundredth of a core over the horizon, counts as predicted.
const (
	verdictShare = 0.5
	verdictCores = 0.01
)

// JudgeOutcome compares a concluded decision with what was measured after it.
func JudgeOutcome(d Decision, o Outcome) Verdict {
	v := Verdict{DecisionID: d.ID, Predicted: d.PredictedWaitDrop}
	horizon := d.Inputs.Horizon.Seconds()
	if !o.Measured || o.Window <= 0 || !(horizon > 0) {
		v.Finding = FoundUnknown
		v.Text = "not judged: " + orElse(o.Why, "nothing was measured")
		return v
	}
	floor := CoreSeconds(verdictCores * horizon)
	if d.To == "" {
		return judgeStay(&d, &o, v, floor)
	}
	v.WithoutMove = withoutMove(&d, &o)
	drop := (v.WithoutMove - o.SourceAfter) - (o.DestAfter - o.DestBefore)
	v.Measured = CoreSeconds(float64(drop) * horizon)
	v.Error = v.Measured - v.Predicted
	v.Finding = judgeMove(v.Predicted, v.Measured, floor, float64(v.WithoutMove)*horizon)
	v.Text = fmt.Sprintf("%s: predicted to avoid %.2f core-seconds of wait per %s, avoided %.2f (the source waits for %.3f cores, would have waited for %.3f)",
		v.Finding, v.Predicted, round(d.Inputs.Horizon), v.Measured, o.SourceAfter, v.WithoutMove)
	return v
}

// judgeMove grades a move; without is the wait that it could have avoided at most.
func judgeMove(predicted, measured, floor CoreSeconds, without float64) Finding {
	off := measured - predicted
	slack := max(floor, CoreSeconds(verdictShare*math.Abs(float64(predicted))))
	switch {
	case measured < -floor:
		return FoundWorse
	case off >= -slack && off <= slack:
		return FoundAsPredicted
	case off > slack:
		return FoundBetter
	case CoreSeconds(without) <= floor:
		return FoundFalseAlarm
	case measured <= floor:
		return FoundNoEffect
	}
	return FoundLess
}

// withoutMove is the mean wait of the source had the VM stayed: measured
// demands against capacity where both are known, else the wait before.
func withoutMove(d *Decision, o *Outcome) Cores {
	n := min(len(o.SourceDemand), len(o.MovedDemand))
	if n == 0 {
		return o.SourceBefore
	}
	sum := Cores(0)
	for i := range n {
		sum += max(0, o.SourceDemand[i]+o.MovedDemand[i]-d.Inputs.Usable.CPU)
	}
	// Scheduling always makes somebody wait a little: what waits with the move
	// would have waited without it too.
	return max(sum/Cores(n), o.SourceAfter)
}

func judgeStay(d *Decision, o *Outcome, v Verdict, floor CoreSeconds) Verdict {
	expected := d.Inputs.Unserved - d.Inputs.Starved // waits for cores are what is measured
	waited := CoreSeconds(float64(o.SourceAfter) * d.Inputs.Horizon.Seconds())
	v.Predicted, v.Measured, v.Error = 0, 0, waited-expected
	v.WithoutMove = o.SourceAfter
	slack := max(floor, CoreSeconds(verdictShare)*expected)
	switch {
	case waited > expected+slack:
		v.Finding = FoundMissed
	case waited < expected-slack:
		v.Finding = FoundFalseAlarm
	default:
		v.Finding = FoundAsPredicted
	}
	v.Text = fmt.Sprintf("%s: stayed, expected %.2f core-seconds of wait per %s, measured %.2f", v.Finding, expected, round(d.Inputs.Horizon), waited)
	return v
}
