package predict

import "math"

// ses is simple exponential smoothing. Several rates run side by side and the
// one with the smallest recent one-sample error speaks: a fit that costs a few
// multiplications a sample and follows a series whose nature changes.
//
// Brown 1959; in the notation of Hyndman, Koehler, Ord and Snyder 2008, ETS(A,N,N):
// l_t = l_(t-1) + alpha e_t, and e_(t+h) has variance s2 (1 + (h-1) alpha^2).
type ses struct {
	*spread
	n      int64
	levels [len(sesRates)]float64
	errs   [len(sesRates)]running // squared errors
}

var sesRates = [...]float64{0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9}

func newSES(s *series, lags []lag) *ses { return &ses{spread: newSpread(s, lags)} }

func (m *ses) Name() string { return "ses" }

func (m *ses) Observe(x float64) {
	if !math.IsNaN(x) {
		m.n++
		for i, rate := range sesRates {
			e := x - m.levels[i]
			if m.n > 1 {
				m.errs[i].addBounded(e*e, memory)
			}
			// The mean of what was seen, until the rate is the faster.
			m.levels[i] += max(rate, 1/float64(m.n)) * e
		}
	}
	m.ready = m.n > 0
	m.project()
	m.settle()
}

// project sets the points and the textbook spread of the best rate: the error
// n samples ahead has variance s2*(1+(n-1)*rate^2).
func (m *ses) project() {
	best := 0
	for i := range m.errs {
		if m.errs[i].mean*haste(sesRates[i], m.n) < m.errs[best].mean*haste(sesRates[best], m.n) {
			best = i
		}
	}
	s2, rate, k := m.errs[best].mean, sesRates[best], float64(m.s.perStep)
	for h := range m.points {
		m.points[h] = m.levels[best]
		m.sigma[h] = math.Sqrt(s2 * (1/k + (float64(h+1)*k-(k+1)/2)*rate*rate))
	}
}

// haste is the handicap of a fast rate while few samples are known: with 20 of
// them chance alone often favours one, and its spread grows with the horizon.
func haste(rate float64, n int64) float64 { return 1 + 10*rate*rate/float64(n+1) }

func (m *ses) Forecast(h int, dst []Quantiles) bool { return m.quantiles(dst[:h]) }
