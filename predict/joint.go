package predict

import (
	"math"
	"slices"
)

// Joint calibrates the forecast of a sum on the sums that were observed, as a
// Forecaster calibrates its own: how high the peak of a sum stands above its
// highest median depends on which series peak together, and that no combination
// of single forecasts knows. One goroutine at a time may use it.
type Joint struct {
	config   Config
	series   *series
	lags     []lag
	peak     *peakCalibration
	given    *card
	conform  conformal
	coverage [2]running // of steps and peak
}

// jointTrust is how much one past peak of the sum counts, against one of a single
// series: here the expected distribution already rests on the past peaks of each.
const jointTrust = 0.25

// NewJoint makes a Joint for forecasts of c's Sample, Step and Horizon; errors as
// of New. Make another one when series join the sum or leave it.
func NewJoint(c Config) (*Joint, error) {
	c, err := c.normal()
	if err != nil {
		return nil, err
	}
	c.Season, c.LSTM = 0, false
	lags := lagsFor(c)
	return &Joint{config: c, series: newSeries(c), lags: lags, given: newCard(lags),
		peak: newPeakCalibration(lags[len(lags)-1])}, nil
}

// Observe takes the sum just observed, NaN when it is missing, and next, the
// forecast that Sum gives after it, and returns next calibrated: the peak from
// past peaks of the sum, the more so the more were seen, and coverage held as
// Forecaster holds it. Forecasts of other steps, or without any, come back as
// they are.
func (j *Joint) Observe(sum float64, next Forecast) Forecast {
	if !(sum >= 0 && sum <= limit) {
		sum = math.NaN()
	}
	j.series.push(sum)
	j.settle()
	t := j.series.t
	j.peak.learn(t, j.series.peak())
	if next.Step != j.config.Step || len(next.Steps) != j.config.Horizon || !next.Peak.Known() {
		j.peak.issue(t, math.NaN())
		j.given.issue(t, nil, Quantiles{}, false)
		return next
	}
	top := highest(next.Steps)
	j.peak.issue(t, top)
	out := next
	out.Steps, out.Method = slices.Clone(next.Steps), next.Method+"+joint"
	for i := range out.Peak {
		out.Peak[i] -= top
	}
	out.Peak = j.peak.seen.blend(out.Peak, jointTrust*j.peak.lag.independent())
	for i := range out.Peak {
		out.Peak[i] += top
	}
	out.Peak.tidy()
	j.conform.apply(forPeak, &out.Peak)
	for h := range out.Steps {
		j.conform.apply(forSteps, &out.Steps[h])
		out.Peak.upper(&out.Steps[h])
	}
	j.given.issue(t, out.Steps, out.Peak, true)
	out.Coverage, out.PeakCoverage = j.covered(forSteps), j.covered(forPeak)
	return out
}

// settle learns from every forecast that falls due with the sum just pushed.
func (j *Joint) settle() {
	for a, l := range j.given.lags {
		y, what := j.series.mean(0), forSteps
		if a == len(j.lags) {
			y, what = j.series.peak(), forPeak
		}
		q, ok := j.given.due(a, j.series.t)
		if !ok || math.IsNaN(y) {
			continue
		}
		j.conform.settle(what, &q, y, l.independent())
		held := 0.0
		if y <= q[3] {
			held = 1
		}
		j.coverage[what].add(held, coverageMemory)
	}
}

// covered is the trailing share at or below q0.95; NaN until known.
func (j *Joint) covered(what int) float64 {
	if j.coverage[what].n < minCovered {
		return math.NaN()
	}
	return j.coverage[what].mean
}
