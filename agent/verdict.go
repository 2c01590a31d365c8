package agent

import (
	"time"

	"headroom/planner"
)

// maxDue bounds the decisions that wait for their verdict.
const maxDue = 64

// verdictDue is a decision whose outcome is judged later: did the wait fall as
// predicted, or stay as low as it was predicted to stay?
type verdictDue struct {
	decision planner.Decision
	due      time.Time
	since    time.Time
	// before is the source's mean wait when the move was decided, in cores;
	// waited is the sum of core-seconds since the agent's start at that time.
	before planner.Cores
	waited float64
}

// expectVerdict notes that the decision is to be judged.
func (l *loop) expectVerdict(d planner.Decision, now time.Time) {
	v := verdictDue{decision: d, since: now, due: now.Add(l.a.cfg.Planner.VerdictAfter.Duration), before: d.Inputs.NowWait, waited: l.wait}
	if l.judge = append(l.judge, v); len(l.judge) > maxDue {
		l.judge = l.judge[1:]
	}
}

// judgeDue judges the decisions whose time has come. What the destination's VMs wait
// for is not known here: the verdict is about the source, and says so by leaving
// the destination's figures at zero.
func (l *loop) judgeDue(now time.Time) {
	for len(l.judge) > 0 && !now.Before(l.judge[0].due) {
		v := l.judge[0]
		l.judge = l.judge[1:]
		window := now.Sub(v.since)
		l.a.book.judged(planner.JudgeOutcome(v.decision, planner.Outcome{
			Window: window, Measured: true, SourceBefore: v.before,
			SourceAfter: planner.Cores((l.wait - v.waited) / window.Seconds()),
		}))
	}
}
