package predict

import (
	"math"
	"math/rand"
	"testing"
	"time"
)

// TestLSTMGradient: back-propagation gives the slopes that moving each weight a
// little gives.
func TestLSTMGradient(t *testing.T) {
	c, err := Config{Step: time.Second, Horizon: 4, LSTM: true}.normal()
	if err != nil {
		t.Fatal(err)
	}
	s := newSeries(c)
	m := newLSTM(s, lagsFor(c))
	rng := rand.New(rand.NewSource(4))
	for range 60 {
		s.push(rng.Float64())
	}
	for i := range m.net { // away from the start, where heads are zero
		m.net[i] += 0.3 * rng.NormFloat64()
	}
	const unit, back = 0.4, 4
	// A smooth loss: half the squared sum of one output's distance to 1.
	loss := func() float64 {
		hidden, _ := m.pass(back, unit)
		d := m.output(&hidden, 1, 2) - 1
		return d * d / 2
	}
	hidden, ok := m.pass(back, unit)
	if !ok {
		t.Fatal("no pass")
	}
	var dh [lstmHidden]float64
	d := m.output(&hidden, 1, 2) - 1
	for j, w := range m.head(m.net, 1, 2)[:lstmHidden] {
		dh[j] = d * w
	}
	m.backward(dh)
	for i := range lstmGates * lstmIn {
		const eps = 1e-6
		was := m.net[i]
		m.net[i] = was + eps
		up := loss()
		m.net[i] = was - eps
		down := loss()
		m.net[i] = was
		want := (up - down) / (2 * eps)
		if math.Abs(m.grad[i]-want) > 1e-6+1e-4*math.Abs(want) {
			t.Fatalf("weight %d: gradient %g, moving it gives %g", i, m.grad[i], want)
		}
	}
}

// TestLSTMLearns: on a period that is too irregular in length for a season, it
// comes to beat naive clearly.
func TestLSTMLearns(t *testing.T) {
	f, err := New(Config{Step: time.Second, Horizon: 6, LSTM: true})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewSource(9))
	phase := 0.0
	for range 6000 {
		phase += 0.5 + 0.1*rng.NormFloat64()
		f.Observe(1 + math.Max(-0.5, math.Sin(phase)) + 0.02*rng.NormFloat64())
	}
	for _, m := range f.Forecast().Members {
		if m.Name == "lstm" {
			t.Logf("loss %.3f of naive's", m.Ratio)
			if m.Ratio > 0.6 {
				t.Errorf("loss %.3f of naive's after 6000 samples", m.Ratio)
			}
		}
	}
}

// TestSeason: a daily pattern is foreseen by the seasonal member, which weighs
// more than all others together for it.
func TestSeason(t *testing.T) {
	f, err := New(Config{Step: 5 * time.Minute, Season: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewSource(9))
	day := func(i int) float64 {
		if h := i % 288; h >= 100 && h < 200 {
			return 3
		}
		return 1
	}
	for i := range 288*6 + 95 {
		f.Observe(noisy(rng, day(i), 0.1))
	}
	fc := f.Forecast()
	t.Logf("%s, skill %.2f, one hour ahead: %.2f", fc.Method, fc.Skill, fc.Steps[11])
	best := fc.Members[0]
	for _, m := range fc.Members {
		if m.Weight > best.Weight {
			best = m
		}
	}
	if best.Name != "seasonal" || best.Weight < 0.5 {
		t.Errorf("%s weighs most, %.2f", best.Name, best.Weight)
	}
	if fc.Steps[3][0] > 1.3 || fc.Steps[11][0] < 2.5 {
		t.Errorf("half an hour before the daily step %s forecasts %.2f, then %.2f", fc.Method, fc.Steps[3], fc.Steps[11])
	}
}
