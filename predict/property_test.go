package predict

import (
	"errors"
	"fmt"
	"math"
	"math/rand"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// anyConfig draws a small configuration.
func anyConfig(t *rapid.T) Config {
	per := rapid.IntRange(1, 6).Draw(t, "samples per step")
	return Config{Sample: time.Second, Step: time.Duration(per) * time.Second,
		Horizon: rapid.IntRange(1, 14).Draw(t, "horizon"), Warmup: rapid.IntRange(3, 30).Draw(t, "warmup"),
		Season: time.Duration(per*rapid.SampledFrom([]int{0, 5, 50}).Draw(t, "season")) * time.Second,
		LSTM:   rapid.Bool().Draw(t, "lstm"),
		Level:  rapid.SampledFrom([]float64{0, 1}).Draw(t, "level")}
}

// anySeries draws values of every kind that a sampler might hand over: calm,
// constant, jumping, huge, tiny, missing, broken.
func anySeries(t *rapid.T, most int) []float64 {
	special := []float64{0, 0, 1, 1, 1, 0.5, math.NaN(), math.Inf(1), math.Inf(-1), -1, 1e-300, 5e-324, 1e30, 1e31, math.MaxFloat64}
	one := rapid.OneOf(rapid.SampledFrom(special), rapid.Float64Range(0, 1), rapid.Float64Range(0, 1e6), rapid.Float64())
	var out []float64
	for range rapid.IntRange(0, 6).Draw(t, "pieces") {
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			v := one.Draw(t, "constant")
			for range rapid.IntRange(1, most/6).Draw(t, "length") {
				out = append(out, v)
			}
		case 1:
			out = append(out, rapid.SliceOfN(one, 0, most/6).Draw(t, "values")...)
		case 2:
			from, slope := rapid.Float64Range(0, 10).Draw(t, "from"), rapid.Float64Range(-1, 1).Draw(t, "slope")
			for i := range rapid.IntRange(1, most/6).Draw(t, "length") {
				out = append(out, from+slope*float64(i))
			}
		}
	}
	return out
}

func sound(t interface{ Fatalf(string, ...any) }, q Quantiles, what string) {
	last := 0.0
	for i, v := range q {
		if math.IsNaN(v) || math.IsInf(v, 0) || v < last {
			t.Fatalf("%s: quantiles %v: value %d is no number, negative, or below the one before", what, q, i)
		}
		last = v
	}
}

func checkForecast(t interface{ Fatalf(string, ...any) }, f Forecast, horizon int) {
	if len(f.Steps) == 0 {
		if f.Ready || f.Why == "" || f.Peak.Known() {
			t.Fatalf("no steps, but ready %v, why %q, peak %v", f.Ready, f.Why, f.Peak)
		}
		return
	}
	if len(f.Steps) != horizon {
		t.Fatalf("%d steps, want %d", len(f.Steps), horizon)
	}
	for h := range f.Steps {
		sound(t, f.Steps[h], "step")
		for i := range f.Peak {
			if f.Peak[i] < f.Steps[h][i] {
				t.Fatalf("peak %v is below step %v", f.Peak, f.Steps[h])
			}
		}
	}
	sound(t, f.Peak, "peak")
	if f.Ready != (f.Why == "") {
		t.Fatalf("ready %v, why %q", f.Ready, f.Why)
	}
}

// TestAnyInputGivesSoundForecasts: whatever arrives, quantiles do not decrease,
// are not negative and are finite, and the peak is no lower than any step.
func TestAnyInputGivesSoundForecasts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := anyConfig(t)
		f, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		checkForecast(t, f.Forecast(), c.Horizon)
		for _, x := range anySeries(t, 150) {
			f.Observe(x)
			fc := f.Forecast()
			checkForecast(t, fc, c.Horizon)
			for _, level := range []float64{-1, 0, 0.3, 1, 1e30} {
				p := fc.ExceedProbability(level)
				if fc.Peak.Known() != !math.IsNaN(p) || p < 0 || p > 1 {
					t.Fatalf("probability %v of a peak %v above %v", p, fc.Peak, level)
				}
			}
			for _, s := range f.HotSpots() {
				if s.Explanation == "" || math.IsNaN(s.Score) {
					t.Fatalf("hot spot without numbers: %+v", s)
				}
			}
		}
	})
}

