package predict

import "math"

// holt is exponential smoothing with a damped trend, over a grid of rates of
// which the one with the smallest recent one-sample error speaks.
//
// Gardner and McKenzie 1985; ETS(A,Ad,N) of Hyndman, Koehler, Ord and Snyder 2008:
// l_t = l_(t-1) + phi b_(t-1) + alpha e_t, b_t = phi b_(t-1) + alpha beta e_t, with
// the forecast l_t + (phi + .. + phi^h) b_t.
type holt struct {
	*spread
	n     int64
	cells []holtCell
}

type holtCell struct {
	level, trend float64
	err          running // squared errors
	alpha, beta  float64 // rates of level and trend
	phi          float64 // what remains of the trend after a sample
	reach        float64 // weight that an error has at the end of the horizon
}

func newHolt(s *series, lags []lag) *holt {
	m := &holt{spread: newSpread(s, lags)}
	span := float64(s.perStep * s.horizon)
	for _, alpha := range []float64{0.1, 0.3, 0.6, 0.9} {
		for _, beta := range []float64{0.05, 0.15, 0.4} {
			for _, halfLife := range []float64{span / 6, span / 2} {
				phi := math.Exp2(-1 / max(halfLife, 1))
				reach := alpha * (1 + beta*phi*(1-math.Pow(phi, span))/(1-phi))
				m.cells = append(m.cells, holtCell{alpha: alpha, beta: beta, phi: phi, reach: reach})
			}
		}
	}
	return m
}

func (m *holt) Name() string { return "holt" }

func (m *holt) Observe(x float64) {
	if !math.IsNaN(x) {
		m.n++
	}
	for i := range m.cells {
		m.cells[i].observe(x, m.n)
	}
	m.ready = m.n > 1
	m.project()
	m.settle()
}

// observe moves the cell on by one sample; without a value it moves along its
// own trend.
func (c *holtCell) observe(x float64, n int64) {
	if n == 0 {
		return
	}
	if n == 1 && !math.IsNaN(x) {
		c.level, c.trend = x, 0
		return
	}
	c.trend *= c.phi
	c.level += c.trend
	if math.IsNaN(x) {
		return
	}
	e := x - c.level
	a := max(c.alpha, 1/float64(n))
	c.level += a * e
	if c.err.n >= 8 { // a jump moves the level, and is no trend
		bound := 3 * math.Sqrt(c.err.mean)
		c.trend += a * c.beta * min(max(e, -bound), bound)
	} else {
		c.trend += a * c.beta * e
	}
	c.err.addBounded(e*e, memory)
}

// merit is the recent error, with a handicap for cells whose errors reach far
// while few samples are known.
func (c *holtCell) merit(n int64) float64 {
	return c.err.mean * (1 + 5*c.reach/float64(n+1))
}

// project sets the points, averaged over each step, and the textbook spread:
// an error enters the forecast n samples ahead with weight
// alpha*(1+beta*(phi+...+phi^n)).
func (m *holt) project() {
	best := &m.cells[0]
	for i := range m.cells {
		if m.cells[i].merit(m.n) < best.merit(m.n) {
			best = &m.cells[i]
		}
	}
	damp, sum, variance := 1.0, 0.0, 0.0
	k := m.s.perStep
	for h := range m.points {
		var mean, spread float64
		for range k {
			damp *= best.phi
			sum += damp
			mean += best.level + sum*best.trend
			spread += variance
			c := best.alpha * (1 + best.beta*sum)
			variance += c * c
		}
		m.points[h] = max(0, mean/float64(k))
		m.sigma[h] = math.Sqrt(best.err.mean * (1/float64(k) + spread/float64(k)))
	}
}

func (m *holt) Forecast(h int, dst []Quantiles) bool { return m.quantiles(dst[:h]) }
