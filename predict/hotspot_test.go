package predict

import (
	"math"
	"math/rand"
	"strings"
	"testing"
	"time"
)

// TestHotSpots: each kind shows for its own story, with its numbers, and calm
// demand shows none.
func TestHotSpots(t *testing.T) {
	for _, tc := range []struct {
		name   string
		demand func(i int) float64
		noise  float64
		kind   string // "" none at all
		text   string
	}{
		{"calm", func(int) float64 { return 0.3 }, 0.05, "", ""},
		{"ramp", func(i int) float64 { return 0.1 + 0.01*math.Max(0, float64(i-80)) }, 0.02, "rise", "demand rose from 0."},
		{"step up", func(i int) float64 { return 0.1 + 0.4*step(i, 90) }, 0.05, "level-shift", "demand moved from 0.1"},
		{"step down", func(i int) float64 { return 0.5 - 0.4*step(i, 90) }, 0.05, "level-shift", "demand moved from 0.4"},
		{"bursts", func(i int) float64 { return 0.1 + 0.9*step(i%10, 8) }, 0.05, "volatile", "% of its mean"},
		{"high", func(int) float64 { return 0.95 }, 0.01, "exceed", "above 0.9"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rng := rand.New(rand.NewSource(3))
			f, err := New(Config{Sample: time.Second, Step: 5 * time.Second, Level: 0.9})
			if err != nil {
				t.Fatal(err)
			}
			for i := range 100 {
				f.Observe(noisy(rng, tc.demand(i), tc.noise))
			}
			spots := f.HotSpots()
			if tc.kind == "" {
				if len(spots) > 0 {
					t.Errorf("calm demand has hot spots: %+v", spots)
				}
				return
			}
			for _, s := range spots {
				t.Logf("%s %.2f: %s", s.Kind, s.Score, s.Explanation)
				if s.Kind == tc.kind {
					if !strings.Contains(s.Explanation, tc.text) || s.Score < 1 {
						t.Errorf("%s with score %g says %q, want %q", s.Kind, s.Score, s.Explanation, tc.text)
					}
					return
				}
			}
			t.Errorf("no %s among %+v", tc.kind, spots)
		})
	}
}

func step(i, at int) float64 {
	if i >= at {
		return 1
	}
	return 0
}

// TestMissingIsNotZero: with three samples in ten missing the forecast stays at
// the demand; after a long gap it is not ready and says so, and comes back.
func TestMissingIsNotZero(t *testing.T) {
	rng := rand.New(rand.NewSource(5))
	f := lab(t)
	for range 300 {
		x := noisy(rng, 0.4, 0.05)
		if rng.Float64() < 0.3 {
			x = math.NaN()
		}
		f.Observe(x)
	}
	fc := f.Forecast()
	if !fc.Ready || math.Abs(fc.Steps[0][0]-0.4) > 0.04 || math.Abs(fc.Steps[11][0]-0.4) > 0.04 {
		t.Errorf("ready %v (%s), medians %.3f and %.3f, want 0.4", fc.Ready, fc.Why, fc.Steps[0][0], fc.Steps[11][0])
	}
	if fc.Observed+fc.Missing != 300 || fc.Missing < 60 {
		t.Errorf("%d observed, %d missing of 300", fc.Observed, fc.Missing)
	}
	for range 10 {
		f.Observe(math.NaN())
	}
	if fc := f.Forecast(); fc.Ready || fc.Why != "no sample for 10s" {
		t.Errorf("after 10 s without a sample: ready %v, why %q", fc.Ready, fc.Why)
	}
	f.Observe(0.4)
	if fc := f.Forecast(); !fc.Ready {
		t.Errorf("a sample after the gap: not ready: %s", fc.Why)
	}
}

// TestWarmup: not a sample earlier than configured, and then at once.
func TestWarmup(t *testing.T) {
	f := lab(t)
	for i := range 25 {
		if got, want := f.Forecast().Ready, i >= 20; got != want {
			t.Errorf("after %d samples ready is %v: %s", i, got, f.Forecast().Why)
		}
		f.Observe(0.2)
	}
}

