package predict

import "math"

// climber looks for a maximum of the likelihood by the variable metric method
// of Broyden, Fletcher, Goldfarb and Shanno in the form of Nash (1990, algorithm
// 21), from the start and by the steps of R's arima: so it ends at the same
// maximum. AR parameters are inverse hyperbolic tangents of partial
// autocorrelations, MA parameters are as they are.
type climber struct {
	order
	x       []float64 // the series
	mean    float64   // centre of the constant
	at      vector
	best    arima
	value   float64 // negative log-likelihood per sample, at at
	inverse [2 * arimaMost]vector
}

// vector is a point in the parameters.
type vector [2 * arimaMost]float64

const (
	climbRounds    = 200
	climbDelta     = 1e-4 // of the central differences
	climbDone      = 1e-12
	climbShorter   = 0.2
	climbGain      = 1e-4 // share of the gain that the slope promises
	climbStepsMost = 40
	climbLongest   = 1.0 // step in any parameter: further may lie another maximum
)

// climb fits a model of order o to x.
func climb(o order, x []float64) arima {
	diff := x
	for range o.d {
		diff = difference(diff)
	}
	_, mean, _ := autocovariance(diff, 0)
	c := climber{order: o, x: x, mean: mean}
	c.best, c.value = c.evaluate(&c.at)
	if o.free() == 0 || c.best.aicc >= limit {
		return c.best
	}
	c.reset()
	g := c.gradient()
	for fresh, round := true, 0; round < climbRounds; round++ {
		before, value := c.at, c.value
		if !c.along(g) || value-c.value <= climbDone*(abs(value)+climbDone) {
			if fresh {
				break
			}
			c.reset()
			fresh = true
			continue
		}
		after := c.gradient()
		fresh = !c.learn(before, g, after)
		if fresh {
			c.reset()
		}
		g = after
	}
	return c.best
}

// model turns parameters into a model.
func (c *climber) model(at *vector) arima {
	m := arima{order: c.order, phi: fromPartial(at[:c.p])}
	copy(m.theta[:], at[c.p:c.p+c.q])
	if c.constant {
		m.constant = c.mean
	}
	return m
}

func (c *climber) evaluate(at *vector) (arima, float64) {
	m := c.model(at)
	m.profile(c.x)
	value := -m.loglik / float64(len(c.x))
	if !(abs(value) <= limit) {
		value = limit
	}
	return m, value
}

func (c *climber) reset() {
	c.inverse = [2 * arimaMost]vector{}
	for i := range c.free() {
		c.inverse[i][i] = 1
	}
}

func (c *climber) gradient() (g vector) {
	for i := range c.free() {
		up, down := c.at, c.at
		up[i] += climbDelta
		down[i] -= climbDelta
		_, above := c.evaluate(&up)
		_, below := c.evaluate(&down)
		g[i] = (above - below) / (2 * climbDelta)
	}
	return g
}

// along moves against the gradient, by less and less until that gains enough;
// false when it does not.
func (c *climber) along(g vector) bool {
	var dir vector
	var slope float64
	for i := range c.free() {
		for j := range c.free() {
			dir[i] -= c.inverse[i][j] * g[j]
		}
		slope += dir[i] * g[i]
	}
	if !(slope < 0) {
		return false
	}
	step := 1.0
	for _, d := range dir {
		step = min(step, climbLongest/max(abs(d), 1e-300))
	}
	for range climbStepsMost {
		at := c.at
		for i, d := range dir {
			at[i] += step * d
		}
		m, value := c.evaluate(&at)
		if value <= c.value+climbGain*step*slope && at != c.at {
			c.at, c.best, c.value = at, m, value
			return true
		}
		step *= climbShorter
	}
	return false
}

// learn updates the inverse Hessian; false when the curvature does not allow it.
func (c *climber) learn(before, g, after vector) bool {
	var step, turn, through vector
	var curve, bent float64
	n := c.free()
	for i := range n {
		step[i], turn[i] = c.at[i]-before[i], after[i]-g[i]
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