// TestStateContinues: at any moment the state can be written and read, and the
// reader goes on exactly as the writer does. With it goes determinism.
func TestStateContinues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := anyConfig(t)
		a, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		// Some of the members speak, or search, only after hundreds of samples.
		rng := rand.New(rand.NewSource(rapid.Int64().Draw(t, "seed")))
		level := 1.0
		for range rapid.IntRange(0, 700).Draw(t, "before") {
			level = math.Max(0, level+0.1*rng.NormFloat64())
			a.Observe(noisy(rng, level, 0.05))
		}
		for _, x := range anySeries(t, 150) {
			a.Observe(x)
		}
		data, err := a.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var b Forecaster
		if err := b.UnmarshalBinary(data); err != nil {
			t.Fatal(err)
		}
		for _, x := range append([]float64{math.NaN()}, anySeries(t, 60)...) {
			if diff := cmp.Diff(a.Forecast(), b.Forecast(), cmpopts.EquateNaNs()); diff != "" {
				t.Fatalf("the read forecaster differs (-written +read):\n%s", diff)
			}
			a.Observe(x)
			b.Observe(x)
		}
		again, _ := a.MarshalBinary()
		other, _ := b.MarshalBinary()
		if !cmp.Equal(again, other) {
			t.Fatal("the states differ after the same samples")
		}
	})
}

// TestScaleEquivariance: a series in other units gives the same forecast in
// those units. A power of two is exact in floating point.
func TestScaleEquivariance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		factor := math.Exp2(float64(rapid.IntRange(-20, 40).Draw(t, "exponent")))
		rng := rand.New(rand.NewSource(rapid.Int64().Draw(t, "seed")))
		a, b := lab(inRapid{}), lab(inRapid{})
		level := 0.2
		for range 300 {
			switch r := rng.Float64(); {
			case r < 0.02:
				level = rng.Float64()
			case r < 0.2:
				level += 0.01
			}
			x := noisy(rng, level, 0.05)
			if rng.Float64() < 0.03 {
				x = math.NaN()
			}
			a.Observe(x)
			b.Observe(x * factor)
		}
		got, want := b.Forecast(), a.Forecast()
		if got.Method != want.Method {
			t.Fatalf("method %s in other units, %s here", got.Method, want.Method)
		}
		for i := range got.Peak {
			if math.Abs(got.Peak[i]-want.Peak[i]*factor) > 1e-9*got.Peak[i] {
				t.Fatalf("peak %v in other units, want %g times %v", got.Peak, factor, want.Peak)
			}
		}
	})
}

// inRapid satisfies what lab needs of a testing.TB inside rapid.
type inRapid struct{ testing.TB }

func (inRapid) Helper()        {}
func (inRapid) Fatal(a ...any) { panic(a) }

// TestStateIsNeverMisread: other versions, other configurations and damage each
// have their error, and leave the forecaster as it was.
func TestStateIsNeverMisread(t *testing.T) {
	f := lab(t)
	for i := range 50 {
		f.Observe(float64(i % 7))
	}
	good, err := f.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	edit := func(at int) []byte {
		b := append([]byte(nil), good...)
		b[at] ^= 1
		return b
	}
	version := func(v byte) []byte {
		b := append([]byte(nil), good...)
		b[4] = v
		return b
	}
	other, err := New(Config{Step: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		into *Forecaster
		data []byte
		want error
	}{
		{"newer version", lab(t), edit(6), ErrStateVersion},
		{"version 0", lab(t), version(0), ErrStateVersion},
		{"next version", lab(t), version(stateVersion + 1), ErrStateVersion},
		{"magic", lab(t), edit(0), ErrStateCorrupt},
		{"checksum", lab(t), edit(8), ErrStateCorrupt},
		{"one bit", lab(t), edit(len(good) / 2), ErrStateCorrupt},
		{"empty", lab(t), nil, ErrStateCorrupt},
		{"cut", lab(t), good[:len(good)-1], ErrStateCorrupt},
		{"configuration", other, good, ErrStateConfig},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before, _ := tc.into.MarshalBinary()
			if err := tc.into.UnmarshalBinary(tc.data); !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			if after, _ := tc.into.MarshalBinary(); !cmp.Equal(before, after) {
				t.Error("the forecaster was changed")
			}
		})
	}
	t.Logf("state: %d bytes", len(good))
}

