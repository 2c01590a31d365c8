package predict

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"
	"time"
)

// smoothing holds values from R, made by tests/reference/members.R.
type smoothing struct {
	Walk, Tame, Daily []float64
	SES               []struct {
		Alpha, Level float64
		Growth       []float64 // of the standard deviation with the horizon
	}
	Holt []struct {
		Alpha, Beta, Phi float64
		Mean, Growth     []float64
	}
	Slope  []struct{ Keep, Slope float64 }
	Theta  struct{ Alpha, Drift float64 }
	STLETS []float64 `json:"stl_ets"`
}

func readSmoothing(t *testing.T) (r smoothing) {
	t.Helper()
	data, err := os.ReadFile("testdata/members.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// alone makes what a member of one sample a step needs.
func alone(t *testing.T, horizon int) (*series, []lag) {
	t.Helper()
	c, err := Config{Step: time.Hour, Horizon: horizon}.normal()
	if err != nil {
		t.Fatal(err)
	}
	return newSeries(c), lagsFor(c)
}

// TestSESMatchesR: every rate's level is that of R's HoltWinters started from the
// mean that ours starts from, and the spread grows with the horizon as that of
// R's ets with the same rate.
func TestSESMatchesR(t *testing.T) {
	r := readSmoothing(t)
	s, lags := alone(t, 12)
	m := newSES(s, lags)
	for _, x := range r.Walk {
		s.push(x)
		m.Observe(x)
	}
	if len(r.SES) != len(sesRates) {
		t.Fatalf("%d rates, R has %d", len(sesRates), len(r.SES))
	}
	for i, want := range r.SES {
		t.Run(fmt.Sprint(want.Alpha), func(t *testing.T) {
			near(t, "rate", sesRates[i], want.Alpha, 0)
			near(t, "level", m.levels[i], want.Level, 1e-9*want.Level)
			one := *m
			one.errs = [len(sesRates)]running{}
			for other := range one.errs {
				if other != i {
					one.errs[other].mean = 1e9
				}
			}
			one.errs[i].mean = 4
			one.project()
			for h, g := range want.Growth {
				near(t, "point", one.points[h], want.Level, 1e-9*want.Level)
				near(t, fmt.Sprintf("deviation %d", h+1), one.sigma[h], 2*g, 1e-9*g)
			}
		})
	}
}

// TestHoltMatchesR: with R's rates, points and growth of the spread are those of
// ets with a damped additive trend. The initial state, which R fits, has faded.
func TestHoltMatchesR(t *testing.T) {
	r := readSmoothing(t)
	for _, want := range r.Holt {
		t.Run(fmt.Sprintf("%g,%g,%g", want.Alpha, want.Beta, want.Phi), func(t *testing.T) {
			s, lags := alone(t, 12)
			m := newHolt(s, lags)
			m.cells = []holtCell{{alpha: want.Alpha, beta: want.Beta, phi: want.Phi}}
			for _, x := range r.Tame {
				s.push(x)
				m.Observe(x)
			}
			for h := range want.Mean {
				near(t, fmt.Sprintf("point %d", h+1), m.points[h], want.Mean[h], 1e-6*want.Mean[h])
				near(t, fmt.Sprintf("deviation %d", h+1), m.sigma[h]/m.sigma[0], want.Growth[h], 1e-9*want.Growth[h])
			}
		})
	}
}

// TestThetaMatchesR: the fading line is that of lm with fading weights, and half
// of the unfaded one is the drift of R's thetaf. On top of the level goes the
// drift for as many steps as lie ahead, as thetaf does at a rate of 1, which it
// chooses here.
func TestThetaMatchesR(t *testing.T) {
	r := readSmoothing(t)
	for _, want := range r.Slope {
		var fit slope
		for _, x := range r.Walk {
			fit.add(x, want.Keep)
		}
		near(t, fmt.Sprintf("slope at %g", want.Keep), fit.slope(), want.Slope, 1e-9)
		if want.Keep == 1 {
			near(t, "drift", fit.slope()/2, r.Theta.Drift, 1e-6*math.Abs(r.Theta.Drift))
		}
	}
	near(t, "rate that R chose", r.Theta.Alpha, 1, 1e-3)
	s, lags := alone(t, 12)
	m := newTheta(s, lags)
	for _, x := range r.Walk {
		s.push(x)
		m.Observe(x)
	}
	for h := range m.points {
		want := m.base.points[h] + m.fit.slope()/2*float64(h+1)
		near(t, fmt.Sprintf("point %d", h+1), m.points[h], want, 1e-12*want)
	}
}

// TestSeasonalIsNearSTLAndETS: ours is additive smoothing with a mean a part of
// the season, not STL; on a daily pattern with noise of 0.5 it forecasts the next
// day as R's stlf does, to within what the noise leaves open.
func TestSeasonalIsNearSTLAndETS(t *testing.T) {
	r := readSmoothing(t)
	c, err := Config{Step: time.Hour, Horizon: 24, Season: 24 * time.Hour}.normal()
	if err != nil {
		t.Fatal(err)
	}
	s := newSeries(c)
	m := newSeasonal(c, s, lagsFor(c))
	for _, x := range r.Daily {
		s.push(x)
		m.Observe(x)
	}
	var squared float64
	for h, want := range r.STLETS {
		near(t, fmt.Sprintf("point %d", h+1), m.points[h], want, 1)
		squared += (m.points[h] - want) * (m.points[h] - want) / float64(len(r.STLETS))
	}
	t.Logf("root mean square distance %.3f, noise 0.5", math.Sqrt(squared))
	if math.Sqrt(squared) > 0.4 {
		t.Errorf("root mean square distance from R %.3f", math.Sqrt(squared))
	}
}
