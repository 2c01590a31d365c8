package faults

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestPlanCoversEverything: each fault meets each phase, evenly, and bare libvirt is
// spared the faults that mean nothing to it.
func TestPlanCoversEverything(t *testing.T) {
	const n = 240
	type kind struct {
		f Fault
		p Phase
	}
	for _, bare := range []bool{false, true} {
		seen := map[kind]int{}
		long := 0
		for _, x := range Plan(n, bare, time.Second, rand.New(rand.NewPCG(1, 2))) {
			seen[kind{x.Fault, x.Phase}]++
			if x.Hold > 30*time.Second {
				long++
			}
			if x.Bare != bare || x.Hold <= 0 || x.After < 0 || x.After > time.Second {
				t.Errorf("trial %+v", x)
			}
		}
		want := len(Faults()) * len(Phases())
		if bare {
			want = (len(Faults()) - 3) * (len(Phases()) - 1)
		}
		if len(seen) != want {
			t.Errorf("bare %v: %d combinations, want %d", bare, len(seen), want)
		}
		for k, count := range seen {
			if count != n/want {
				t.Errorf("bare %v: %v drawn %d times, want %d", bare, k, count, n/want)
			}
			if bare && k.f.ofAgent() {
				t.Errorf("%s means nothing to bare libvirt", k.f)
			}
		}
		if long == 0 {
			t.Errorf("bare %v: no cut outlasts libvirt's keep-alive", bare)
		}
	}
}

// TestPlanFinish: the faults of the phase take turns, and a silence outlasts libvirt's
// keep-alive.
func TestPlanFinish(t *testing.T) {
	for _, bare := range []bool{false, true} {
		kinds := FinishFaults(bare)
		seen := map[Fault]int{}
		for _, x := range PlanFinish(2*len(kinds), bare) {
			seen[x.Fault]++
			silent := x.Fault == LoseReply || x.Fault == CutReply
			if x.Phase != Finish || x.Bare != bare || x.Hold <= 0 || silent && x.Hold <= 30*time.Second {
				t.Errorf("trial %+v", x)
			}
		}
		for _, k := range kinds {
			if seen[k] != 2 {
				t.Errorf("bare %v: %s %d times, want 2", bare, k, seen[k])
			}
		}
		if bare && seen[KillReply] > 0 {
			t.Errorf("%s means nothing to bare libvirt", KillReply)
		}
	}
}

// TestSumTellsFinish: trials whose reply to Finish was lost have figures of their own.
func TestSumTellsFinish(t *testing.T) {
	lost := func(bare, hit bool, r Result) Result {
		r.Fault, r.Phase, r.Bare, r.Hit = LoseReply, Finish, bare, hit
		return r
	}
	trials := []Result{
		lost(false, true, Result{Settled: true}),
		lost(false, true, Result{Settled: true, Lost: true}),
		lost(false, false, Result{Settled: true, Doubles: 9}), // the move failed before
		lost(true, true, Result{Doubles: 4}),
		lost(true, true, Result{Settled: true}),
		{Trial: Trial{Fault: CutLink, Phase: Switch, Bare: true}, Hit: true, Doubles: 1},
	}
	got := Sum(trials, nil).Figures()
	for name, want := range map[string]float64{
		"finish_lost_trials": 2, "finish_lost_double_runs": 0, "finish_lost_lost_vms": 1, "finish_lost_unsettled": 0,
		"finish_lost_bare_trials": 2, "finish_lost_bare_double_runs": 1, "finish_lost_bare_lost_vms": 0, "finish_lost_bare_unsettled": 1,
		"lab_faults": 3, "lab_double_runs": 1, "bare_faults": 3, "bare_double_runs": 2,
	} {
		if got[name] != want {
			t.Errorf("%s: %v, want %v", name, got[name], want)
		}
	}
	var b strings.Builder
	Table(&b, trials)
	if want := "| virsh | lose the reply | finish | 2 | 0 | 2 | 0 | 1 | 0 | 0 | 1 never |"; !strings.Contains(b.String(), want) {
		t.Errorf("the table lacks %q:\n%s", want, b.String())
	}
}

// TestSumCountsEachBreach: whatever a trial broke is in the figures.
func TestSumCountsEachBreach(t *testing.T) {
	fault := func(r Result) Result {
		r.Fault, r.Phase, r.Settled = CutLink, Switch, true
		return r
	}
	trials := []Result{
		fault(Result{SettleS: 2}),
		fault(Result{Doubles: 1}),
		fault(Result{Forks: []uint64{7}}),
		fault(Result{Lost: true}),
		fault(Result{Died: true}),
		fault(Result{Leaked: 2}),
		fault(Result{Trial: Trial{Bare: true}, Doubles: 3}),
	}
	trials[6].Bare, trials[5].Settled = true, false
	timings := []Timing{{TotalMS: 110, BlackoutMS: 40, NegotiateMS: 9}, {Bare: true, TotalMS: 100, BlackoutMS: 30}}
	got := Sum(trials, timings).Figures()
	for name, want := range map[string]float64{
		"lab_faults": 6, "lab_double_runs": 2, "lab_lost_vms": 1, "lab_leaked_leases": 2, "lab_unsettled": 1, "settle_s_max": 2,
		"bare_faults": 1, "bare_double_runs": 1, "migrate_time_ratio": 1.1, "paused_blackout_ms": 40, "plain_blackout_ms": 30, "negotiate_ms": 9,
	} {
		if math.Abs(got[name]-want) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, got[name], want)
		}
	}
	if _, ok := Sum(trials, nil).Figures()["migrate_time_ratio"]; ok {
		t.Error("a ratio that was not measured is told")
	}
	for i, want := range []bool{false, true, true, true, false, true, true} {
		if trials[i].Bad() != want {
			t.Errorf("trial %d %+v: bad is %v", i, trials[i], !want)
		}
	}
	var b strings.Builder
	Table(&b, trials)
	for _, want := range []string{
		"| headroom | cut the link | switch | 6 | 0 | 4 | 1 | 2 | 1 | 2 | 1 never |",
		"| virsh | cut the link | switch | 1 | 0 | 1 | 0 | 1 | 0 | 0 | 0.0 s |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
}
