package predict

import "math"

// squares is the conditional sum of squares of an ARMA: innovations start as zero
// after the first p values (Box and Jenkins 1970). By it auto.arima compares models of
// long series, and from its minimum climbs to the exact likelihood. Parameters are the
// AR and MA coefficients as they are, and the constant in units of ten of its standard
// errors: so R's arima sees them, and ends at the same minimum. A missing value is its
// own forecast.
type squares struct {
	order
	w    []float64 // differenced d times
	n    float64   // values after the first p, those missing left out
	unit float64   // of the constant
	// Of the last value call: the values less the constant and the innovations, each after
	// arimaMost zeros, and the sum of the squared ones.
	z, e []float64
	sum  float64
	// What the expected values weigh in that sum, before arimaMost zeros.
	weights []float64
}

// roundsOutside is for how many rounds in a row a climb may be where models are
// unsound: it seldom comes back, and R's goes on there for a hundred.
const roundsOutside = 12

// conditional fits a model of order o to w, the series differenced. Its constant,
// sigma2, loglik and aicc are those given the first values.
func conditional(o order, w []float64) arima {
	n := arimaMost + len(w)
	all := make([]float64, 3*n)
	s := &squares{order: o, w: w, z: all[:n], e: all[n : 2*n], weights: all[2*n:]}
	for t, v := range w {
		if t >= o.p && v == v {
			s.n++
		}
	}
	var start vector
	if o.constant {
		start[o.free()], s.unit = inErrors(w)
	}
	c := newClimber(s, o.params(), start, climbAsR)
	for outside := 0; outside < roundsOutside && !c.step(); outside++ {
		if m := s.model(&c.at, c.least); m.sound() {
			outside = 0
		}
	}
	return s.model(&c.at, c.least)
}

// inErrors is the mean of w, and its unit: ten of its standard errors.
func inErrors(w []float64) (mean, unit float64) {
	gamma, mean, n := autocovariance(w, 0)
	unit = 10 * math.Sqrt(gamma[0]/max(1, float64(n-1)))
	if unit == 0 {
		unit = 1
	}
	return mean / unit, unit
}

// model is the one at the parameters, where value is least.
func (s *squares) model(at *vector, least float64) arima {
	m := arima{order: s.order, loglik: -limit, aicc: limit, constant: s.mean(at)}
	copy(m.phi[:], at[:s.p])
	copy(m.theta[:], at[s.p:s.p+s.q])
	if s.n == 0 || !(least < limit) {
		return m
	}
	all := float64(len(s.w))
	m.sigma2 = max(math.Exp(2*least)/s.n, 1/(limit*limit)) // a constant has no innovations
	m.loglik = -0.5 * all * (math.Log(2*math.Pi*m.sigma2) + 1)
	m.inform(all)
	return m
}

func (s *squares) mean(at *vector) float64 {
	if !s.constant {
		return 0
	}
	return at[s.free()] * s.unit
}

// padded is the coefficients at the parameters; those beyond the order are zero.
func (s *squares) padded(at *vector) (phi, theta [arimaMost]float64) {
	copy(phi[:], at[:s.p])
	copy(theta[:], at[s.p:s.p+s.q])
	return phi, theta
}

// value is half of the logarithm of the sum of squares.
func (s *squares) value(at *vector) float64 {
	if s.low() {
		return s.lowValue(at)
	}
	return s.anyValue(at)
}

// gradient is that of value, at the parameters of the last call of it, by going
// through its steps backwards.
func (s *squares) gradient(at *vector) vector {
	if s.low() {
		return s.lowGradient(at)
	}
	return s.anyGradient(at)
}

// low says that there are no more than two AR and two MA coefficients, as in most of the
// models that a selection looks at: then their terms alone are summed, to the same digits
// as with the zeros.
func (s *squares) low() bool { return s.p <= 2 && s.q <= 2 }

