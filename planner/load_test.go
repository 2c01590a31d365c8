package planner

import (
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"headroom/predict"
)

func TestExpectedExcess(t *testing.T) {
	exact := predict.Quantiles{2, 2, 2, 2, 2}
	if got := expectedExcess(exact, 1.5); math.Abs(got-0.5) > 1e-12 {
		t.Errorf("certain demand of 2 on 1.5: %v unserved, want 0.5", got)
	}
	if got := expectedExcess(exact, 2); got != 0 {
		t.Errorf("certain demand of 2 on 2: %v unserved, want 0", got)
	}
	// For a normal demand E[(X-c)+] is known: sd * (phi(z) - z*(1-Phi(z))).
	normal := predict.Quantiles{10, 10.6745, 11.2816, 11.6449, 12.3263}
	for _, z := range []float64{-1, 0, 0.5, 1, 1.5} {
		phi := math.Exp(-z*z/2) / math.Sqrt(2*math.Pi)
		want := phi - z*(1-0.5*(1+math.Erf(z/math.Sqrt2)))
		if got := expectedExcess(normal, 10+z); math.Abs(got-want) > 0.05 {
			t.Errorf("normal demand, capacity at z=%v: %.3f unserved, exact %.3f", z, got, want)
		}
	}
	if got := mean(&normal); math.Abs(got-10) > 0.1 {
		t.Errorf("mean of a normal demand around 10: %v", got)
	}
}

func TestExceedProbabilityInvertsTheQuantile(t *testing.T) {
	q := shape{level: 1, spread: 0.3}.forecast().Steps[0]
	for p := 0.02; p < 1; p += 0.02 {
		if got := 1 - exceedProbability(q, quantileAt(q, p)); math.Abs(got-p) > 1e-9 {
			t.Errorf("probability %v comes back as %v", p, got)
		}
	}
}

func TestLoadAgreesWithPredictSum(t *testing.T) {
	var fs []predict.Forecast
	h := testHost("h", 10, 4096)
	for i, s := range []shape{{1, 0.1, 0.1}, {0.5, 0, 0.2}, {2, -0.05, 0.3}, {0.3, 0.02, 0.05}} {
		h.VMs = append(h.VMs, testVM(VMID(fmt.Sprint(i)), 128, s))
		h.VMs[i].VCPUs = 8
		fs = append(fs, s.forecast())
	}
	for _, rho := range []float64{0, 0.2, 1} {
		h.Correlation = &rho
		got, want := HostForecast(*h), predict.Sum(fs, func(int, int) float64 { return rho })
		for step := range want.Steps {
			for l := range want.Steps[step] {
				if math.Abs(got.Steps[step][l]-want.Steps[step][l]) > 0.02*want.Steps[step][l] {
					t.Errorf("correlation %v step %d level %d: %.3f, predict.Sum says %.3f", rho, step, l, got.Steps[step][l], want.Steps[step][l])
				}
			}
		}
		for l := range want.Peak {
			if math.Abs(got.Peak[l]-want.Peak[l]) > 0.05*want.Peak[l] {
				t.Errorf("correlation %v peak level %d: %.3f, predict.Sum says %.3f", rho, l, got.Peak[l], want.Peak[l])
			}
		}
	}
}

func TestRemovingWhatWasAddedLeavesTheSame(t *testing.T) {
	l := newLoad(grid{testStep, testSteps}, 0.2)
	a, b := demandOf(ptr(shape{1, 0.1, 0.2}.forecast())), demandOf(ptr(shape{3, -0.1, 0.5}.forecast()))
	l.add(&a)
	want := l.demand()
	for range 1000 {
		l.add(&b)
		l.remove(&b)
	}
	if diff := cmp.Diff(want, l.demand(), cmpopts.EquateApprox(0, 1e-6)); diff != "" {
		t.Errorf("adding and removing 1000 times changed the load:\n%s", diff)
	}
}

func TestForecastAboveAllThreadsIsBounded(t *testing.T) {
	h := testHost("h", 32, 4096)
	h.VMs = []VM{testVM("runaway", 128, shape{level: 1, slope: 5, spread: 1})}
	h.VMs[0].VCPUs = 2
	if top := HostForecast(*h).Peak[4]; top > 3+1e-9 {
		t.Errorf("a VM of 2 vCPUs is forecast to use %v cores, want at most 3", top)
	}
}
