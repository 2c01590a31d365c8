package predict

import (
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// peakCalibration turns a member's step quantiles into quantiles of the peak.
// What it learns is how far real peaks lie above the highest median; until
// there are enough, it assumes a number of independent Gaussian steps.
type peakCalibration struct {
	lag     lag
	pending []float32 // highest medians under way
	seen    window
}

func newPeakCalibration(l lag) *peakCalibration {
	p := &peakCalibration{lag: l, pending: make([]float32, l.slots())}
	for i := range p.pending {
		p.pending[i] = float32(math.NaN())
	}
	return p
}

// learn takes the real peak of the horizon that ends at t; NaN is unknown.
func (p *peakCalibration) learn(t int64, peak float64) {
	if i, ok := p.lag.slot(t); ok {
		p.seen.add(peak - float64(p.pending[i]))
	}
}

// issue puts the highest median of t under way, after learn; NaN: there is none.
func (p *peakCalibration) issue(t int64, top float64) {
	if i, ok := p.lag.slot(t); ok {
		p.pending[i] = float32(top)
	}
}

// quantiles is the distribution of the peak, given those of the steps.
func (p *peakCalibration) quantiles(steps []Quantiles, tables *peakTables) Quantiles {
	top := highest(steps)
	q := p.above(top, tables.prior(steps, top))
	// The peak is no lower than any single step.
	for i := range steps {
		q.upper(&steps[i])
	}
	q.tidy()
	return q
}

// above is the distribution of the peak when the highest median is top and prior is
// what is expected on top of it.
func (p *peakCalibration) above(top float64, prior Quantiles) Quantiles {
	q := p.seen.blend(prior, p.lag.independent())
	for i := range q {
		q[i] += top
	}
	return q
}

func highest(steps []Quantiles) float64 {
	top := 0.0
	for i := range steps {
		top = max(top, steps[i][0])
	}
	return top
}

// peakTables holds, for every number m of independent steps, the standard
// normal quantiles of their maximum at Levels.
type peakTables []Quantiles

func newPeakTables(horizon int) *peakTables {
	t := make(peakTables, max(horizon, 2)+1)
	for m := range t {
		for i, p := range Levels {
			t[m][i] = distuv.UnitNormal.Quantile(math.Pow(p, 1/float64(max(m, 1))))
		}
	}
	return &t
}

// overGaussian is 1/gaussian, where that is not 0.
var overGaussian = func() (out Quantiles) {
	for l := 1; l < len(gaussian); l++ {
		out[l] = 1 / gaussian[l]
	}
	return out
}()

// prior is the peak's distribution above top, as far as steps tell: when the
// spread does not grow with the horizon, the steps are as good as independent;
// when it grows like a random walk's, the maximum is that of about two.
func (t *peakTables) prior(steps []Quantiles, top float64) Quantiles {
	// The smallest that any level tells: a few large errors in the tail do not
	// say how far apart ordinary steps lie, nor does the gap between two levels of
	// demand say that a third one lies as far beyond.
	var sigma [maxHorizon]float64
	for h := range steps {
		q := &steps[h]
		s := (q[1] - q[0]) * overGaussian[1]
		for l := 2; l < len(q); l++ {
			if wide := (q[l] - q[0]) * overGaussian[l]; wide < s {
				s = wide
			}
		}
		sigma[h] = s
	}
	n := len(steps)
	first, last := sigma[0], sigma[n-1]
	m := float64(n)
	if last > 0 {
		m = min(max(2, m*(first/last)*(first/last)), m)
	}
	m = min(max(m, 1), float64(len(*t)-1))
	var out Quantiles
	for i, z := range (*t)[int(m+0.5)] {
		highest := math.Inf(-1)
		for h := range steps {
			if v := steps[h][0] + sigma[h]*z - top; v > highest {
				highest = v
			}
		}
		out[i] = highest
	}
	return out
}