// FuzzState feeds bodies with a right checksum, so that the decoder itself and
// not the checksum is what stands against them.
func FuzzState(f *testing.F) {
	fc, err := New(Config{Sample: time.Second, Step: 2 * time.Second, Horizon: 3})
	if err != nil {
		f.Fatal(err)
	}
	for i := range 200 {
		if i == 50 || i == 120 || i == 190 {
			data, _ := fc.MarshalBinary()
			f.Add(data[12:])
		}
		fc.Observe(float64(i%13) + float64(i)/10)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var older Forecaster
		if err := older.replay(body); err == nil {
			checkForecast(t, older.Forecast(), older.config.Horizon)
		} else if !errors.Is(err, ErrStateCorrupt) {
			t.Fatalf("version 1: error %v", err)
		}
		var fc Forecaster
		if err := fc.read(body); err != nil {
			if !errors.Is(err, ErrStateCorrupt) {
				t.Fatalf("error %v", err)
			}
			return
		}
		for i := range 20 {
			checkForecast(t, fc.Forecast(), fc.config.Horizon)
			fc.Observe(float64(i))
		}
		fc.HotSpots()
	})
}

// TestAskingChangesNothing: between two steps a forecast is made when somebody
// asks; it knows the last sample, and it changes no later one.
func TestAskingChangesNothing(t *testing.T) {
	curious, patient := lab(t), lab(t)
	rng := rand.New(rand.NewSource(5))
	last := math.NaN()
	fresh := 0
	for i := range 900 {
		x := 1 + float64(i)/300 + 0.1*rng.NormFloat64()
		if i%70 == 13 {
			x = math.NaN()
		}
		curious.Observe(x)
		patient.Observe(x)
		f := curious.Forecast()
		if i%7 == 0 {
			if diff := cmp.Diff(f, patient.Forecast(), cmpopts.EquateNaNs()); diff != "" {
				t.Fatalf("sample %d, asked each time (-) and seldom (+):\n%s", i, diff)
			}
		}
		if len(f.Steps) > 0 && f.Steps[0][0] != last {
			last, fresh = f.Steps[0][0], fresh+1
		}
	}
	if fresh < 700 {
		t.Errorf("%d of 900 samples changed the forecast", fresh)
	}
}

// TestOlderStateIsLearnedAgain: state that older versions of this package wrote,
// of 300 samples, gives the forecast that those samples give now.
func TestOlderStateIsLearnedAgain(t *testing.T) {
	for v := replayedVersion; v < stateVersion; v++ {
		t.Run(fmt.Sprintf("version %d", v), func(t *testing.T) { learnAgain(t, fmt.Sprintf("testdata/state-v%d.bin", v)) })
	}
}

func learnAgain(t *testing.T, file string) {
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Sample: time.Second, Step: 2 * time.Second, Horizon: 3}
	want, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		x := float64(i%13) + float64(i)/10
		if i%50 == 7 {
			x = math.NaN()
		}
		want.Observe(x)
	}
	var got Forecaster
	if err := got.UnmarshalBinary(old); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Forecast(), got.Forecast(), cmpopts.EquateNaNs()); diff != "" {
		t.Errorf("the migrated forecaster differs (-want +got):\n%s", diff)
	}
	got.Observe(1)
	want.Observe(1)
	a, _ := got.MarshalBinary()
	b, _ := want.MarshalBinary()
	if !cmp.Equal(a, b) {
		t.Error("the states differ one sample later")
	}

	before := lab(t)
	if err := before.UnmarshalBinary(old); !errors.Is(err, ErrStateConfig) {
		t.Errorf("of another configuration: %v", err)
	}
	for _, damaged := range [][]byte{old[:len(old)-1], append(append([]byte(nil), old[:60]...), 1)} {
		if err := before.UnmarshalBinary(damaged); !errors.Is(err, ErrStateCorrupt) {
			t.Errorf("damaged: %v", err)
		}
	}
}
