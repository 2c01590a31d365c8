package predict

import (
	"fmt"
	"math"
)

// Sum is the distribution of the sum of several series, step by step and of its
// peak: what a host must serve. residualCorrelation gives the correlation of
// the forecast errors of series i and j in [-1, 1]; nil means independent.
//
// Means add up; distances from the mean add up as standard deviations do. That
// is exact for one series, for normal ones and for fully correlated ones. The
// peak of the sum is the highest step of the sum and, on top, the distance of
// each series' peak from its own highest step, added up the same way: peaks of
// independent series rarely coincide.
//
// The sum is Ready only when every part is and all parts have the same steps;
// Why names the first that does not. An empty sum is not Ready.
func Sum(fs []Forecast, residualCorrelation func(i, j int) float64) Forecast {
	out := Forecast{Peak: unknown(), Method: "sum", Skill: math.NaN(), Coverage: math.NaN(), PeakCoverage: math.NaN()}
	if len(fs) == 0 {
		out.Why = "no series to sum"
		return out
	}
	out.Step = fs[0].Step
	out.Observed = fs[0].Observed
	for i, f := range fs {
		if !f.Ready && out.Why == "" {
			out.Why = fmt.Sprintf("series %d of %d is not ready: %s", i+1, len(fs), f.Why)
		}
		if f.Step != out.Step || len(f.Steps) != len(fs[0].Steps) || len(f.Steps) == 0 || !f.Peak.Known() {
			out.Why = fmt.Sprintf("series %d of %d has other steps: %d of %v, not %d of %v: %s",
				i+1, len(fs), len(f.Steps), f.Step, len(fs[0].Steps), out.Step, f.Why)
			return out
		}
		out.Observed = min(out.Observed, f.Observed)
		out.Missing = max(out.Missing, f.Missing)
	}
	out.Ready = out.Why == ""
	rho := correlations(len(fs), residualCorrelation)
	out.Steps = make([]Quantiles, len(fs[0].Steps))
	parts := make([]Quantiles, len(fs))
	for h := range out.Steps {
		for i := range fs {
			parts[i] = fs[i].Steps[h]
		}
		out.Steps[h] = sumQuantiles(parts, rho)
	}
	out.Peak = sumPeak(fs, out.Steps, parts, rho)
	return out
}

// correlations is the lower triangle, bounded, without NaN; nil: independent.
func correlations(n int, corr func(i, j int) float64) [][]float64 {
	if corr == nil {
		return nil
	}
	rho := make([][]float64, n)
	for i := range rho {
		rho[i] = make([]float64, i)
		for j := range rho[i] {
			if r := corr(i, j); !math.IsNaN(r) {
				rho[i][j] = min(max(r, -1), 1)
			}
		}
	}
	return rho
}

// root is the square root of the quadratic form of d, with its sign.
func root(d []float64, rho [][]float64) float64 {
	var sum, sign float64
	for i, v := range d {
		sum += v * v
		sign += v
		if rho == nil {
			continue
		}
		for j, r := range rho[i] {
			sum += 2 * r * v * d[j]
		}
	}
	return math.Copysign(math.Sqrt(max(0, sum)), sign)
}

func sumQuantiles(parts []Quantiles, rho [][]float64) (out Quantiles) {
	d := make([]float64, len(parts))
	means := make([]float64, len(parts))
	var mean float64
	for i := range parts {
		means[i] = parts[i].mean()
		mean += means[i]
	}
	for l := range out {
		for i := range parts {
			d[i] = parts[i][l] - means[i]
		}
		out[l] = mean + root(d, rho)
	}
	out.tidy()
	return out
}

func sumPeak(fs []Forecast, steps, parts []Quantiles, rho [][]float64) (out Quantiles) {
	for i := range steps {
		out.upper(&steps[i])
	}
	d := make([]float64, len(fs))
	for i, f := range fs {
		parts[i] = Quantiles{}
		for h := range f.Steps {
			parts[i].upper(&f.Steps[h])
		}
	}
	for l := range out {
		for i, f := range fs {
			d[i] = max(0, f.Peak[l]-parts[i][l])
		}
		out[l] += root(d, rho)
	}
	out.tidy()
	return out
}

// mean of the distribution, with straight lines between the quantiles. The
// lower half is not forecast: it is taken as that of a normal distribution of
// the scale that the 0.75 quantile shows, and narrower by as much as the upper
// half is more skewed than a normal one, since demand that bursts upwards does
// not burst downwards.
func (q *Quantiles) mean() float64 {
	near, far := q[1]-q[0], q[2]-q[0]
	narrow := 1.0
	if far > 0 {
		narrow = min(1, math.Pow(near/far*gaussian[2]/gaussian[1], 2.5))
	}
	low := func(i int) float64 { return max(0, q[0]-near/gaussian[1]*narrow*gaussian[i]) }
	var sum float64
	for i := 1; i < len(q); i++ {
		width := Levels[i] - Levels[i-1]
		sum += width * (q[i] + q[i-1] + low(i) + low(i-1)) / 2
	}
	top := len(q) - 1
	return sum + (1-Levels[top])*(q[top]+low(top))
}
