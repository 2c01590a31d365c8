package predict

import (
	"fmt"
	"math"
	"math/rand"
	"testing"
)

// TestExactLikelihoodIsTheFilters: the short way to the exact likelihood gives the
// filter's, constant and variance, for every order, also where coefficients are zero
// and the variance pauses before it comes to rest.
func TestExactLikelihoodIsTheFilters(t *testing.T) {
	rng := rand.New(rand.NewSource(11))
	simulate := func(n int) []float64 {
		w := make([]float64, n)
		for i := range w {
			w[i] = 3 + rng.NormFloat64()
			if i > 1 {
				w[i] += 0.6*(w[i-1]-3) - 0.2*(w[i-2]-3)
			}
		}
		return w
	}
	// Most of a long series comes after the variance has come to rest. At the edge of
	// what is stationary it takes the filter's last digits.
	short, long := simulate(120), simulate(600)
	for p := range arimaMost + 1 {
		for q := range arimaMost + 1 {
			for _, constant := range []bool{false, true} {
				for _, size := range []float64{0, 0.3, 1.5} {
					w, within := long, 1e-8
					if size > 1 {
						w, within = short, 1e-6
					}
					var x vector
					for i := range p + q {
						x[i] = size * rng.NormFloat64()
					}
					m := arima{order: order{p, 0, q, constant}, phi: fromPartial(x[:p]), theta: fromPartial(x[p : p+q])}
					if q > 1 {
						m.theta[0] = 0
					}
					quick, want := m, m
					quick.exactly(w)
					want.profile(w)
					name := fmt.Sprintf("(%d,%d) %v %g", p, q, constant, size)
					near(t, name+" log-likelihood", quick.loglik, want.loglik, within*math.Abs(want.loglik))
					near(t, name+" AICc", quick.aicc, want.aicc, within*math.Abs(want.aicc))
					near(t, name+" variance", quick.sigma2, want.sigma2, within*want.sigma2)
					near(t, name+" constant", quick.constant, want.constant, within*math.Abs(want.constant))
				}
			}
		}
	}
}

// TestInvertKeepsTheLikelihood: the invertible twin of an MA part has its likelihood and
// its forecasts.
func TestInvertKeepsTheLikelihood(t *testing.T) {
	rng := rand.New(rand.NewSource(12))
	w := make([]float64, 150)
	for i := range w {
		w[i] = rng.NormFloat64()
	}
	for _, theta := range [][]float64{{-1.04}, {2.5}, {0.3, 1.7}, {-0.4, 0.2, -1.5}} {
		for _, phi := range [][]float64{nil, {0.6}, {0.5, -0.3}} {
			m := arima{order: order{p: len(phi), q: len(theta)}}
			copy(m.phi[:], phi)
			copy(m.theta[:], theta)
			m.exactly(w)
			twin := m
			twin.invert()
			if !invertible(twin.theta[:twin.q]) {
				t.Errorf("%v: %v is not invertible", theta, twin.theta)
			}
			was := twin.sigma2
			twin.exactly(w)
			near(t, fmt.Sprint(theta, " log-likelihood"), twin.loglik, m.loglik, 1e-6*math.Abs(m.loglik))
			near(t, fmt.Sprint(theta, " variance"), was, twin.sigma2, 1e-6*twin.sigma2)
			again := twin
			if again.invert(); again != twin {
				t.Error("an invertible part was turned")
			}
		}
	}
}
