package predict

import (
	"math"
	"slices"
)

// goal is a function to be made small.
type goal interface {
	value(at *vector) float64
	// gradient is asked after value, at the same place.
	gradient(at *vector) vector
}

// vector is a point in the parameters of a model, the constant among them where a
// goal does not work it out itself.
type vector [2*arimaMost + 1]float64

// climber looks for a minimum by the variable metric method of Broyden, Fletcher,
// Goldfarb and Shanno in the form of Nash (1990, algorithm 21), by the steps of R's
// optim: so it ends at the same minimum where there are several.
type climber struct {
	goal
	n       int // parameters
	at      vector
	least   float64 // the goal's value, at at
	slope   vector  // its gradient
	inverse [len(vector{})]vector
	age     int // gradients that inverse has learned from
	rounds  int
	most    int     // rounds
	enough  float64 // relative gain that is worth going on for
	longest float64 // step in any parameter
}

const (
	climbRounds  = 100
	climbPatient = 2000  // rounds, where nobody waits
	climbDone    = 1e-14 // relative gain that is none
	climbRough   = 1e-6  // that is worth little more: 1e-4 of a log-likelihood
	climbAsR     = 1e-8  // the same, for R's optim
	climbShorter = 0.2
	climbLongest = 1.0  // step of a likelihood: further may lie another maximum
	climbGain    = 1e-4 // share of the gain that the slope promises
)

func newClimber(g goal, n int, start vector, enough float64) *climber {
	c := &climber{goal: g, n: n, at: start, enough: enough, most: climbRounds, longest: math.Inf(1)}
	c.least = g.value(&c.at)
	if n > 0 {
		c.slope = g.gradient(&c.at)
	}
	return c
}

// step makes one round and says whether the climb is over.
func (c *climber) step() (done bool) {
	if c.n == 0 || !(abs(c.least) < limit) || c.rounds >= c.most {
		return true
	}
	if c.age > 2*c.n {
		c.age = 0
	}
	if c.age == 0 {
		c.reset()
	}
	before, least, worth := c.at, c.least, c.worth()
	if !c.along() || least-c.least <= worth {
		done = c.age == 0
		c.age = 0
		return done
	}
	c.rounds++
	slope := c.slope
	c.slope = c.gradient(&c.at)
	c.age++
	if !c.learn(before, slope) {
		c.age = 0
	}
	return false
}

func (c *climber) reset() {
	c.inverse = [len(vector{})]vector{}
	for i := range c.n {
		c.inverse[i][i] = 1
	}
}

// worth is the gain that is worth a step.
func (c *climber) worth() float64 { return c.enough * (abs(c.least) + c.enough) }

// along moves against the gradient, by less and less until that gains enough;
// false when it does not.
func (c *climber) along() bool {
	var dir vector
	var slope float64
	for i := range c.n {
		for j := range c.n {
			dir[i] -= c.inverse[i][j] * c.slope[j]
		}
		slope += dir[i] * c.slope[i]
	}
	if !(slope < 0) {
		return false
	}
	step := 1.0
	for _, d := range dir {
		step = min(step, c.longest/max(abs(d), 1e-300))
	}
	for ; -step*slope > c.worth(); step *= climbShorter {
		at := c.at
		for i, d := range dir {
			at[i] += step * d
		}
		if v := c.value(&at); v <= c.least+climbGain*step*slope && at != c.at {
			c.at, c.least = at, v
			return true
		}
	}
	return false
}

// learn updates the inverse Hessian; false when the curvature does not allow it.
func (c *climber) learn(before, slope vector) bool {
	var step, turn, through vector
	var curve, bent float64
	n := c.n
	for i := range n {
		step[i], turn[i] = c.at[i]-before[i], c.slope[i]-slope[i]
		curve += step[i] * turn[i]
	}
	if !(curve > 0) {
		return false
	}
	for i := range n {
		for j := range n {
			through[i] += c.inverse[i][j] * turn[j]
		}
		bent += through[i] * turn[i]
	}
	for i := range n {
		for j := range n {
			c.inverse[i][j] += (1+bent/curve)*step[i]*step[j]/curve - (through[i]*step[j]+step[i]*through[j])/curve
		}
	}
	return !math.IsNaN(bent)
}

// likelihood is the negative exact log-likelihood per value, at the constant that
// makes it largest. AR parameters are inverse hyperbolic tangents of partial
// autocorrelations, MA parameters are as they are.
type likelihood struct {
	order
	x    []float64
	w    []float64 // x differenced, when there are no gaps
	mean float64   // centre of the constant
	best arima     // of all that were looked at
	last float64   // value
}

const likelihoodDelta = 1e-5 // of the differences

// climbFrom starts at a model whose AR part is stationary.
func climbFrom(m arima, x []float64, enough float64) (*climber, *likelihood) {
	l := &likelihood{order: m.order, x: x, mean: m.constant, best: arima{order: m.order, loglik: -limit, aicc: limit}}
	if !slices.ContainsFunc(x, math.IsNaN) {
		l.w = differenced(x, m.d)
	}
	var start vector
	ar, _ := partial(m.phi[:m.p])
	for i, k := range ar {
		start[i] = math.Atanh(k)
	}
	copy(start[m.p:], m.theta[:m.q])
	c := newClimber(l, m.free(), start, enough)
	c.longest = climbLongest
	return c, l
}

// found is the best model, invertible.
func (l *likelihood) found() arima {
	m := l.best
	m.invert()
	return m
}

func (l *likelihood) value(at *vector) float64 {
	m := l.modelAt(at, l.mean)
	if l.w != nil {
		m.exactly(l.w)
	} else {
		m.profile(l.x)
	}
	if m.loglik > l.best.loglik {
		l.best = m
	}
	l.last = min(-m.loglik/float64(len(l.x)), limit)
	return l.last
}

func (l *likelihood) gradient(at *vector) (g vector) {
	here := l.last
	for i := range l.free() {
		near := *at
		near[i] += likelihoodDelta
		g[i] = (l.value(&near) - here) / likelihoodDelta
	}
	return g
}

// modelAt is the one at the parameters of a likelihood, with a constant if the order has one.
func (o order) modelAt(at *vector, constant float64) arima {
	m := arima{order: o, phi: fromPartial(at[:o.p])}
	copy(m.theta[:], at[o.p:o.p+o.q])
	if o.constant {
		m.constant = constant
	}
	return m
}

// fromPartial turns tangents of partial autocorrelations into coefficients, by
// Durbin's recursion (Jones 1980).
func fromPartial(x []float64) (phi [arimaMost]float64) {
	for n, v := range x {
		k := math.Tanh(v)
		before := phi
		for i := range n {
			phi[i] = before[i] - k*before[n-1-i]
		}
		phi[n] = k
	}
	return phi
}

// partial is the partial autocorrelations of a process, by Durbin's recursion
// backwards; not ok when it is not stationary.
func partial(phi []float64) (x []float64, ok bool) {
	x = append(make([]float64, 0, arimaMost), phi...)
	for n := len(x) - 1; n >= 0; n-- {
		k := x[n]
		if !(abs(k) < 1) {
			return x, false
		}
		var before [arimaMost]float64
		copy(before[:], x[:n])
		for i := range n {
			x[i] = (before[i] + k*before[n-1-i]) / (1 - k*k)
		}
	}
	return x, true
}
