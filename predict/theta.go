package predict

import "math"

// theta is exponential smoothing with half of the recent drift: the theta
// method of Assimakopoulos and Nikolopoulos (2000) in the form of Hyndman and
// Billah (2003), with the slope fitted to a window that forgets instead of to
// the whole past: l_t + h b/2, l_t the level of ses and b the slope. That form's
// constant, b/2 (1/alpha - 1), is left out: it matters at slow rates alone, which
// series with a drift do not choose.
type theta struct {
	*spread
	base ses // its levels and errors; its own forecasts are not used
	fit  slope
}

func newTheta(s *series, lags []lag) *theta {
	return &theta{spread: newSpread(s, lags), base: ses{spread: newSpread(s, nil)}}
}

func (m *theta) Name() string { return "theta" }

func (m *theta) Observe(x float64) {
	m.base.Observe(x)
	m.fit.add(x, math.Exp(-1/float64(2*memory)))
	m.ready = m.base.ready
	drift := m.fit.slope() / 2
	k := float64(m.s.perStep)
	for h := range m.points {
		ahead := float64(h+1)*k - (k-1)/2
		m.points[h] = max(0, m.base.points[h]+drift*ahead)
		m.sigma[h] = m.base.sigma[h]
	}
	m.settle()
}

func (m *theta) Forecast(h int, dst []Quantiles) bool { return m.quantiles(dst[:h]) }

// slope is a least-squares line whose past fades; the time of the last sample
// is 0. Its sums are about the last value, so that they stay well conditioned.
type slope struct{ n, t, tt, x, tx, last float64 }

func (s *slope) add(x, keep float64) {
	// One sample later every time is one less.
	s.tt += s.n - 2*s.t
	s.tx -= s.x
	s.t -= s.n
	if math.IsNaN(x) {
		return
	}
	// Move the sums to the new origin x.
	d := s.last - x
	s.tx += d * s.t
	s.x += d * s.n
	s.last = x
	for _, v := range []*float64{&s.n, &s.t, &s.tt, &s.x, &s.tx} {
		*v *= keep
	}
	s.n++
}

func (s *slope) slope() float64 {
	det := s.n*s.tt - s.t*s.t
	if s.n < 5 || det <= 1e-9*s.n*s.tt {
		return 0
	}
	return (s.n*s.tx - s.t*s.x) / det
}

func (m *theta) state(c *codec) {
	m.spread.state(c)
	m.base.state(c)
	f := &m.fit
	c.positive(&f.n, &f.tt, &f.last)
	c.number(&f.t, &f.x, &f.tx)
}
