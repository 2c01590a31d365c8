package predict

import (
	"errors"
	"fmt"
	"math"
)

// ErrShortSeries says that a series is too short to be scored.
var ErrShortSeries = errors.New("predict: series too short to score")

// Selected is the name under which Backtest reports the forecast that the
// Forecaster gives out.
const Selected = "selected"

// Score sums up how forecasts of one method did against what happened. The
// zero Score is empty; read its means through the methods.
type Score struct {
	// Name is the method's.
	Name string
	// Unit is the mean absolute one-step change of the training part, the
	// denominator of MASE (Hyndman and Koehler 2006), in the series' unit.
	Unit float64
	// Steps and Peaks count the outcomes scored.
	Steps, Peaks int

	absolute, squared, pin, pin95, held float64
	peakPin95, peakHeld                 float64
}

// Add scores one forecast of len(truth) steps. Missing outcomes are passed
// over; the peak counts when no outcome is missing.
func (s *Score) Add(steps []Quantiles, peak Quantiles, truth []float64) {
	top, whole := math.Inf(-1), true
	for h, y := range truth {
		if math.IsNaN(y) {
			whole = false
			continue
		}
		q := &steps[h]
		s.Steps++
		s.absolute += abs(y - q[0])
		s.squared += (y - q[0]) * (y - q[0])
		s.pin += pinball(q, y)
		s.pin95 += quantileLoss(Levels[3], q[3], y)
		if y <= q[3] {
			s.held++
		}
		top = max(top, y)
	}
	if whole && peak.Known() {
		s.Peaks++
		s.peakPin95 += quantileLoss(Levels[3], peak[3], top)
		if top <= peak[3] {
			s.peakHeld++
		}
	}
}

// quantileLoss is the loss of quantile q at level p when y happened.
func quantileLoss(p, q, y float64) float64 { return max(p*(y-q), (p-1)*(y-q)) }

// MASE is the mean absolute error of the median over Unit; NaN when Unit is 0.
func (s *Score) MASE() float64 { return s.MAE() / s.Unit }

// MAE is the mean absolute error of the median, in the series' unit.
func (s *Score) MAE() float64 { return s.absolute / float64(s.Steps) }

// RMSE is the root mean squared error of the median, in the series' unit.
func (s *Score) RMSE() float64 { return math.Sqrt(s.squared / float64(s.Steps)) }

// Pinball is the mean pinball loss over Levels, in the series' unit.
func (s *Score) Pinball() float64 { return s.pin / float64(s.Steps) }

// Pin95 is the mean pinball loss of the 0.95 quantile, in the series' unit.
func (s *Score) Pin95() float64 { return s.pin95 / float64(s.Steps) }

// Coverage is the share of outcomes at or below their 0.95 quantile.
func (s *Score) Coverage() float64 { return s.held / float64(s.Steps) }

// PeakPin95 is Pin95 of the peak over the horizon.
func (s *Score) PeakPin95() float64 { return s.peakPin95 / float64(s.Peaks) }

// PeakCoverage is Coverage of the peak over the horizon.
func (s *Score) PeakCoverage() float64 { return s.peakHeld / float64(s.Peaks) }

// Backtest runs a Forecaster over x, one value per Config.Sample, NaN where
// missing, and scores the forecast given out and each member's at the origins
// from, from+every, ... as long as a whole horizon of x follows: rolling origin
// evaluation (Tashman 2000), in which no forecast sees what it is scored on.
// The first Score is Selected's; a member that has nothing to say at an origin
// is scored by naive's forecast there, so that all rows count the same
// outcomes. each, when not nil, is shown every forecast that is scored and the
// index of the sample after which it was made. Errors: ErrShortSeries, or what
// New refuses.
func Backtest(c Config, x []float64, from, every int, each func(at int, f Forecast)) ([]Score, error) {
	f, err := New(c)
	if err != nil {
		return nil, err
	}
	c = f.Config()
	if from < 1 || every < 1 || from+c.span() > len(x) {
		return nil, fmt.Errorf("%w: %d samples, want %d before the first forecast and %d after it", ErrShortSeries, len(x), from, c.span())
	}
	scores := make([]Score, len(f.members)+1)
	scores[0].Name = Selected
	for i, m := range f.members {
		scores[i+1].Name = m.Name()
	}
	means := stepMeans(x, c.perStep())
	unit := meanChange(means[:from], c.perStep())
	for i := range scores {
		scores[i].Unit = unit
	}
	truth := make([]float64, c.Horizon)
	for i, v := range x {
		f.Observe(v)
		seen := i + 1
		if seen < from || (seen-from)%every != 0 || seen+c.span() > len(x) {
			continue
		}
		for h := range truth {
			truth[h] = means[i+(h+1)*c.perStep()]
		}
		f.score(scores, truth)
		if each != nil {
			each(i, f.Forecast())
		}
	}
	if scores[0].Steps == 0 {
		return nil, fmt.Errorf("%w: nothing was forecast", ErrShortSeries)
	}
	return scores, nil
}

// score adds the present forecasts: the one given out, then the members'.
func (f *Forecaster) score(scores []Score, truth []float64) {
	for i := range f.members { // those that are off too
		f.ask(i)
	}
	f.combine()
	if !f.outOK || !f.known[0] {
		return
	}
	scores[0].Add(f.out, f.outTop, truth)
	for i := range f.members {
		of := i
		if !f.known[i] {
			of = 0
		}
		scores[i+1].Add(f.steps[of], f.peak[of], truth)
	}
}

// stepMeans is the mean over the step that ends at each sample, as series
// computes it.
func stepMeans(x []float64, perStep int) []float64 {
	out := make([]float64, len(x))
	s := newSeries(Config{Sample: 1, Step: 1, Horizon: 1})
	s.perStep = perStep
	for i, v := range x {
		s.push(v)
		out[i] = s.mean(0)
	}
	return out
}

// meanChange is the mean absolute change over one step.
func meanChange(y []float64, perStep int) float64 {
	var sum float64
	n := 0
	for i := perStep; i < len(y); i++ {
		if d := abs(y[i] - y[i-perStep]); !math.IsNaN(d) {
			sum += d
			n++
		}
	}
	return sum / float64(n)
}
