package predict

import (
	"math"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"
)

// TestPeakPrior: before any peak was seen, the peak of steps whose spread does not
// grow is the maximum of as many independent normal ones, and that of steps whose
// spread grows like a random walk's is the maximum of two with the last spread.
func TestPeakPrior(t *testing.T) {
	const horizon = 12
	tables := newPeakTables(horizon)
	for _, tc := range []struct {
		name  string
		sigma func(h int) float64
		m     float64
		last  float64
	}{
		{"independent", func(int) float64 { return 0.5 }, horizon, 0.5},
		{"random walk", func(h int) float64 { return 0.5 * math.Sqrt(float64(h)) }, 2, 0.5 * math.Sqrt(horizon)},
		{"between", func(h int) float64 { return 0.5 + 0.25*float64(h-1)/(horizon-1) }, 5, 0.75},
	} {
		t.Run(tc.name, func(t *testing.T) {
			steps := make([]Quantiles, horizon)
			for h := range steps {
				for i, z := range gaussian {
					steps[h][i] = 10 + z*tc.sigma(h+1)
				}
			}
			q := newPeakCalibration(newLag(horizon, 1)).quantiles(steps, tables)
			for i, p := range Levels {
				want := 10 + tc.last*distuv.UnitNormal.Quantile(math.Pow(p, 1/tc.m))
				if math.Abs(q[i]-want) > 1e-9 {
					t.Errorf("level %g: %.6f, want %.6f", p, q[i], want)
				}
			}
		})
	}
}
