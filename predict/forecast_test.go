package predict

import (
	"encoding/json"
	"math"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// TestExceedProbability: the quantiles themselves have their own probability,
// and between and beyond them it falls without a step.
func TestExceedProbability(t *testing.T) {
	f := Forecast{Peak: Quantiles{2, 3, 4, 5, 7}}
	for _, tc := range []struct{ level, want float64 }{
		{-1, 1}, {2, 0.5}, {3, 0.25}, {3.5, 0.175}, {4, 0.1}, {5, 0.05}, {7, 0.01}, {9, 0.002}, {1, 0.75}, {0, 0.9},
	} {
		if got := f.ExceedProbability(tc.level); math.Abs(got-tc.want) > 1e-9 {
			t.Errorf("P(peak > %g) = %g, want %g", tc.level, got, tc.want)
		}
	}
	constant := Forecast{Peak: Quantiles{3, 3, 3, 3, 3}}
	if p := constant.ExceedProbability(3); p != 0 {
		t.Errorf("P(3 > 3) = %g", p)
	}
	if p := constant.ExceedProbability(2.9); p != 1 {
		t.Errorf("P(3 > 2.9) = %g", p)
	}
	if p := (Forecast{Peak: unknown()}).ExceedProbability(1); !math.IsNaN(p) {
		t.Errorf("an unknown peak exceeds with probability %g, want NaN", p)
	}
}

// TestExceedProbabilityFalls: a higher level is never more probable to be
// exceeded, also where quantiles coincide.
func TestExceedProbabilityFalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q Quantiles
		last := 0.0
		for i := range q {
			last += rapid.SampledFrom([]float64{0, 0, 0.001, 1, 100}).Draw(t, "more")
			q[i] = last
		}
		f := Forecast{Peak: q}
		a, b := rapid.Float64Range(0, 300).Draw(t, "a"), rapid.Float64Range(0, 300).Draw(t, "b")
		for _, v := range q { // and at the very quantiles
			for _, w := range []float64{a, v, math.Nextafter(v, 0), math.Nextafter(v, 1e9)} {
				lo, hi := min(w, b), max(w, b)
				if p, r := f.ExceedProbability(lo), f.ExceedProbability(hi); r > p+1e-9 || p < 0 || p > 1 {
					t.Fatalf("peak %v: P(> %v) = %v, P(> %v) = %v", q, lo, p, hi, r)
				}
			}
		}
	})
}

// TestForecastJSON: what is unknown is null, and what is read is what was
// written.
func TestForecastJSON(t *testing.T) {
	f := lab(t)
	for round := range 3 {
		want := f.Forecast()
		data, err := json.Marshal(want)
		if err != nil {
			t.Fatalf("after %d samples: %v", want.Observed, err)
		}
		if round == 0 && !strings.Contains(string(data), `"peak":[null,null,null,null,null],"method":"naive","skill":null,"coverage":null`) {
			t.Errorf("unknown numbers are not null: %s", data)
		}
		var got Forecast
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateNaNs(), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("round trip (-want +got):\n%s", diff)
		}
		for i := range 200 {
			f.Observe(float64(i % 5))
		}
	}
	for _, bad := range []string{`{"peak":[3,2,1,0,0]}`, `{"peak":[1,2]}`, `{"peak":[-1,0,0,0,0]}`, `{"levels":[0.1]}`, `{"step_seconds":-1}`, `[]`} {
		if err := json.Unmarshal([]byte(bad), new(Forecast)); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func FuzzForecastJSON(f *testing.F) {
	data, _ := json.Marshal(Forecast{Step: time.Second, Steps: []Quantiles{{1, 2, 3, 4, 5}}, Peak: unknown(), Skill: math.NaN()})
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		var fc Forecast
		if json.Unmarshal(data, &fc) != nil {
			return
		}
		fc.ExceedProbability(1)
		Sum([]Forecast{fc, fc}, nil)
		if _, err := json.Marshal(fc); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
	})
}

