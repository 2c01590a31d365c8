package predict

import (
	"math"
	"time"
)

// arimaMember runs an ARIMA whose order and parameters are looked for beside
// the observations, a model now and then, so that no single sample is
// ever expensive. Until the first search is over it has nothing to say.
//
// phi(B) (1-B)^d y_t = c + theta(B) e_t, by the Kalman filter's exact likelihood
// (see FitARIMA) and the order search of Hyndman and Khandakar (2008).
type arimaMember struct {
	*spread
	units  int   // of work on a search at a time
	every  int64 // samples between
	fitted bool
	model  arima
	filter filter
	time   int // of the next value, for the drift
	since  int // samples since the model was found
	seen   int // samples when it was
	search *selection
	worked int // units of it done
	scale  []float64
	behind bool // points and spread are not for the last sample
}

const (
	memberMost  = 3    // highest p and q: higher ones cost time at every forecast
	arimaWindow = 256  // samples that a fit looks back on
	arimaStart  = 64   // samples before the first fit
	arimaAgain  = 2048 // samples between fits at most; at first as many as were seen
)

func newARIMA(c Config, s *series, lags []lag) *arimaMember {
	// Some 50 us each: one for every twenty seconds between samples.
	m := &arimaMember{spread: newSpread(s, lags), scale: make([]float64, s.horizon), every: 1,
		units: int(min(max(c.Sample/(20*time.Second), 1), 20))}
	if c.Sample < 20*time.Second {
		m.every = int64(20 * time.Second / max(c.Sample, 20*time.Millisecond))
	}
	return m
}

func (m *arimaMember) Name() string { return "arima" }

func (m *arimaMember) Observe(x float64) {
	if m.fitted {
		m.filter.observe(x - m.model.trend(m.time))
		m.time++
		m.since++
	}
	if m.search == nil && m.s.observed >= arimaStart && (!m.fitted || m.since >= min(arimaAgain, m.seen)) {
		m.search, m.worked = newSelection(m.s.past(arimaWindow), memberMost, false), 0
	}
	if m.search != nil && m.s.t%m.every == 0 {
		m.look()
	}
	m.behind = true
	if m.s.whole() {
		m.catchUp()
		m.settle()
	}
}

// look works on the search, and takes over the model it ends with.
func (m *arimaMember) look() {
	for range m.units {
		m.worked++
		if m.search.work() {
			m.adopt(m.search.found())
			m.search = nil
			return
		}
	}
}

// catchUp sets points and spread for the last sample.
func (m *arimaMember) catchUp() {
	if m.behind {
		m.ready = m.fitted && m.project()
	}
	m.behind = false
}

// adopt runs the model found over the present window, and goes on from there.
func (m *arimaMember) adopt(found arima) {
	m.since, m.seen = 0, int(m.s.t)
	if found.aicc >= limit {
		m.fitted = false
		return
	}
	x := m.s.past(arimaWindow)
	m.model, m.fitted = found, true
	m.restart()
	m.filter = m.model.likelihood(x)
	m.time = len(x) + 1
	m.rescale()
}

// rescale works out how far step means stray from the forecast: an innovation
// enters the samples after it as it moves through the states.
func (m *arimaMember) rescale() {
	k := newFilter(&m.model)
	k.a = k.impact
	psi := make([]float64, m.s.horizon*m.s.perStep)
	for j := range psi {
		psi[j] = k.predict()
		k.advance(&k.a)
	}
	stepErrors(psi, m.s.perStep, m.scale)
}

// project sets points and spread; false when the model has run away.
func (m *arimaMember) project() bool {
	k := m.filter
	sd := math.Sqrt(m.model.sigma2)
	at := m.time
	for h := range m.points {
		var sum float64
		for range m.s.perStep {
			sum += k.predict() + m.model.trend(at)
			k.advance(&k.a)
			at++
		}
		y := sum / float64(m.s.perStep)
		if !(math.Abs(y) <= limit) || !(m.scale[h]*sd <= limit) {
			m.points[h], m.sigma[h] = 0, 0
			return false
		}
		m.points[h] = max(0, y)
		m.sigma[h] = sd * m.scale[h]
	}
	return true
}

func (m *arimaMember) Forecast(h int, dst []Quantiles) bool {
	m.catchUp()
	return m.quantiles(dst[:h])
}

func (m *arimaMember) state(c *codec) {
	m.spread.state(c)
	m.behind = m.behind || c.reading
	c.bool(&m.fitted)
	c.int(&m.since, maxCount)
	c.int(&m.seen, maxCount)
	c.int(&m.time, maxCount)
	if m.fitted {
		m.model.state(c)
		if c.reading && !m.model.sound() {
			c.fail("a model that is not stationary")
			return
		}
		m.filter.state(c, &m.model)
		if c.reading {
			m.rescale()
		}
	}
	m.searchState(c)
}

// searchState keeps what a search under way looks at and how far it is: the same work
// on the same values leads to the same place.
func (m *arimaMember) searchState(c *codec) {
	searching := m.search != nil
	c.bool(&searching)
	if !searching {
		return
	}
	var x []float64
	if !c.reading {
		x = m.search.series
	}
	n := len(x)
	c.int(&n, arimaWindow)
	if c.reading {
		x = make([]float64, n)
	}
	c.demands(x)
	c.int(&m.worked, selectionMost*climbRounds)
	if !c.reading {
		return
	}
	m.search = newSelection(x, memberMost, false)
	for range m.worked {
		if m.search.work() {
			c.fail("a search that is over")
			return
		}
	}
}

func (o *order) state(c *codec) {
	c.int(&o.p, memberMost)
	c.int(&o.d, 2)
	c.int(&o.q, memberMost)
	c.bool(&o.constant)
}

func (m *arima) state(c *codec) {
	m.order.state(c)
	c.numbers(m.phi[:memberMost])
	c.numbers(m.theta[:memberMost])
	c.number(&m.constant, &m.loglik, &m.aicc)
	c.positive(&m.sigma2)
}

func (k *filter) state(c *codec, m *arima) {
	if c.reading {
		*k = newFilter(m)
	}
	c.numbers(k.a[:k.n])
	for i := range k.n {
		c.numbers(k.p[i][:k.n])
	}
	c.bool(&k.steady)
	k.weigh()
}
