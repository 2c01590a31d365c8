package planner

import "headroom/predict"

// A forecast is five quantiles; everything below reads them as one continuous,
// piecewise linear distribution. Beyond 0.99 the last segment is continued, and
// below 0.5 the slope between 0.5 and 0.75 is mirrored, floored at zero.

// knots returns the distribution's corner points.
func knots(q predict.Quantiles) (u, x [levels + 2]float64) {
	x[0] = lowest(&q)
	for i := range q {
		u[i+1], x[i+1] = predict.Levels[i], q[i]
	}
	u[levels+1], x[levels+1] = 1, highest(&q)
	return u, x
}

// lowest is the value below which the distribution never falls.
func lowest(q *predict.Quantiles) float64 { return max(0, q[0]-2*(q[1]-q[0])) }

// tailShare is how far the last segment is continued, as a share of itself.
var tailShare = (1 - predict.Levels[levels-1]) / (predict.Levels[levels-1] - predict.Levels[levels-2])

// highest is the value that the distribution never exceeds.
func highest(q *predict.Quantiles) float64 {
	return q[levels-1] + tailShare*(q[levels-1]-q[levels-2])
}

// expectedExcess is E[max(0, X-c)], the demand that a capacity of c leaves unserved.
func expectedExcess(q predict.Quantiles, c float64) float64 {
	if highest(&q) <= c {
		return 0
	}
	u, x := knots(q)
	var sum float64
	for i := 1; i < len(u); i++ {
		w, a, b := u[i]-u[i-1], x[i-1]-c, x[i]-c
		switch {
		case b <= 0:
		case a >= 0:
			sum += w * (a + b) / 2
		default:
			sum += w * b * b / (2 * (b - a))
		}
	}
	return sum
}

// segmentWeights are the weights of the knots in the mean, from the lowest on.
var segmentWeights = func() (w [levels + 2]float64) {
	u := append(append([]float64{0}, predict.Levels[:]...), 1)
	for i := 1; i < len(u); i++ {
		w[i-1] += (u[i] - u[i-1]) / 2
		w[i] += (u[i] - u[i-1]) / 2
	}
	return w
}()

// mean is the expectation of the distribution.
func mean(q *predict.Quantiles) float64 {
	sum := segmentWeights[0]*lowest(q) + segmentWeights[levels+1]*highest(q)
	for i := range q {
		sum += segmentWeights[i+1] * q[i]
	}
	return sum
}

// exceedProbability is P(X > c).
func exceedProbability(q predict.Quantiles, c float64) float64 {
	u, x := knots(q)
	if c < x[0] {
		return 1
	}
	for i := len(u) - 1; i > 0; i-- {
		if c >= x[i] {
			return 1 - u[i]
		}
		if c >= x[i-1] {
			return 1 - (u[i-1] + (u[i]-u[i-1])*(c-x[i-1])/(x[i]-x[i-1]))
		}
	}
	return 1
}

// quantileAt is the value not exceeded with probability p.
func quantileAt(q predict.Quantiles, p float64) float64 {
	u, x := knots(q)
	for i := 1; i < len(u); i++ {
		if p <= u[i] {
			return x[i-1] + (x[i]-x[i-1])*(p-u[i-1])/(u[i]-u[i-1])
		}
	}
	return x[len(x)-1]
}

// p90 is the level at which pressure and destinations are judged.
func p90(q predict.Quantiles) float64 { return q[2] }
