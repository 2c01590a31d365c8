package predict

import "math"

// autoregressive is an AR(p) around the mean of its window, by Yule-Walker with
// the order of the smallest AIC, fitted anew every few samples: y_t - m =
// phi_1 (y_(t-1) - m) + .. + e_t, by the Levinson-Durbin recursion (Brockwell and
// Davis 1991, 5.2; Akaike 1974).
type autoregressive struct {
	*spread
	mean     float64
	phi      []float64
	variance float64 // of the one-sample error
	scale    []float64
	filled   [arOrder]float64 // the last values, newest first, gaps filled by forecasts
	n        int64
	behind   bool // points and spread are not for the last sample
}

const (
	arOrder   = 16  // highest order
	arRefit   = 16  // samples between fits
	arLeast   = 32  // samples needed for a fit
	fitWindow = 512 // samples that a fit looks back on
)

func newAR(s *series, lags []lag) *autoregressive {
	return &autoregressive{spread: newSpread(s, lags), scale: make([]float64, s.horizon)}
}

func (m *autoregressive) Name() string { return "ar" }

func (m *autoregressive) Observe(x float64) {
	if math.IsNaN(x) {
		x = m.next(m.filled[:])
	}
	copy(m.filled[1:], m.filled[:arOrder-1])
	m.filled[0] = x
	m.n++
	if m.s.observed >= arLeast && m.n%arRefit == 0 {
		m.refit()
	}
	m.behind = true
	if m.s.whole() {
		m.catchUp()
		m.settle()
	}
}

// catchUp sets points and spread for the last sample.
func (m *autoregressive) catchUp() {
	if m.behind && m.ready {
		m.project()
	}
	m.behind = false
}

// next is the forecast for the sample after the past, newest first.
func (m *autoregressive) next(past []float64) float64 {
	y := m.mean
	for i, phi := range m.phi {
		y += phi * (past[i] - m.mean)
	}
	return y
}

func (m *autoregressive) refit() {
	gamma, mean, n := autocovariance(m.s.past(fitWindow), arOrder)
	if n < arLeast {
		return
	}
	m.mean = mean
	m.phi, m.variance = yuleWalker(gamma, n)
	m.ready = true
	m.rescale()
}

// rescale works out how far step means stray from the forecast.
func (m *autoregressive) rescale() {
	span := m.s.horizon * m.s.perStep
	psi := make([]float64, span)
	for j := range psi {
		if j == 0 {
			psi[j] = 1
		}
		for i, phi := range m.phi {
			if j > i {
				psi[j] += phi * psi[j-i-1]
			}
		}
	}
	stepErrors(psi, m.s.perStep, m.scale)
}

// stepErrors sets out[h] to the standard deviation of the error of the mean of
// step h+1, in units of the one-sample error; psi are the weights with which an
// error enters the samples after it.
func stepErrors(psi []float64, perStep int, out []float64) {
	sums := make([]float64, len(psi)+1)
	for j, v := range psi {
		sums[j+1] = sums[j] + v
	}
	for h := range out {
		var variance float64
		last := (h + 1) * perStep
		for j := range last { // the error of sample j+1 after now
			from := max(j, last-perStep)
			w := (sums[last-j] - sums[from-j]) / float64(perStep)
			variance += w * w
		}
		out[h] = math.Sqrt(variance)
	}
}

func (m *autoregressive) project() {
	k := m.s.perStep
	path := make([]float64, arOrder+len(m.points)*k)
	n := len(path)
	copy(path[n-arOrder:], m.filled[:]) // newest first, growing to the front
	sd := math.Sqrt(m.variance)
	for h := range m.points {
		var sum float64
		for i := range k {
			at := n - arOrder - h*k - i - 1
			path[at] = m.next(path[at+1:])
			sum += path[at]
		}
		m.points[h] = min(max(0, sum/float64(k)), limit)
		m.sigma[h] = sd * m.scale[h]
	}
}

func (m *autoregressive) Forecast(h int, dst []Quantiles) bool {
	m.catchUp()
	return m.quantiles(dst[:h])
}

// autocovariance of x about its mean at lags 0..most, with the divisor n that
// keeps the Yule-Walker process stationary. Missing values are left out.
func autocovariance(x []float64, most int) (gamma []float64, mean float64, n int) {
	for _, v := range x {
		if !math.IsNaN(v) {
			mean += v
			n++
		}
	}
	gamma = make([]float64, most+1)
	if n == 0 {
		return gamma, 0, 0
	}
	mean /= float64(n)
	for lag := range gamma {
		var sum float64
		for t := lag; t < len(x); t++ {
			if d := (x[t] - mean) * (x[t-lag] - mean); !math.IsNaN(d) {
				sum += d
			}
		}
		gamma[lag] = sum / float64(n)
	}
	return gamma, mean, n
}

// yuleWalker solves for the coefficients by Levinson and Durbin, order by
// order, and returns those of the order with the smallest AIC, with the error
// variance for n samples; as R's ar.yw does.
func yuleWalker(gamma []float64, n int) (phi []float64, variance float64) {
	variance = gamma[0]
	if variance <= 0 {
		return nil, 0
	}
	best := math.Log(variance)
	at := variance * float64(n) / float64(n-1)
	v := variance
	var now []float64
	for p := 1; p < len(gamma) && p < n-1; p++ {
		num := gamma[p]
		for i, a := range now {
			num -= a * gamma[p-i-1]
		}
		k := num / v
		if !(math.Abs(k) < 1) {
			break
		}
		grown := make([]float64, p)
		for i, a := range now {
			grown[i] = a - k*now[p-i-2]
		}
		grown[p-1] = k
		now = grown
		v *= 1 - k*k
		if v <= 1e-12*gamma[0] {
			break
		}
		if aic := math.Log(v) + 2*float64(p)/float64(n); aic < best {
			best, phi, at = aic, now, v*float64(n)/float64(n-p-1)
		}
	}
	return phi, at
}

func (m *autoregressive) state(c *codec) {
	m.spread.state(c)
	m.behind = m.behind || c.reading
	c.number(&m.mean)
	c.positive(&m.variance)
	n := len(m.phi)
	c.int(&n, arOrder)
	if c.reading {
		m.phi = make([]float64, n)
	}
	c.numbers(m.phi)
	c.numbers(m.filled[:])
	c.int64(&m.n, maxCount)
	if c.reading {
		m.rescale()
		for _, v := range m.scale {
			if !(v <= limit) {
				c.fail("coefficients grow without bound")
				return
			}
		}
	}
}
