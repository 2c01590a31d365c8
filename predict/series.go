package predict

import "math"

// series is the recent past that all members share: the samples, and the
// sliding mean over one step, which is the quantity that is forecast.
type series struct {
	perStep, horizon  int
	t                 int64     // samples seen, missing ones included
	x, y              []float64 // rings of samples and of step means
	observed, missing int64
	gap               int // samples missing in a row, up to now
}

func newSeries(c Config) *series {
	means := c.span() + 1
	if c.LSTM { // it trains on what it could have known a horizon ago
		means += lstmSteps * c.perStep()
	}
	s := &series{perStep: c.perStep(), horizon: c.Horizon,
		x: make([]float64, max(fitWindow, c.perStep())), y: make([]float64, means)}
	for _, ring := range [][]float64{s.x, s.y} {
		for i := range ring {
			ring[i] = math.NaN()
		}
	}
	return s
}

// push takes the next sample; NaN is missing. The step mean stands when at
// least half of its samples are there.
func (s *series) push(x float64) {
	s.t++
	s.x[s.t%int64(len(s.x))] = x
	if math.IsNaN(x) {
		s.missing++
		s.gap++
	} else {
		s.observed++
		s.gap = 0
	}
	var sum float64
	var n int
	for back := range s.perStep {
		if v := s.sample(back); !math.IsNaN(v) {
			sum += v
			n++
		}
	}
	y := math.NaN()
	if n > 0 && 2*n >= s.perStep {
		y = min(sum/float64(n), limit) // rounding may pass it
	}
	s.y[s.t%int64(len(s.y))] = y
}

// whole says that a step ends with the last sample. Forecasts are put under way
// and scored then: the strides of all lags are multiples of a step.
func (s *series) whole() bool { return s.t%int64(s.perStep) == 0 }

// sample is the value seen back samples ago; NaN when missing.
func (s *series) sample(back int) float64 { return s.x[ringIndex(s.t-int64(back), len(s.x))] }

// mean is the step mean that ended back samples ago.
func (s *series) mean(back int) float64 { return s.y[ringIndex(s.t-int64(back), len(s.y))] }

func ringIndex(t int64, n int) int { return int((t%int64(n) + int64(n)) % int64(n)) }

// past is the last samples in order of time, at most most of them.
func (s *series) past(most int) []float64 {
	n := int(min(int64(most), s.t, int64(len(s.x))))
	out := make([]float64, n)
	for i := range out {
		out[i] = s.sample(n - 1 - i)
	}
	return out
}

// peak is the highest step mean of the horizon that ends now. It is unknown
// when more than a quarter of its steps are missing.
func (s *series) peak() float64 {
	best, n := math.Inf(-1), 0
	for h := range s.horizon {
		if v := s.mean(h * s.perStep); !math.IsNaN(v) {
			best = max(best, v)
			n++
		}
	}
	if n == 0 || 4*n < 3*s.horizon {
		return math.NaN()
	}
	return best
}

// lag is a horizon at which forecasts are compared with what happened. One
// forecast in stride samples is kept, a step's at least: overlapping outcomes teach
// little, and the rings stay small.
type lag struct{ steps, samples, stride int }

func newLag(steps, perStep int) lag {
	l := lag{steps: steps, samples: steps * perStep, stride: perStep}
	for d := 2 * perStep; d <= l.samples/5; d += perStep {
		if l.samples%d == 0 {
			l.stride = d
		}
	}
	return l
}

// slots is the size of the ring that holds the forecasts under way.
func (l lag) slots() int { return l.samples / l.stride }

// slot is the place of the forecast that falls due at t and of the one that is
// issued at t; ok is false when neither is.
func (l lag) slot(t int64) (i int, ok bool) {
	if t%int64(l.stride) != 0 {
		return 0, false
	}
	return int(t / int64(l.stride) % int64(l.slots())), true
}

// independent is how much one outcome counts, given that its horizon overlaps
// with its neighbours'.
func (l lag) independent() float64 { return float64(l.stride) / float64(l.samples) }

// lagsFor picks the horizons that are scored: dense at the start, where
// feedback is fast, then about every factor 1.6.
func lagsFor(c Config) []lag {
	var out []lag
	for h := 1; h < c.Horizon; h = max(h+1, h*8/5) {
		out = append(out, newLag(h, c.perStep()))
	}
	return append(out, newLag(c.Horizon, c.perStep()))
}