// TestCoverageIsHeld: on a series with bursts, on which no member's own
// quantiles are right, 95 % of the outcomes lie at or below the 0.95 quantile,
// and the coverage that is shown says the same.
func TestCoverageIsHeld(t *testing.T) {
	rng := rand.New(rand.NewSource(11))
	f, err := New(Config{Step: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	const n = 4000
	x := make([]float64, n)
	level, burst := 1.0, 0
	for i := range x {
		level = math.Max(0.2, level+0.03*rng.NormFloat64())
		if burst--; rng.Float64() < 0.02 {
			burst = 1 + rng.Intn(8)
		}
		x[i] = level * math.Exp(0.2*rng.NormFloat64())
		if burst > 0 {
			x[i] += 2 * rng.ExpFloat64()
		}
	}
	var steps, peaks, hit, hitPeak float64
	for i, v := range x {
		f.Observe(v)
		if i < 300 || i+12 >= n {
			continue
		}
		fc, top := f.Forecast(), 0.0
		for h, q := range fc.Steps {
			steps++
			hit += share(x[i+1+h] <= q[3])
			top = math.Max(top, x[i+1+h])
		}
		peaks++
		hitPeak += share(top <= fc.Peak[3])
	}
	fc := f.Forecast()
	t.Logf("covered: steps %.3f, peak %.3f; shown at the end: %.3f, %.3f", hit/steps, hitPeak/peaks, fc.Coverage, fc.PeakCoverage)
	if c := hit / steps; c < 0.935 || c > 0.965 {
		t.Errorf("q0.95 of the steps holds %.3f", c)
	}
	if c := hitPeak / peaks; c < 0.93 || c > 0.97 {
		t.Errorf("q0.95 of the peak holds %.3f", c)
	}
	if math.Abs(fc.Coverage-0.95) > 0.04 {
		t.Errorf("coverage shown: %.3f", fc.Coverage)
	}
}

// TestChoice: the member that suits the series is chosen, has skill, and what
// loses to naive is off and says so.
func TestChoice(t *testing.T) {
	for _, tc := range []struct {
		name   string
		next   func(rng *rand.Rand, last float64, i int) float64
		not    string  // must not be the method
		skill  float64 // at least
		losing string  // a member that must be off
	}{
		{"noise", func(rng *rand.Rand, _ float64, _ int) float64 { return noisy(rng, 1, 0.2) }, "naive", 0.2, ""},
		{"random walk", func(rng *rand.Rand, last float64, _ int) float64 { return math.Abs(last + 0.05*rng.NormFloat64()) }, "decay", -0.02, "decay"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const seeds = 8
			var skill float64
			off := 0
			for seed := range int64(seeds) {
				fc := learned(t, rand.New(rand.NewSource(seed)), tc.next)
				t.Logf("%s, skill %.3f", fc.Method, fc.Skill)
				skill += fc.Skill / seeds
				if fc.Method == tc.not {
					t.Errorf("method %s", fc.Method)
				}
				for _, m := range fc.Members {
					if m.Name == tc.losing && m.Off && m.Weight == 0 && strings.Contains(m.Why, "loses to naive") {
						off++
					}
				}
			}
			if tc.losing != "" && off < seeds-1 {
				t.Errorf("%s is off in %d of %d runs", tc.losing, off, seeds)
			}
			if skill < tc.skill {
				t.Errorf("mean skill %.3f, want %.3f", skill, tc.skill)
			}
		})
	}
}

// learned is the forecast after 1500 samples, each made from the one before.
func learned(t *testing.T, rng *rand.Rand, next func(rng *rand.Rand, last float64, i int) float64) Forecast {
	t.Helper()
	f, err := New(Config{Step: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	x := 1.0
	for i := range 1500 {
		x = next(rng, x, i)
		f.Observe(x)
	}
	return f.Forecast()
}

// TestConfigIsChecked: every bad setting is refused with its name.
func TestConfigIsChecked(t *testing.T) {
	for text, c := range map[string]Config{
		"step":      {},
		"multiple":  {Step: 5 * time.Second, Sample: 2 * time.Second},
		"horizon":   {Step: time.Second, Horizon: 1000},
		"warm-up":   {Step: time.Second, Warmup: 1},
		"level":     {Step: time.Second, Level: math.NaN()},
		"exceed":    {Step: time.Second, ExceedOf: 9},
		"in a step": {Step: time.Hour, Sample: time.Second},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: error %v, want one about %s", c, err, text)
		}
	}
}
