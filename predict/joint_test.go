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
			j, err := NewJoint(c, vms)
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
				shared, parts, values := max(0, rng.ExpFloat64()-1), make([]Forecast, vms), make([]float64, vms)
				for v, f := range fs {
					x := 1 + 0.02*rng.Float64() + burst(rng, shared, i, v)
					sums[i] += x
					values[v] = x
					f.Observe(x)
					parts[v] = f.Forecast()
				}
				alone[i] = Sum(parts, nil)
				given[i] = j.Observe(values, alone[i])
				checkForecast(t, given[i], c.Horizon)
			}
			raw, held := peaksHeld(alone, sums), peaksHeld(given, sums)
			t.Logf("0.95 quantile of the peak holds %.3f, %.3f without calibration; shown %.3f, steps %.3f",
				held, raw, given[n-1].PeakCoverage, given[n-1].Coverage)
			if math.Abs(held-0.95) > 0.02 {
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
	if _, err := NewJoint(Config{}, 1); err == nil {
		t.Error("a configuration without a step was taken")
	}
	if _, err := NewJoint(Config{Step: time.Minute}, 0); err == nil {
		t.Error("a sum of no series was taken")
	}
	j, err := NewJoint(Config{Step: time.Minute, Horizon: 2}, 1)
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
		if diff := cmp.Diff(f, j.Observe([]float64{1}, f), cmpopts.EquateNaNs()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for _, sum := range [][]float64{{math.NaN()}, {math.Inf(1)}, {-1}, {1e300}, {}, {1, 1}} {
		for range 300 {
			got := j.Observe(sum, ok)
			if got.Peak != q || got.Steps[0] != q || got.Method != "sum+joint" || !math.IsNaN(got.Coverage) {
				t.Fatalf("values %g: %+v", sum, got)
			}
		}
	}
	ok.Steps[0] = Quantiles{}
	if j.given.rings[0][0][4] != 5 {
		t.Error("the forecast under way changed with the caller's")
	}
}

// TestJointExperts: what each expert of the peak says, and what that costs it.
func TestJointExperts(t *testing.T) {
	j, err := NewJoint(Config{Step: time.Minute, Horizon: 2}, 2)
	if err != nil {
		t.Fatal(err)
	}
	q := Quantiles{1, 2, 3, 4, 5}
	next := Forecast{Step: time.Minute, Steps: []Quantiles{q, q}, Peak: q, Method: "sum"}
	// The sum is 4, then 5 time and again; alone the series reach 3 and 4.
	for i := range 400 {
		j.Observe([][]float64{{3, 1}, {1, 4}}[i%2], next)
	}
	advice := j.advise(10, Quantiles{20, 30, 40, 50, 60})
	seen := float64(j.above.seen.len()) * j.above.lag.independent()
	share := seen / (seen + priorWeight)
	for l := range q {
		if want := 10 + 4*share + (1-share)*float64(10+10*l); math.Abs(advice[byForecast][l]-want) > 1e-9 {
			t.Errorf("level %d, by the forecast: %g, want %g: the peaks lay 4 above the median", l, advice[byForecast][l], want)
		}
		if want := 5*share + (1-share)*float64(20+10*l); math.Abs(advice[byPast][l]-want) > 1e-9 {
			t.Errorf("level %d, by the past: %g, want %g", l, advice[byPast][l], want)
		}
		if advice[byParts][l] != 7 {
			t.Errorf("level %d, by the parts: %g, want 7", l, advice[byParts][l])
		}
	}
	c := j.experts[byParts]
	if loss := c.levels[forPeak][3].loss / c.weight; math.Abs(loss-0.05*2) > 1e-9 {
		t.Errorf("loss at 0.95 of the one that said 7 where 5 was reached: %g", loss)
	}
}

// TestJointWeighsExpertsByTheirLoss: by the inverse square of it, level by level, and
// only those that were scored and have something to say.
func TestJointWeighsExpertsByTheirLoss(t *testing.T) {
	of := func(v float64) Quantiles { return Quantiles{v, v, v, v, v} }
	all := [experts]Quantiles{byForecast: of(10), byPast: of(20), byParts: of(30)}
	silent := all
	silent[byParts] = unknown()
	for name, tc := range map[string]struct {
		advice [experts]Quantiles
		scored float64    // the past's outcomes; of the others so many that no doubt is left
		want   [2]float64 // at the median, where the past is no better, and above
	}{
		"all":                 {all, 1e9, [2]float64{37.5 / 2.25, 97.5 / 5.25}},
		"the past not scored": {all, minScored / 2, [2]float64{17.5 / 1.25, 17.5 / 1.25}},
		"the parts silent":    {silent, 1e9, [2]float64{30.0 / 2, 90.0 / 5}},
	} {
		j, err := NewJoint(Config{Step: time.Minute, Horizon: 2}, 2)
		if err != nil {
			t.Fatal(err)
		}
		for i, loss := range [experts]float64{byForecast: 1, byPast: 0.5, byParts: 2} {
			j.experts[i].weight = 1e9
			for l := range Levels {
				j.experts[i].levels[forPeak][l] = balance{loss: loss, naive: 1}
			}
		}
		j.experts[byPast].weight = tc.scored
		j.experts[byPast].levels[forPeak][0].loss = 1
		got := j.weigh(&tc.advice)
		for l := range got {
			if want := tc.want[min(l, 1)]; math.Abs(got[l]-want) > 1e-6 {
				t.Errorf("%s, level %g: %g, want %g", name, Levels[l], got[l], want)
			}
		}
	}
}

// TestJointForgetsLosses: half of what an expert lost counts no more after eight
// horizons, however many samples make a step.
func TestJointForgetsLosses(t *testing.T) {
	j, err := NewJoint(Config{Sample: 20 * time.Second, Step: time.Minute, Horizon: 2}, 1)
	if err != nil {
		t.Fatal(err)
	}
	q := Quantiles{1, 2, 3, 4, 5}
	for range 3000 {
		j.Observe([]float64{1}, Forecast{Step: time.Minute, Steps: []Quantiles{q, q}, Peak: q})
	}
	// One outcome, which stands for the three samples of its step, comes in a step.
	want := 3 / (1 - math.Exp2(-1.0/(8*2)))
	for i, c := range j.experts {
		if math.Abs(c.weight-want) > 1e-6 {
			t.Errorf("expert %d: outcomes of weight %g are remembered, want %g", i, c.weight, want)
		}
	}
}

// TestJointFollowsTheExpertThatIsRight: when the demand of a host falls for good, the
// peaks of the past are too high for as long as they are kept, and the parts are not.
// The peak given out comes down within some horizons.
func TestJointFollowsTheExpertThatIsRight(t *testing.T) {
	c := Config{Step: time.Minute, Horizon: 6}
	j, err := NewJoint(c, 2)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewSource(1))
	fs := make([]*Forecaster, 2)
	for v := range fs {
		if fs[v], err = New(c); err != nil {
			t.Fatal(err)
		}
	}
	var got Forecast
	for i := range 600 {
		values, parts := make([]float64, 2), make([]Forecast, 2)
		for v, f := range fs {
			values[v] = 1 + 0.1*rng.Float64()
			if i < 500 {
				values[v] *= 10
			}
			f.Observe(values[v])
			parts[v] = f.Forecast()
		}
		got = j.Observe(values, Sum(parts, nil))
	}
	if past := j.past.seen.quantile(0.95); past < 20 {
		t.Fatalf("0.95 quantile of the past peaks %g: nothing is tested", past)
	}
	if got.Peak[3] < 2 || got.Peak[3] > 4 {
		t.Errorf("0.95 quantile of the peak %g, want 2.2 or little more", got.Peak[3])
	}
}
