package predict

import (
	"errors"
	"math"
	"math/rand"
	"testing"
	"time"
)

// TestScoreByHand: two steps and a peak, computed with pencil and paper.
func TestScoreByHand(t *testing.T) {
	s := Score{Unit: 2}
	steps := []Quantiles{{10, 11, 12, 13, 14}, {20, 21, 22, 23, 24}}
	s.Add(steps, Quantiles{20, 22, 24, 25, 26}, []float64{14, 19})
	near(t, "MAE", s.MAE(), (4+1)/2., 1e-12)
	near(t, "MASE", s.MASE(), 2.5/2, 1e-12)
	near(t, "RMSE", s.RMSE(), math.Sqrt((16+1)/2.), 1e-12)
	near(t, "pinball 0.95", s.Pin95(), (0.95*1+0.05*4)/2, 1e-12)
	near(t, "coverage", s.Coverage(), 0.5, 1e-12)
	near(t, "peak pinball", s.PeakPin95(), 0.05*6, 1e-12)
	near(t, "peak coverage", s.PeakCoverage(), 1, 0)
	s.Add(steps, unknown(), []float64{math.NaN(), 20})
	if s.Steps != 3 || s.Peaks != 1 {
		t.Errorf("%d steps and %d peaks scored, want 3 and 1: a missing outcome counts nowhere", s.Steps, s.Peaks)
	}
	near(t, "MAE with a missing outcome", s.MAE(), 5./3, 1e-12)
}

// TestBacktestSeesNoFuture: what comes after an origin cannot change what was
// forecast at it.
func TestBacktestSeesNoFuture(t *testing.T) {
	rng := rand.New(rand.NewSource(3))
	x := make([]float64, 160)
	for i := range x {
		x[i] = noisy(rng, 1, 0.2)
	}
	record := func(x []float64) map[int]Quantiles {
		out := map[int]Quantiles{}
		_, err := Backtest(Config{Step: time.Minute}, x, 100, 3, func(at int, f Forecast) { out[at] = f.Steps[11] })
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	a := record(x)
	for i := 130; i < len(x); i++ {
		x[i] = 50
	}
	b := record(x)
	if len(a) != (160-12-100)/3+1 {
		t.Errorf("%d origins", len(a))
	}
	for at, q := range a {
		if same := q == b[at]; same != (at < 130) {
			t.Errorf("origin %d: the same forecast %v", at, same)
		}
	}
}

// TestBacktestSteps: with several samples in a step, the truth is the mean over
// each step and the unit the change from step to step.
func TestBacktestSteps(t *testing.T) {
	var x []float64
	for i := range 400 {
		x = append(x, float64(i/4%2)) // steps of 0 and 1 in turn
	}
	scores, err := Backtest(Config{Sample: time.Second, Step: 4 * time.Second, Horizon: 3}, x, 200, 4, nil)
	if err != nil {
		t.Fatal(err)
	}
	var last Score
	for _, s := range scores {
		if s.Name == "naive" {
			last = s
		}
	}
	near(t, "unit", last.Unit, 0.5, 0.01) // sliding means: triangles between 0 and 1
	if last.Steps != 3*last.Peaks || last.Peaks < 45 {
		t.Errorf("%d steps, %d peaks", last.Steps, last.Peaks)
	}
	near(t, "peak coverage", last.PeakCoverage(), 1, 1e-9)
}

func TestBacktestRefuses(t *testing.T) {
	x := make([]float64, 50)
	for _, c := range []struct{ from, every int }{{0, 1}, {10, 0}, {39, 1}, {51, 1}} {
		if _, err := Backtest(Config{Step: time.Second}, x, c.from, c.every, nil); !errors.Is(err, ErrShortSeries) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if _, err := Backtest(Config{}, x, 10, 1, nil); err == nil || errors.Is(err, ErrShortSeries) {
		t.Errorf("no step: %v", err)
	}
	for i := range x {
		x[i] = math.NaN()
	}
	if _, err := Backtest(Config{Step: time.Second}, x, 20, 1, nil); !errors.Is(err, ErrShortSeries) {
		t.Errorf("nothing known: %v", err)
	}
}

// TestBlendWeighsEachLevel: the member that is good at a level weighs there and
// not where another is, and one that is off does not weigh at all.
func TestBlendWeighsEachLevel(t *testing.T) {
	f, err := New(Config{Step: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	m := &blend{f: f, over: 3}
	for j, median := range []float64{10, 20, 30} {
		f.known[j] = true
		f.cards[j].weight = 1e6
		for l := range Levels {
			f.cards[j].levels[forSteps][l] = balance{loss: 1, naive: 1}
			f.cards[j].levels[forPeak][l] = balance{loss: 1, naive: 1}
		}
		for h := range f.steps[j] {
			f.steps[j][h] = Quantiles{median, median + 1, median + 2, median + 3, median + 4}
		}
	}
	f.cards[1].levels[forSteps][0].loss = 0.2 // the second has by far the best median
	f.cards[2].off = true
	var dst [12]Quantiles
	if !m.Forecast(12, dst[:]) {
		t.Fatal("nothing to say")
	}
	near(t, "median", dst[5][0], 20, 0.01)
	near(t, "0.75 quantile, not below the median", dst[5][1], 20, 0.01)
	near(t, "0.99 quantile: both alike, 19 raised to the median", dst[5][4], 20, 0.01)
	f.known = make([]bool, len(f.known))
	if m.Forecast(12, dst[:]) {
		t.Error("it speaks when nobody does")
	}
}
