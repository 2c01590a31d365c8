package negotiate_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"headroom/planner/negotiate"
)

// TestResendsSpread: the pause before a resend is drawn evenly between the
// shortest and a bound that doubles up to the longest, so that peers which lost
// the same host do not come back as one.
func TestResendsSpread(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const draws = 4000
	for n := 1; n <= 12; n++ {
		bound := min(30, math.Exp2(float64(n)))
		sum, least, most := 0.0, math.Inf(1), 0.0
		for range draws {
			s := negotiate.NewSource("A", negotiate.Timing{})
			s.Phase, s.Tries, s.Local = negotiate.PhaseCommitting, n-1, negotiate.LocalMigrated
			s.Record = negotiate.SourceRecord{VM: "vm", Attempt: 1, Lease: "l", From: "A", To: "B", Guard: negotiate.GuardPaused, State: negotiate.SourceCommitted}
			_, effects := s.Step(negotiate.Moment{Random: rng.Uint64()}, negotiate.TimerFired{Kind: negotiate.TimerResend, VM: "vm"})
			timer, ok := effects[len(effects)-1].(negotiate.SetTimer)
			if !ok || timer.Kind != negotiate.TimerResend {
				t.Fatalf("resend %d sets no timer: %+v", n, effects)
			}
			after := timer.After.Seconds()
			sum, least, most = sum+after, min(least, after), max(most, after)
		}
		mean, want := sum/draws, (1+bound)/2
		if least < 1 || most > bound || math.Abs(mean-want) > 0.05*want || most-least < 0.95*(bound-1) {
			t.Errorf("resend %d: %.2f..%.2f s, mean %.2f; want evenly 1..%.0f", n, least, most, mean, bound)
		}
	}
}

// TestRefusalsTellWhenToComeBack: where waiting may help, a refusal says how long.
func TestRefusalsTellWhenToComeBack(t *testing.T) {
	d := negotiate.NewDestination("B", negotiate.Limits{RetryAfter: 7 * time.Second})
	reserve := func(vm negotiate.VMID, admission *negotiate.Refusal) negotiate.Refusal {
		m := negotiate.Message{Kind: negotiate.Reserve, VM: vm, Attempt: 1, Guard: negotiate.GuardPaused, Need: &negotiate.Need{}}
		next, effects := d.Step(negotiate.Moment{}, negotiate.Received{From: "A", Message: m, Admission: admission})
		if admission == nil {
			d = next
		}
		for _, e := range effects {
			if s, ok := e.(negotiate.Send); ok && s.Message.Refusal != nil {
				return *s.Message.Refusal
			}
		}
		return negotiate.Refusal{}
	}
	for kind, want := range map[negotiate.RefusalKind]int64{
		negotiate.RefusedNoRoom: 7000, negotiate.RefusedBusy: 7000, negotiate.RefusedDraining: 7000,
		negotiate.RefusedIncomplete: 7000, negotiate.RefusedDisabled: 7000, negotiate.RefusedConstraint: 0,
	} {
		if got := reserve("vm", &negotiate.Refusal{Kind: kind}); got.Kind != kind || got.RetryAfterMS != want {
			t.Errorf("%s: come back after %d ms, want %d", got.Kind, got.RetryAfterMS, want)
		}
		if got := reserve("vm", &negotiate.Refusal{Kind: kind, RetryAfterMS: 5}); got.RetryAfterMS != 5 {
			t.Errorf("%s: the judge's own advice became %d ms", kind, got.RetryAfterMS)
		}
	}
	reserve("vm1", nil)
	if got := reserve("vm2", nil); got.Kind != negotiate.RefusedBusy || got.RetryAfterMS != 7000 {
		t.Errorf("a second VM: %+v, want busy with advice", got)
	}
}
