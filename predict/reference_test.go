package predict

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"
)

// reference holds values from R, made by tests/reference/arima.R.
type reference struct {
	Series map[string][]*float64
	Fits   []struct {
		Series                     string
		P, D, Q                    int
		Constant                   bool
		Phi, Theta                 []float64
		Mean, Sigma2, Loglik, AICc float64
		Forecast, SD               []float64
	}
	Auto []struct {
		Series     string
		P, D, Q    int
		Constant   bool
		AICc, KPSS float64
		AR         []float64
		ARVariance float64 `json:"ar_variance"`
	}
}

func readReference(t *testing.T) (reference, map[string][]float64) {
	data, err := os.ReadFile("testdata/arima.json")
	if err != nil {
		t.Fatal(err)
	}
	var r reference
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	series := map[string][]float64{}
	for name, in := range r.Series {
		for _, v := range in {
			series[name] = append(series[name], orNaN(v))
		}
	}
	return r, series
}

func near(t *testing.T, what string, got, want, within float64) {
	t.Helper()
	if !(math.Abs(got-want) <= within) {
		t.Errorf("%s = %.8g, R says %.8g", what, got, want)
	}
}

// TestLikelihoodMatchesR: at R's own parameters the exact likelihood, missing
// values included, is R's.
func TestLikelihoodMatchesR(t *testing.T) {
	ref, series := readReference(t)
	for _, r := range ref.Fits {
		t.Run(fmt.Sprintf("%s(%d,%d,%d)%v", r.Series, r.P, r.D, r.Q, r.Constant), func(t *testing.T) {
			m := arima{order: order{r.P, r.D, r.Q, r.Constant}, constant: r.Mean}
			copy(m.phi[:], r.Phi)
			copy(m.theta[:], r.Theta)
			x := series[r.Series]
			k := m.likelihood(x)
			near(t, "log-likelihood", m.loglik, r.Loglik, 2e-4)
			near(t, "AICc", m.aicc, r.AICc, 4e-4)
			for h := range r.Forecast {
				y := k.predict() + m.trend(len(x)+h+1)
				near(t, fmt.Sprintf("forecast %d", h+1), y, r.Forecast[h], 1e-5*math.Abs(r.Forecast[h]))
				// R's forecast corrects sigma2 for the number of parameters.
				near(t, fmt.Sprintf("deviation %d", h+1), math.Sqrt(k.f*r.Sigma2), r.SD[h], 1e-4*r.SD[h])
				k.observe(math.NaN())
			}
		})
	}
}

// TestOrderMatchesR: KPSS, the Yule-Walker model, and the order of auto.arima or
// one whose AICc is no worse.
func TestOrderMatchesR(t *testing.T) {
	ref, series := readReference(t)
	for _, r := range ref.Auto {
		t.Run(r.Series, func(t *testing.T) {
			x := series[r.Series]
			near(t, "KPSS", kpss(x), r.KPSS, 1e-6)
			s := newSelection(x, 3, true)
			units := 1
			for !s.work() {
				units++
			}
			m, err := newModel(s.found(), x)
			if err != nil {
				t.Fatal(err)
			}
			b := m.model
			t.Logf("ARIMA(%d,%d,%d) constant %v, AICc %.3f, %d models, %d units of work; R: (%d,%d,%d) %v, %.3f",
				b.p, b.d, b.q, b.order.constant, b.aicc, len(s.tried), units, r.P, r.D, r.Q, r.Constant, r.AICc)
			if b.d != r.D {
				t.Errorf("d = %d, R says %d", b.d, r.D)
			}
			if b.aicc > r.AICc+0.1 {
				t.Errorf("AICc %.3f, R reaches %.3f", b.aicc, r.AICc)
			}
			if r.Series == "gaps" {
				return // R's ar does not take missing values
			}
			gamma, _, n := autocovariance(x, arOrder)
			phi, variance := yuleWalker(gamma, n)
			near(t, "AR variance", variance, r.ARVariance, 1e-6*r.ARVariance)
			if len(phi) != len(r.AR) {
				t.Fatalf("AR order %d, R says %d", len(phi), len(r.AR))
			}
			for i := range phi {
				near(t, fmt.Sprintf("phi %d", i+1), phi[i], r.AR[i], 1e-6)
			}
		})
	}
}
