package predict

import (
	"encoding/binary"
	"math"
	"testing"
	"time"
)

// fuzzMember feeds a member whatever a Forecaster could hand over, in steps of
// one or of three samples, and holds every forecast to be a distribution, and
// the state to be readable and to go on as the member does.
func fuzzMember(f *testing.F, build func(c Config, s *series, lags []lag) member) {
	for _, x := range seedSeries() {
		f.Add(x, true)
		f.Add(x, false)
	}
	f.Fuzz(func(t *testing.T, data []byte, wide bool) {
		c := Config{Step: time.Second, Horizon: 5, Season: 12 * time.Second, LSTM: true} // whose series is longer
		if wide {
			c.Sample, c.Step = time.Second, 3*time.Second
		}
		c, err := c.normal()
		if err != nil {
			t.Fatal(err)
		}
		s := newSeries(c)
		m := build(c, s, lagsFor(c))
		for _, x := range decodeSeries(data) {
			s.push(x)
			m.Observe(x)
			checkMember(t, c, m)
		}
		checkMemberState(t, c, s, m, build)
	})
}

// checkMember: quantiles are a distribution, and so is the peak of who has one.
func checkMember(t *testing.T, c Config, m member) {
	t.Helper()
	steps := make([]Quantiles, c.Horizon)
	if !m.Forecast(c.Horizon, steps) {
		return
	}
	for h := range steps {
		sound(t, steps[h], m.Name())
	}
	var top Quantiles
	if p, ok := m.(peaker); ok && p.peak(&top) {
		sound(t, top, m.Name()+" peak")
	}
}

// checkMemberState: what was written reads back, and goes on in the same way.
func checkMemberState(t *testing.T, c Config, s *series, m member, build func(c Config, s *series, lags []lag) member) {
	t.Helper()
	w := &codec{}
	s.state(w)
	m.state(w)
	r := &codec{buf: w.buf, reading: true}
	other := newSeries(c)
	other.state(r)
	back := build(c, other, lagsFor(c))
	back.state(r)
	if r.err != nil || len(r.buf) != 0 {
		t.Fatalf("%s: its state is not read: %v, %d bytes left", m.Name(), r.err, len(r.buf))
	}
	for i := range 20 {
		x := float64(i % 3)
		s.push(x)
		m.Observe(x)
		other.push(x)
		back.Observe(x)
		a, b := make([]Quantiles, c.Horizon), make([]Quantiles, c.Horizon)
		if m.Forecast(c.Horizon, a) != back.Forecast(c.Horizon, b) {
			t.Fatalf("%s: only one of written and read speaks", m.Name())
		}
		for h := range a {
			if a[h] != b[h] {
				t.Fatalf("%s: step %d is %v, of the one read %v", m.Name(), h, a[h], b[h])
			}
		}
	}
}

// decodeSeries makes a series of data: eight bytes are a value, repeated as often
// as the byte after them says. Values that Observe would not pass on are missing.
func decodeSeries(data []byte) (out []float64) {
	for len(data) >= 9 && len(out) < 600 {
		x := math.Float64frombits(binary.LittleEndian.Uint64(data))
		if !(x >= 0 && x <= limit) {
			x = math.NaN()
		} else if x < 1/limit {
			x = 0
		}
		for range int(data[8])%100 + 1 {
			out = append(out, x)
		}
		data = data[9:]
	}
	return out
}

// seedSeries: empty, missing, constant, step, huge, tiny, and ones that vary.
func seedSeries() (out [][]byte) {
	piece := func(to []byte, x float64, times byte) []byte {
		return append(binary.LittleEndian.AppendUint64(to, math.Float64bits(x)), times-1)
	}
	nan := math.NaN()
	for _, x := range [][]float64{{}, {nan}, {1}, {0}, {1, 5}, {limit}, {0, limit, 0}, {1 / limit, 2 / limit}, {5e-324, math.MaxFloat64},
		{1, nan, 1, 2}, {limit, 1 / limit, nan, limit}} {
		var data []byte
		for _, v := range x {
			data = piece(data, v, 60)
		}
		out = append(out, data)
	}
	var waves, alternating []byte
	for i := range 300 {
		waves = piece(waves, 10+5*math.Sin(float64(i)/2)+math.Sin(float64(i*i)), 1)
		alternating = piece(alternating, float64(i%2)*1e12, 1)
	}
	return append(out, waves, alternating)
}

func FuzzNaive(f *testing.F) {
	fuzzMember(f, func(_ Config, s *series, lags []lag) member { return newNaive(s, lags) })
}

func FuzzSES(f *testing.F) {
	fuzzMember(f, func(_ Config, s *series, lags []lag) member { return newSES(s, lags) })
}

func FuzzHolt(f *testing.F) {
	fuzzMember(f, func(_ Config, s *series, lags []lag) member { return newHolt(s, lags) })
}

func FuzzDecay(f *testing.F) {
	fuzzMember(f, func(_ Config, s *series, _ []lag) member { return newDecay(s) })
}

func FuzzTheta(f *testing.F) {
	fuzzMember(f, func(_ Config, s *series, lags []lag) member { return newTheta(s, lags) })
}

func FuzzAR(f *testing.F) {
	fuzzMember(f, func(_ Config, s *series, lags []lag) member { return newAR(s, lags) })
}

func FuzzARIMA(f *testing.F) {
	fuzzMember(f, func(c Config, s *series, lags []lag) member { return newARIMA(c, s, lags) })
}

func FuzzSeasonal(f *testing.F) {
	fuzzMember(f, func(c Config, s *series, lags []lag) member { return newSeasonal(c, s, lags) })
}

func FuzzLSTM(f *testing.F) {
	fuzzMember(f, func(_ Config, s *series, lags []lag) member { return newLSTM(s, lags) })
}

func FuzzRise(f *testing.F) {
	fuzzMember(f, func(_ Config, s *series, _ []lag) member { return newRise(s) })
}

// FuzzForecaster is the blend of all members, and what is made of it.
func FuzzForecaster(f *testing.F) {
	for _, x := range seedSeries() {
		f.Add(x)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fc, err := New(Config{Step: time.Second, Horizon: 5, Season: 12 * time.Second, LSTM: true, Level: 1})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range decodeSeries(data) {
			fc.Observe(x)
			checkForecast(t, fc.Forecast(), 5)
			fc.HotSpots()
		}
	})
}

// FuzzAutoARIMA is the search that the library offers by itself.
func FuzzAutoARIMA(f *testing.F) {
	for _, x := range seedSeries() {
		f.Add(x)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := AutoARIMA(decodeSeries(data))
		if err != nil {
			return
		}
		mean, sd := m.Forecast(5)
		for h := range mean {
			if math.IsNaN(mean[h]) || math.IsInf(mean[h], 0) || !(sd[h] >= 0) || math.IsInf(sd[h], 0) {
				t.Fatalf("%+v: forecast %v, deviations %v", m, mean, sd)
			}
		}
	})
}