// part is a ready forecast of two equal steps.
func part(q, peak Quantiles) Forecast {
	return Forecast{Step: time.Second, Steps: []Quantiles{q, q}, Peak: peak, Ready: true}
}

func TestSum(t *testing.T) {
	one := part(Quantiles{10, 11, 12, 13, 14}, Quantiles{11, 12, 14, 15, 17})
	normal := Quantiles{10, 10 + gaussian[1], 10 + gaussian[2], 10 + gaussian[3], 10 + gaussian[4]}
	full := func(i, j int) float64 { return 1 }

	if s := Sum([]Forecast{one}, nil); !s.Ready || !cmp.Equal(s.Steps, one.Steps, cmpopts.EquateApprox(0, 1e-9)) ||
		!cmp.Equal(s.Peak, one.Peak, cmpopts.EquateApprox(0, 1e-9)) {
		t.Errorf("the sum of one series is %v, peak %v", s.Steps, s.Peak)
	}
	if s := Sum([]Forecast{one, one}, full); math.Abs(s.Steps[0][4]-28) > 1e-9 || math.Abs(s.Peak[4]-34) > 1e-9 {
		t.Errorf("fully correlated series do not add up: %v, peak %v", s.Steps[0], s.Peak)
	}
	var four []Forecast
	for range 4 {
		four = append(four, part(normal, normal))
	}
	if s := Sum(four, nil); math.Abs(s.Steps[0][3]-(40+2*gaussian[3])) > 1e-6 {
		t.Errorf("four independent normal series have q0.95 %v, want %v", s.Steps[0][3], 40+2*gaussian[3])
	}
	opposite := Sum([]Forecast{one, one}, func(i, j int) float64 { return -1 })
	if opposite.Steps[0][4]-opposite.Steps[0][0] > 1e-9 {
		t.Errorf("opposite series do not cancel: %v", opposite.Steps[0])
	}
}

// TestSumSaysWhatIsMissing: a sum over what is not known is not ready.
func TestSumSaysWhatIsMissing(t *testing.T) {
	good := part(Quantiles{1, 2, 3, 4, 5}, Quantiles{1, 2, 3, 4, 5})
	cold := good
	cold.Ready, cold.Why = false, "warming up: 3 of 20 samples seen"
	other := good
	other.Steps = other.Steps[:1]
	for _, tc := range []struct {
		name string
		fs   []Forecast
		why  string
	}{
		{"nothing", nil, "no series"},
		{"cold", []Forecast{good, cold}, "series 2 of 2 is not ready: warming up"},
		{"other steps", []Forecast{good, other}, "series 2 of 2 has other steps"},
		{"unknown", []Forecast{{Peak: unknown(), Why: "no step"}}, "no step"},
	} {
		if s := Sum(tc.fs, nil); s.Ready || !strings.Contains(s.Why, tc.why) {
			t.Errorf("%s: ready %v, why %q, want %q", tc.name, s.Ready, s.Why, tc.why)
		}
	}
}

// TestSumMatchesSimulation: the sum of independent skewed series has, at 0.9
// and 0.95, the quantiles that adding samples up gives, within a few percent.
func TestSumMatchesSimulation(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	draw := func() float64 { return 0.5 + 0.3*rng.ExpFloat64() } // exponential above a floor
	var q Quantiles
	for i, p := range Levels {
		q[i] = 0.5 - 0.3*math.Log(1-p)
	}
	var fs []Forecast
	for range 20 {
		fs = append(fs, part(q, q))
	}
	const n = 40000
	var sums []float64
	for range n {
		var sum float64
		for range fs {
			sum += draw()
		}
		sums = append(sums, sum)
	}
	slices.Sort(sums)
	got := Sum(fs, nil).Steps[0]
	for _, i := range []int{0, 2, 3} {
		want := sums[int(Levels[i]*n)]
		t.Logf("q%g: %.3f, simulated %.3f", Levels[i], got[i], want)
		if math.Abs(got[i]-want) > 0.06*want {
			t.Errorf("q%g of the sum is %.3f, simulated %.3f", Levels[i], got[i], want)
		}
	}
}
