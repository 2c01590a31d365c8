package predict

import (
	"fmt"
	"math"
	"math/rand"
	"testing"
)

// TestMovingTheLevel: a distribution is read at the level that a shift asks for,
// and beyond its highest quantile along an exponential tail.
func TestMovingTheLevel(t *testing.T) {
	exponential := func(p float64) float64 { return -math.Log1p(-p) }
	for _, by := range []float64{-1.5, -1, -0.3, 0, 0.7, 1.5} {
		var q Quantiles
		for i, p := range Levels {
			q[i] = exponential(p)
		}
		was := q
		q.move(&Quantiles{0, by, by, by, by})
		if q[0] != was[0] {
			t.Errorf("shift %g: the median moved to %g", by, q[0])
		}
		for i := 1; i < len(q); i++ {
			if want := max(was[0], was[i]+by); math.Abs(q[i]-want) > 1e-12 {
				t.Errorf("shift %g, level %g: %g, want %g", by, Levels[i], q[i], want)
			}
		}
	}
	q := Quantiles{1, 2, 3, 5, 9}
	q.move(&Quantiles{})
	if q != (Quantiles{1, 2, 3, 5, 9}) {
		t.Errorf("without a shift: %v", q)
	}
}

// TestConformalHoldsEachLevel: a forecast of the peak that is too narrow or too
// wide is moved until its levels hold, whatever the scale and the tail; those of
// the steps, which are drawn back, come nearer, and stay where they are right.
// Neither knows of the other.
func TestConformalHoldsEachLevel(t *testing.T) {
	normal := func(rng *rand.Rand) float64 { return math.Abs(rng.NormFloat64()) }
	heavy := func(rng *rand.Rand) float64 { return math.Pow(1-rng.Float64(), -1.0/3) }
	for _, tc := range []struct {
		name   string
		draw   func(rng *rand.Rand) float64
		factor float64 // of the spread that is forecast
	}{
		{"normal, right", normal, 1}, {"normal, narrow", normal, 0.8}, {"normal, wide", normal, 1.2},
		{"heavy, right", heavy, 1}, {"heavy, narrow", heavy, 0.6}, {"heavy, wide", heavy, 1.6},
	} {
		for what := range 2 {
			t.Run(fmt.Sprintf("%s, %d", tc.name, what), func(t *testing.T) {
				q := spreadOf(tc.draw, tc.factor)
				c, rng, held, raw := conformal{}, rand.New(rand.NewSource(4)), Quantiles{}, Quantiles{}
				const learning, n = 4000, 40000
				for i := range learning + n {
					y, r := 1e-6*tc.draw(rng), q
					c.apply(what, &r)
					for l := 1; l < len(r) && i >= learning; l++ {
						held[l] += share(y <= r[l]) / n
						raw[l] += share(y <= q[l]) / n
					}
					c.settle(what, &r, y, 1)
				}
				for l := 1; l < len(held); l++ {
					p := Levels[l]
					within := 0.12 * (1 - p)
					if what == forSteps {
						within = max(0.5*(1-p), 0.99*math.Abs(raw[l]-p))
					}
					if math.Abs(held[l]-p) > within {
						t.Errorf("level %g holds %.4f, %.4f before", p, held[l], raw[l])
					}
				}
				if c.shifts[1-what] != (Quantiles{}) {
					t.Errorf("the other shift moved to %v", c.shifts[1-what])
				}
			})
		}
	}
}

// spreadOf gives the quantiles of draws, their distances from the median changed
// by factor, in millionths.
func spreadOf(draw func(rng *rand.Rand) float64, factor float64) (q Quantiles) {
	rng := rand.New(rand.NewSource(5))
	for range windowSize {
		var some window // the window's quantiles, averaged over many windows
		for range windowSize {
			some.add(draw(rng))
		}
		for i, p := range Levels {
			q[i] += 1e-6 * some.quantile(p) / windowSize
		}
	}
	for i := 1; i < len(q); i++ {
		q[i] = q[0] + factor*(q[i]-q[0])
	}
	return q
}

// TestShiftsAreBounded: nothing but misses, or none, moves no level out of bounds.
func TestShiftsAreBounded(t *testing.T) {
	for _, y := range []float64{0, 9} {
		var c conformal
		for range 100000 {
			c.settle(forPeak, &Quantiles{1, 2, 3, 4, 5}, y, 1)
		}
		for i := 1; i < len(Levels); i++ {
			if s := c.shifts[forPeak][i]; math.Abs(s) != conformalMost || s > 0 != (y > 5) {
				t.Errorf("outcome %g: shift %g of level %g", y, s, Levels[i])
			}
		}
	}
}
