package demand_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"headroom/tests/lab/demand"
)

func TestAt(t *testing.T) {
	for _, c := range []struct {
		script string
		at     time.Duration
		want   float64
	}{
		{"constant:0.2", 0, 0.2},
		{"constant:0.2", time.Hour, 0.2},
		{"constant:0.2", -time.Second, 0},
		{"ramp:0.1,0.4,25s,30s", 24 * time.Second, 0.1},
		{"ramp:0.1,0.4,25s,30s", 40 * time.Second, 0.25},
		{"ramp:0.1,0.4,25s,30s", 2 * time.Minute, 0.4},
		{"ramp:0.4,0.1,5s,0s", 5 * time.Second, 0.1},
		{"sine:0.5,0.3,40s", 10 * time.Second, 0.8},
		{"sine:0.5,0.3,40s", 30 * time.Second, 0.2},
		{"sine:0.1,0.5,40s", 30 * time.Second, 0}, // never negative
		{"burst:0.1,0.9,20s,2s", time.Second, 0.9},
		{"burst:0.1,0.9,20s,2s", 2 * time.Second, 0.1},
		{"burst:0.1,0.9,20s,2s", 21 * time.Second, 0.9},
		{"constant:0.2+burst:0,0.5,10s,1s", 10 * time.Second, 0.7},
		{"noise:0", 3 * time.Second, 0},
	} {
		s, err := demand.Parse(c.script)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.At(c.at); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s at %v demands %g cores, want %g", c.script, c.at, got, c.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		"", "constant", "constant:", "constant:x", "constant:0.1,0.2", "constant:nan", "constant:65",
		"sine:0.1,0.1,0s", "burst:0,1,0s,1s", "ramp:0,1,1,1", "ramp:0,1,1s", "ramp:0,1,-1s,1s", "cosine:1",
		"noise:-1", "noise:0.1,-1", "noise:0.1,1,1", "constant:0.1+", "constant:0.1 +constant:0.1",
		strings.Repeat("constant:1+", 16) + "constant:1", "constant:" + strings.Repeat("0", demand.MaxLength),
	} {
		if _, err := demand.Parse(text); !errors.Is(err, demand.ErrSyntax) {
			t.Errorf("Parse(%q) = %v, want ErrSyntax", text, err)
		}
	}
}

func TestNoiseHasItsDeviationAndItsSeed(t *testing.T) {
	s, other := demand.MustParse("constant:10+noise:0.5,7"), demand.MustParse("constant:10+noise:0.5,8")
	const n = 4000
	var sum, squares float64
	same := 0
	for i := range n {
		at := time.Duration(i) * time.Second
		v := s.At(at) - 10
		sum, squares = sum+v, squares+v*v
		if s.At(at) != s.At(at+999*time.Millisecond) {
			t.Fatalf("noise changes within second %d", i)
		}
		if s.At(at) == other.At(at) {
			same++
		}
	}
	if mean, sd := sum/n, math.Sqrt(squares/n); math.Abs(mean) > 0.04 || math.Abs(sd-0.5) > 0.03 {
		t.Errorf("noise of deviation 0.5 has mean %g and deviation %g", mean, sd)
	}
	if same > 0 {
		t.Errorf("two seeds draw alike %d times", same)
	}
}

func TestWorkOfKnownShapes(t *testing.T) {
	for _, c := range []struct {
		script string
		until  time.Duration
		want   float64
	}{
		{"constant:0.3", 10 * time.Second, 3},
		{"constant:0.3", 10*time.Second + 5*time.Millisecond, 3.0015},
		{"ramp:0,1,0s,10s", 10 * time.Second, 5},
		{"sine:0.5,0.5,10s", 20 * time.Second, 10},
		{"burst:0,1,10s,2s", 30 * time.Second, 6},
		{"constant:1", -time.Second, 0},
	} {
		got := demand.MustParse(c.script).Work(c.until)
		// A jump is smeared over a step of the grid.
		if math.Abs(got-c.want) > 0.02 {
			t.Errorf("%s asks for %g core-seconds in %v, want %g", c.script, got, c.until, c.want)
		}
	}
}

// part draws the text of one part.
func part(t *rapid.T) string {
	return rapid.SampledFrom([]string{
		"constant:0.3", "ramp:0.1,0.9,2s,3s", "sine:0.4,0.6,4s", "burst:0,2,3s,700ms", "noise:0.2,3", "constant:0",
	}).Draw(t, "part")
}

// A guest finds arrivals with Reach, the host sums with Work: they must be
// inverse to each other.
func TestReachInvertsWork(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := demand.MustParse(strings.Join(rapid.SliceOfN(rapid.Custom(part), 1, 4).Draw(t, "parts"), "+"))
		step := rapid.Float64Range(0.001, 0.05).Draw(t, "step")
		ahead := demand.NewMeter(s)
		var before time.Duration
		for k := 1; k < 60; k++ {
			at, ok := ahead.Reach(float64(k)*step, 20*time.Second)
			if !ok {
				if s.Work(20*time.Second) > float64(k)*step+1e-6 {
					t.Fatalf("%s: request %d of %g never arrives, and yet is due", s, k, step)
				}
				return
			}
			if at < before {
				t.Fatalf("%s: request %d arrives at %v, before its predecessor at %v", s, k, at, before)
			}
			// Linear within the step: off by at most the work of a step.
			slack := (s.At(at) + s.At(at+demand.Grid) + s.At(at-demand.Grid)) * demand.Grid.Seconds()
			if got := s.Work(at); math.Abs(got-float64(k)*step) > slack+1e-9 {
				t.Fatalf("%s: at %v the work is %g, want %g", s, at, got, float64(k)*step)
			}
			before = at
		}
	})
}

func TestMeterSumsAsWork(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := demand.MustParse(part(t) + "+" + part(t))
		m := demand.NewMeter(s)
		var at time.Duration
		for range 20 {
			at += time.Duration(rapid.Int64Range(0, int64(300*time.Millisecond)).Draw(t, "step"))
			if got, want := m.Work(at), s.Work(at); math.Abs(got-want) > 1e-9 {
				t.Fatalf("%s until %v: the running sum is %g, the whole sum %g", s, at, got, want)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"constant:0.2", "ramp:0.1,0.4,25s,35s", "sine:1,2,3s+noise:0.1", "burst:0,1,2s,1s", "+:,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := demand.Parse(text)
		if err != nil {
			if !errors.Is(err, demand.ErrSyntax) {
				t.Fatalf("Parse(%q) = %v, want ErrSyntax", text, err)
			}
			return
		}
		if s.String() != text {
			t.Fatalf("Parse(%q) reads as %q", text, s)
		}
		for _, at := range []time.Duration{0, time.Millisecond, time.Second, 1000 * time.Hour} {
			if v := s.At(at); !(v >= 0 && v <= demand.MaxCores*demand.MaxParts*10) {
				t.Fatalf("%q demands %g cores at %v", text, v, at)
			}
		}
	})
}
