package predict

import (
	"errors"
	"fmt"
	"math"
)

// ErrNoModel says that no ARIMA model could be fitted to a series.
var ErrNoModel = errors.New("predict: no model fits the series")

// ARIMA is an ARIMA(p,d,q) fitted to a series by exact maximum likelihood, with
// its filter at the end of that series.
type ARIMA struct {
	// P, D and Q are the order; Constant says whether the model has a mean
	// (D = 0) or a drift (D = 1).
	P, D, Q  int
	Constant bool
	// AR and MA are the coefficients, MA in the sign convention of R.
	AR, MA []float64
	// Mean is the mean or the drift; 0 without.
	Mean float64
	// Sigma2 is the likelihood's innovation variance, in squared units.
	Sigma2 float64
	// LogLik is the exact Gaussian log-likelihood; AICc follows from it.
	LogLik, AICc float64

	model arima
	state filter
	next  int // time of the next value
}

// FitARIMA fits an ARIMA(p,d,q) to x, NaN where missing, by exact maximum
// likelihood (Gardner, Harvey and Phillips 1980; in the state-space form of
// Durbin and Koopman 2001). Where the likelihood has several maxima it is the
// one that R's arima climbs to from the same start, not always the highest: that
// one often lies at the edge of what is stationary, with an absurd mean, or at
// the edge of what is invertible. p and q are at most 5, d is at most 2, a constant
// needs d < 2. ErrNoModel: x is too short for the order.
func FitARIMA(x []float64, p, d, q int, constant bool) (*ARIMA, error) {
	if p < 0 || p > arimaMost || q < 0 || q > arimaMost || d < 0 || d > 2 || constant && d > 1 {
		return nil, fmt.Errorf("predict: ARIMA(%d,%d,%d), constant %v: want p and q within 0 and %d, d within 0 and 2, a constant only below 2",
			p, d, q, constant, arimaMost)
	}
	return newModel(climb(order{p, d, q, constant}, x), x)
}

// AutoARIMA chooses the order by the stepwise search of Hyndman and Khandakar
// (2008) and fits it: what the Forecaster's member does piece by piece.
// ErrNoModel: x is too short.
func AutoARIMA(x []float64) (*ARIMA, error) {
	s := newSelection(x, arimaMost, len(x) <= exactUpTo)
	for !s.work() {
	}
	return newModel(s.found(), x)
}

func newModel(best arima, x []float64) (*ARIMA, error) {
	if best.aicc >= limit {
		return nil, fmt.Errorf("%w: %d values", ErrNoModel, len(x))
	}
	m := &ARIMA{model: best, next: len(x) + 1}
	m.state = m.model.likelihood(x)
	best = m.model
	if !(best.aicc < limit) { // at the edge of what is stationary it may not be a number
		return nil, fmt.Errorf("%w: %d values, at whose best model the likelihood cannot be computed", ErrNoModel, len(x))
	}
	m.P, m.D, m.Q, m.Constant, m.Mean = best.p, best.d, best.q, best.order.constant, best.constant
	m.AR, m.MA = best.phi[:best.p:best.p], best.theta[:best.q:best.q]
	m.Sigma2, m.LogLik, m.AICc = best.sigma2, best.loglik, best.aicc
	return m, nil
}

// Observe takes the value after the last one, NaN when missing; the parameters
// stay. Its cost does not depend on how much was seen.
func (m *ARIMA) Observe(y float64) {
	m.state.observe(y - m.model.trend(m.next))
	m.next++
}

// Forecast returns the means of the next h values and the standard deviations
// of their errors, in the unit of the series.
func (m *ARIMA) Forecast(h int) (mean, sd []float64) {
	k := m.state
	for i := range h {
		mean = append(mean, k.predict()+m.model.trend(m.next+i))
		sd = append(sd, math.Sqrt(k.f*m.Sigma2))
		k.observe(math.NaN())
	}
	return mean, sd
}
