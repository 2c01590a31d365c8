package predict

import "math"

// naive expects that nothing changes: the last step mean, spread by the
// changes that were really seen over each horizon. Every other member must beat
// it. The random walk of Hyndman and Athanasopoulos (Forecasting: Principles and
// Practice, 5.2), y_(t+h) = y_t, with the conformal quantile (rank p(n+1)) of the
// errors seen instead of a normal one.
type naive struct {
	*spread
	last float64    // last known step mean
	step [2]running // squared change over one and over two steps
}

func newNaive(s *series, lags []lag) *naive {
	return &naive{spread: newSpread(s, lags), last: math.NaN()}
}

func (m *naive) Name() string { return "naive" }

func (m *naive) Observe(float64) {
	if y := m.s.mean(0); !math.IsNaN(y) {
		m.last = y
		for i := range m.step {
			if d := y - m.s.mean((i+1)*m.s.perStep); !math.IsNaN(d) {
				m.step[i].addBounded(d*d, memory)
			}
		}
	}
	m.ready = !math.IsNaN(m.last)
	if m.ready {
		m.project()
	}
	m.settle()
}

// project sets the points and their spread before any errors are known.
func (m *naive) project() {
	// Noise does not grow with the horizon, a random walk does: what two steps
	// change more than one tells which it is.
	v, growth := m.step[0].mean, m.step[0].mean
	if m.step[1].n > 0 {
		growth = min(max(0, m.step[1].mean-v), v)
	}
	for h := range m.points {
		m.points[h] = m.last
		m.sigma[h] = math.Sqrt(v + growth*float64(h))
	}
}

func (m *naive) Forecast(h int, dst []Quantiles) bool { return m.quantiles(dst[:h]) }

// memory is the number of samples over which error variances are averaged.
const memory = 100
