package predict

import (
	"fmt"
	"math"
	"slices"
)

// Joint calibrates the forecast of a sum on the sums that were observed, as a
// Forecaster calibrates its own: how high the peak of a sum stands above its
// highest median depends on which series peak together, and that no combination
// of single forecasts knows. One goroutine at a time may use it.
//
// For the peak it listens to three experts and weighs them level by level by how
// they did lately: prediction with expert advice (Cesa-Bianchi and Lugosi 2006), by
// the pinball loss (Koenker and Bassett 1978). None is the best on every host, and
// the errors of experts that rest on different things cancel.
type Joint struct {
	config   Config
	parts    []*series
	sum      *series
	lags     []lag
	above    *peakCalibration // of past peaks above the highest median forecast
	past     *peakCalibration // of past peaks as they were
	experts  [experts]*card
	given    *card
	conform  conformal
	coverage [2]running // of steps and peak
}

// The experts of the peak.
const (
	byForecast = iota // the highest median, and how far above it past peaks lay
	byPast            // the peaks of the last hours
	byParts           // every series at the highest of its last horizon, all at once
	experts
)

// NewJoint makes a Joint for the sum of n series and forecasts of c's Sample, Step
// and Horizon; errors as of New, and when n is not positive. Make another one when
// series join the sum or leave it.
func NewJoint(c Config, n int) (*Joint, error) {
	c, err := c.normal()
	if err != nil {
		return nil, err
	}
	if n < 1 {
		return nil, fmt.Errorf("predict: a sum of %d series", n)
	}
	c.Season, c.LSTM = 0, false
	lags := lagsFor(c)
	last := lags[len(lags)-1]
	j := &Joint{config: c, sum: newSeries(c), lags: lags, given: newCard(lags),
		above: newPeakCalibration(last), past: newPeakCalibration(last)}
	for range n {
		j.parts = append(j.parts, newSeries(c))
	}
	for i := range j.experts {
		j.experts[i] = newCard([]lag{last})
	}
	return j, nil
}

// Observe takes the values just observed of all series, NaN where one is missing,
// and next, the forecast that Sum gives after it, and returns next calibrated: the
// peak by the experts, the more so the more peaks were seen, and coverage held as
// Forecaster holds it. Forecasts of other steps, or without any, come back as they
// are. Values of another number of series count as missing.
func (j *Joint) Observe(values []float64, next Forecast) Forecast {
	j.push(values)
	j.settle()
	t, peak := j.sum.t, j.sum.peak()
	j.above.learn(t, peak)
	j.past.learn(t, peak)
	if next.Step != j.config.Step || len(next.Steps) != j.config.Horizon || !next.Peak.Known() {
		j.issue(t, math.NaN(), [experts]Quantiles{}, Forecast{})
		return next
	}
	top := highest(next.Steps)
	advice := j.advise(top, next.Peak)
	out := next
	out.Steps, out.Method = slices.Clone(next.Steps), next.Method+"+joint"
	out.Peak = j.weigh(&advice)
	j.conform.apply(forPeak, &out.Peak)
	for h := range out.Steps {
		j.conform.apply(forSteps, &out.Steps[h])
		out.Peak.upper(&out.Steps[h])
	}
	j.issue(t, top, advice, out)
	out.Coverage, out.PeakCoverage = j.covered(forSteps), j.covered(forPeak)
	return out
}

// push takes the values; the sum is missing when one of them is.
func (j *Joint) push(values []float64) {
	sum := 0.0
	for i, p := range j.parts {
		v := math.NaN()
		if len(values) == len(j.parts) && values[i] >= 0 && values[i] <= limit {
			v = values[i]
		}
		p.push(v)
		sum += v
	}
	j.sum.push(sum)
}

// advise asks the experts for the peak, given its forecast.
func (j *Joint) advise(top float64, forecast Quantiles) (advice [experts]Quantiles) {
	over := forecast
	together := 0.0
	for i := range over {
		over[i] -= top
	}
	for _, p := range j.parts {
		together += p.peak()
	}
	advice[byForecast] = j.above.above(top, over)
	advice[byPast] = j.past.above(0, forecast)
	for i := range advice[byParts] {
		advice[byParts][i] = together
	}
	return advice
}

// weigh is the mean of what the experts say, level by level, each weighed by the
// inverse square of its trailing loss. That is flatter than among the members of a
// Forecaster: peaks are few, and which expert was the best lately says little. Who
// was not scored yet, or has nothing to say, does not weigh.
func (j *Joint) weigh(advice *[experts]Quantiles) (out Quantiles) {
	for l := range out {
		var total float64
		for i, q := range advice {
			if i != byForecast && (j.experts[i].weight < minScored || !q.Known()) {
				continue
			}
			loss := max(j.experts[i].relative(forPeak, l), 0.05)
			out[l] += q[l] / (loss * loss)
			total += 1 / (loss * loss)
		}
		out[l] /= total
	}
	out.tidy()
	return out
}

// issue puts under way what is given out after t, and what it is made of.
func (j *Joint) issue(t int64, top float64, advice [experts]Quantiles, out Forecast) {
	ok := len(out.Steps) > 0
	j.above.issue(t, top)
	j.past.issue(t, 0)
	for i, c := range j.experts {
		c.issue(t, out.Steps, advice[i], ok)
	}
	j.given.issue(t, out.Steps, out.Peak, ok)
}

// settle learns from every forecast that falls due with the sum just pushed.
func (j *Joint) settle() {
	j.score()
	for a, l := range j.given.lags {
		y, what := j.sum.mean(0), forSteps
		if a == len(j.lags) {
			y, what = j.sum.peak(), forPeak
		}
		q, ok := j.given.due(a, j.sum.t)
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

// score takes the losses of the experts when their peaks fall due.
func (j *Joint) score() {
	if !j.sum.whole() {
		return
	}
	t, peak, stride := j.sum.t, j.sum.peak(), float64(j.above.lag.stride)
	base, _ := j.experts[byForecast].due(1, t)
	for _, c := range j.experts {
		c.fade(math.Exp2(-1 / float64(trailing*j.config.Horizon)))
		if q, ok := c.due(1, t); ok && !math.IsNaN(peak) {
			c.add(pinball(&q, peak), pinball(&base, peak), stride)
			c.addLevels(forPeak, &q, &base, peak, stride)
		}
	}
}

// covered is the trailing share at or below q0.95; NaN until known.
func (j *Joint) covered(what int) float64 {
	if j.coverage[what].n < minCovered {
		return math.NaN()
	}
	return j.coverage[what].mean
}
