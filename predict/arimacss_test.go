package predict

import (
	"math"
	"math/rand"
	"testing"
)

// TestLowOrdersAreSummedAlike: the sums for low orders are those for any, digit by digit,
// gaps included.
func TestLowOrdersAreSummedAlike(t *testing.T) {
	rng := rand.New(rand.NewSource(5))
	for i := range 500 {
		w := make([]float64, 5+rng.Intn(200))
		for k := range w {
			if w[k] = 3 + rng.NormFloat64(); i%5 == 0 && rng.Intn(10) == 0 {
				w[k] = math.NaN()
			}
		}
		o := order{rng.Intn(3), 0, rng.Intn(3), rng.Intn(2) == 0}
		fresh := func() *squares {
			n := arimaMost + len(w)
			return &squares{order: o, w: w, z: make([]float64, n), e: make([]float64, n), weights: make([]float64, n), unit: 0.5}
		}
		var at vector
		for k := range o.params() {
			at[k] = 0.5 * rng.NormFloat64()
		}
		low, any := fresh(), fresh()
		if got, want := low.lowValue(&at), any.anyValue(&at); got != want {
			t.Fatalf("series %d, %+v: %v, not %v", i, o, got, want)
		}
		if got, want := low.lowGradient(&at), any.anyGradient(&at); got != want {
			t.Fatalf("series %d, %+v: gradient %v, not %v", i, o, got, want)
		}
	}
}
