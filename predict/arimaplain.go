package predict

// plain is the negative exact log-likelihood per value as R's arima sees it: the
// constant is a parameter like the others, in units of ten of its standard errors, and
// differences are central. It is slower than likelihood, and climbs to R's maximum where
// there are several.
type plain struct {
	order
	x    []float64
	n    float64 // values that carry likelihood
	unit float64 // of the constant
	best arima   // of all that were looked at
}

const plainDelta = 1e-3 // of the differences

// climb fits a model of order o to x, from coefficients of zero and the mean.
func climb(o order, x []float64) arima {
	l := &plain{order: o, x: x, n: float64(-o.d), best: arima{order: o, loglik: -limit, aicc: limit}}
	for _, v := range x {
		if v == v {
			l.n++
		}
	}
	var start vector
	if o.constant {
		start[o.free()], l.unit = inErrors(differenced(x, o.d))
	}
	c := newClimber(l, o.params(), start, climbDone)
	c.most = climbPatient
	for !c.step() {
	}
	l.best.invert()
	return l.best
}

func (l *plain) value(at *vector) float64 {
	m := l.modelAt(at, at[l.free()]*l.unit)
	m.likelihood(l.x)
	if m.loglik > l.best.loglik {
		l.best = m
	}
	return min(-m.loglik/l.n, limit)
}

func (l *plain) gradient(at *vector) (g vector) {
	for i := range l.params() {
		above, below := *at, *at
		above[i] += plainDelta
		below[i] -= plainDelta
		g[i] = (l.value(&above) - l.value(&below)) / (2 * plainDelta)
	}
	return g
}
