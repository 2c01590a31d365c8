package predict

import (
	"math"
	"math/rand"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestJointPeakIsCalibrated: whether series burst together or never, the peak of
// their sum holds its 0.95 quantile, where the independent sum does not.
func TestJointPeakIsCalibrated(t *testing.T) {
	for name, burst := range map[string]func(rng *rand.Rand, shared float64, i, vm int) float64{
		"together": func(_ *rand.Rand, shared float64, _, _ int) float64 { return shared },
		"in turns": func(rng *rand.Rand, _ float64, i, vm int) float64 {
			if i/7%4 == vm {
				return rng.ExpFloat64()
			}
			return 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := Config{Step: time.Minute, Horizon: 6}
			const vms, n = 4, 3000
			rng := rand.New(rand.NewSource(3))
			j, err := NewJoint(c)
			if err != nil {
				t.Fatal(err)
			}
			sums, alone, given := make([]float64, n), make([]Forecast, n), make([]Forecast, n)
			fs := make([]*Forecaster, vms)
			for v := range fs {
				if fs[v], err = New(c); err != nil {
					t.Fatal(err)
				}
			}
			for i := range n {
				shared, parts := max(0, rng.ExpFloat64()-1), make([]Forecast, vms)
				for v, f := range fs {
					x := 1 + 0.02*rng.Float64() + burst(rng, shared, i, v)
					sums[i] += x
					f.Observe(x)
					parts[v] = f.Forecast()
				}
				alone[i] = Sum(parts, nil)
				given[i] = j.Observe(sums[i], alone[i])
				checkForecast(t, given[i], c.Horizon)
			}
			raw, held := peaksHeld(alone, sums), peaksHeld(given, sums)
			t.Logf("0.95 quantile of the peak holds %.3f, %.3f without calibration; shown %.3f, steps %.3f",
				held, raw, given[n-1].PeakCoverage, given[n-1].Coverage)
			if math.Abs(held-0.95) > 0.04 {
				t.Errorf("0.95 quantile of the peak holds %.3f", held)
			}
			if math.Abs(raw-0.95) < math.Abs(held-0.95) {
				t.Errorf("calibration did not help: %.3f before", raw)
			}
			if math.Abs(given[n-1].PeakCoverage-held) > 0.05 || math.Abs(given[n-1].Coverage-0.95) > 0.05 {
				t.Errorf("shown coverage %.3f, of the steps %.3f", given[n-1].PeakCoverage, given[n-1].Coverage)
			}
		})
	}
}

// peaksHeld is the share of peaks at or below their 0.95 quantile in the last
// two thirds.
func peaksHeld(fs []Forecast, x []float64) float64 {
	var held, n float64
	for i := len(fs) / 3; i+len(fs[i].Steps) < len(x); i++ {
		top := 0.0
		for h := range fs[i].Steps {
			top = max(top, x[i+1+h])
		}
		held += share(top <= fs[i].Peak[3])
		n++
	}
	return held / n
}

// TestJointPassesWhatItCannotCalibrate: a forecast of other steps, or without
// any, comes back as it is, and missing or broken sums teach nothing.
func TestJointPassesWhatItCannotCalibrate(t *testing.T) {
	if _, err := NewJoint(Config{}); err == nil {
		t.Error("a configuration without a step was taken")
	}
	j, err := NewJoint(Config{Step: time.Minute, Horizon: 2})
	if err != nil {
		t.Fatal(err)
	}
	q := Quantiles{1, 2, 3, 4, 5}
	ok := Forecast{Step: time.Minute, Steps: []Quantiles{q, q}, Peak: q, Method: "sum"}
	for name, f := range map[string]Forecast{
		"other step":    {Step: time.Second, Steps: ok.Steps, Peak: q},
		"other horizon": {Step: time.Minute, Steps: []Quantiles{q}, Peak: q},
		"nothing":       {Step: time.Minute, Peak: unknown()},
	} {
		if diff := cmp.Diff(f, j.Observe(1, f), cmpopts.EquateNaNs()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for _, sum := range []float64{math.NaN(), math.Inf(1), -1, 1e300} {
		for range 300 {
			got := j.Observe(sum, ok)
			if got.Peak != q || got.Steps[0] != q || got.Method != "sum+joint" || !math.IsNaN(got.Coverage) {
				t.Fatalf("sum %g: %+v", sum, got)
			}
		}
	}
	ok.Steps[0] = Quantiles{}
	if j.given.rings[0][0][4] != 5 {
		t.Error("the forecast under way changed with the caller's")
	}
}