func (s *squares) anyValue(at *vector) float64 {
	mean := s.mean(at)
	phi, theta := s.padded(at)
	var sum, last float64 // last: the innovation before
	for t, v := range s.w {
		z, e := (*[arimaMost + 1]float64)(s.z[t:]), (*[arimaMost + 1]float64)(s.e[t:])
		// What needs the last innovation comes last: the rest need not wait for it.
		expected := phi[4]*z[0] + phi[3]*z[1] + phi[2]*z[2] + phi[1]*z[3] + phi[0]*z[4] +
			theta[4]*e[0] + theta[3]*e[1] + theta[2]*e[2] + theta[1]*e[3]
		value, innovation := v-mean, 0.0
		if v != v {
			value = expected + theta[0]*last
		} else if t >= s.p {
			innovation = value - expected - theta[0]*last
			sum += innovation * innovation
		}
		z[arimaMost], e[arimaMost], last = value, innovation, innovation
	}
	s.sum = sum
	return 0.5 * math.Log(s.sum)
}

func (s *squares) anyGradient(at *vector) vector {
	phi, theta := s.padded(at)
	var p0, p1, p2, p3, p4, q0, q1, q2, q3, q4, mean, last float64
	for t := len(s.w) - 1; t >= 0; t-- {
		after := (*[arimaMost + 1]float64)(s.weights[t:])
		z, e := (*[arimaMost + 1]float64)(s.z[t:]), (*[arimaMost + 1]float64)(s.e[t:])
		value := phi[4]*after[5] + phi[3]*after[4] + phi[2]*after[3] + phi[1]*after[2] + phi[0]*last
		var expected float64
		if v := s.w[t]; v != v {
			expected = value
		} else if t < s.p {
			mean -= value
		} else {
			rest := e[5] + theta[4]*after[5] + theta[3]*after[4] + theta[2]*after[3] + theta[1]*after[2]
			expected = -rest - theta[0]*last
			mean -= value - expected
		}
		after[0], last = expected, expected
		p0, p1, p2, p3, p4 = p0+expected*z[4], p1+expected*z[3], p2+expected*z[2], p3+expected*z[1], p4+expected*z[0]
		q0, q1, q2, q3, q4 = q0+expected*e[4], q1+expected*e[3], q2+expected*e[2], q3+expected*e[1], q4+expected*e[0]
	}
	return s.slope([arimaMost]float64{p0, p1, p2, p3, p4}, [arimaMost]float64{q0, q1, q2, q3, q4}, mean)
}

func (s *squares) lowValue(at *vector) float64 {
	mean := s.mean(at)
	phi, theta := s.padded(at)
	z, e := s.z[arimaMost:][:len(s.w)], s.e[arimaMost:][:len(s.w)]
	var sum, last, before, near, far float64 // innovations, and values, one and two before
	for t, v := range s.w {
		expected := phi[1]*far + phi[0]*near + theta[1]*before
		value, innovation := v-mean, 0.0
		if v != v {
			value = expected + theta[0]*last
		} else if t >= s.p {
			innovation = value - expected - theta[0]*last
			sum += innovation * innovation
		}
		z[t], e[t] = value, innovation
		near, far, last, before = value, near, innovation, last
	}
	s.sum = sum
	return 0.5 * math.Log(s.sum)
}

func (s *squares) lowGradient(at *vector) vector {
	phi, theta := s.padded(at)
	var p0, p1, q0, q1, mean, last, before float64
	for t := len(s.w) - 1; t >= 0; t-- {
		z, e := (*[3]float64)(s.z[t+arimaMost-2:]), (*[3]float64)(s.e[t+arimaMost-2:])
		value := phi[1]*before + phi[0]*last
		var expected float64
		if v := s.w[t]; v != v {
			expected = value
		} else if t < s.p {
			mean -= value
		} else {
			rest := e[2] + theta[1]*before
			expected = -rest - theta[0]*last
			mean -= value - expected
		}
		last, before = expected, last
		p0, p1 = p0+expected*z[1], p1+expected*z[0]
		q0, q1 = q0+expected*e[1], q1+expected*e[0]
	}
	return s.slope([arimaMost]float64{p0, p1}, [arimaMost]float64{q0, q1}, mean)
}

// slope is the gradient of which the coefficients' and the constant's sums are known.
func (s *squares) slope(ar, ma [arimaMost]float64, mean float64) (g vector) {
	copy(g[:s.p], ar[:])
	copy(g[s.p:s.p+s.q], ma[:])
	if s.constant {
		g[s.free()] = mean * s.unit
	}
	for i := range g {
		g[i] /= s.sum
	}
	return g
}
