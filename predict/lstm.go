package predict

import (
	"math"
	"math/rand"

	"gonum.org/v1/gonum/floats"
)

// lstm is a small recurrent network, trained online on the series itself: one
// truncated back-propagation through time a step, quantile loss at every scored
// horizon, Adam. It sees changes in units of the series' own spread, so that it
// learns the same in any unit. It starts from fixed weights; there is no
// randomness at run time. Cell and forget gate of Hochreiter and Schmidhuber 1997
// and Gers et al. 2000: c = f c + i g, h = o tanh(c); quantile loss of Koenker and
// Bassett 1978; Adam of Kingma and Ba 2015.
//
// It is off unless Config.LSTM is set: it costs more than all other members
// together and has not beaten them (see TestTraces).
type lstm struct {
	s      *series
	lags   []lag
	scale  running   // of the step means' changes
	net    []float64 // weights, see slices
	m1, m2 []float64 // Adam's moments
	grad   []float64
	n      int64 // training steps done
	cached []Quantiles
	ready  bool
	cells  [lstmSteps]lstmCell // of the last forward pass
}

const (
	lstmHidden = 8
	lstmSteps  = 16 // inputs of one pass
	lstmGates  = 4 * lstmHidden
	lstmIn     = lstmHidden + 2 // the state before, the input, a bias
	lstmRate   = 0.005
	lstmLeast  = 100 // training steps before it speaks
)

// lstmCell holds what a pass computed at one input.
type lstmCell struct {
	in     [lstmIn]float64
	gate   [lstmGates]float64  // input, forget, output, candidate
	before [lstmHidden]float64 // the state
	tanh   [lstmHidden]float64 // of the state after
}

func newLSTM(s *series, lags []lag) *lstm {
	n := lstmGates*lstmIn + len(lags)*len(Levels)*(lstmHidden+1)
	m := &lstm{s: s, lags: lags, net: make([]float64, n), m1: make([]float64, n), m2: make([]float64, n),
		grad: make([]float64, n), cached: make([]Quantiles, s.horizon)}
	rng := rand.New(rand.NewSource(1))
	for i := range m.net[:lstmGates*lstmIn] {
		m.net[i] = 0.3 * rng.NormFloat64()
	}
	for g := lstmHidden; g < 2*lstmHidden; g++ {
		m.net[g*lstmIn+lstmIn-1] = 1 // remember at first
	}
	for a, l := range lags { // start from a random walk
		for i, z := range gaussian {
			m.head(m.net, a, i)[lstmHidden] = z * math.Sqrt(float64(l.steps))
		}
	}
	return m
}

// head is the row of weights that gives quantile i at lag a.
func (m *lstm) head(w []float64, a, i int) []float64 {
	at := lstmGates*lstmIn + (a*len(Levels)+i)*(lstmHidden+1)
	return w[at : at+lstmHidden+1]
}

func (m *lstm) Name() string { return "lstm" }

func (m *lstm) Observe(float64) {
	k := m.s.perStep
	if m.s.t%int64(k) != 0 {
		return
	}
	if d := m.s.mean(0) - m.s.mean(k); !math.IsNaN(d) {
		m.scale.addBounded(d*d, memory)
	}
	unit := math.Sqrt(m.scale.mean)
	if m.s.t < int64(k*(lstmSteps+1+m.s.horizon)) || !(unit > 0) {
		m.ready = false
		return
	}
	m.train(unit)
	m.ready = m.n >= lstmLeast && m.forecast(unit)
}

// pass runs the network over the inputs that end back samples ago; false when
// one of them is missing.
func (m *lstm) pass(back int, unit float64) (hidden [lstmHidden]float64, ok bool) {
	k := m.s.perStep
	last := m.s.mean(back)
	var state [lstmHidden]float64
	for i := range m.cells {
		y := m.s.mean(back + (lstmSteps-1-i)*k)
		if math.IsNaN(y) || math.IsNaN(last) {
			return hidden, false
		}
		c := &m.cells[i]
		c.before = state
		copy(c.in[:], hidden[:])
		c.in[lstmHidden] = math.Tanh((y - last) / unit / 4)
		c.in[lstmHidden+1] = 1
		for g := range c.gate {
			v := floats.Dot(m.net[g*lstmIn:(g+1)*lstmIn], c.in[:])
			if g < 3*lstmHidden {
				c.gate[g] = 1 / (1 + math.Exp(-v))
			} else {
				c.gate[g] = math.Tanh(v)
			}
		}
		for j := range state {
			state[j] = c.gate[lstmHidden+j]*state[j] + c.gate[j]*c.gate[3*lstmHidden+j]
			c.tanh[j] = math.Tanh(state[j])
			hidden[j] = c.gate[2*lstmHidden+j] * c.tanh[j]
		}
	}
	return hidden, true
}

// output is quantile i at lag a, above the last input, in units.
func (m *lstm) output(hidden *[lstmHidden]float64, a, i int) float64 {
	w := m.head(m.net, a, i)
	return floats.Dot(w[:lstmHidden], hidden[:]) + w[lstmHidden]
}

// train makes one step on the forecast whose whole horizon has just ended.
func (m *lstm) train(unit float64) {
	k := m.s.perStep
	back := m.s.horizon * k
	hidden, ok := m.pass(back, unit)
	if !ok {
		return
	}
	for i := range m.grad {
		m.grad[i] = 0
	}
	var dh [lstmHidden]float64
	for a, l := range m.lags {
		y := (m.s.mean(back-l.samples) - m.s.mean(back)) / unit
		if math.IsNaN(y) {
			continue
		}
		for i, p := range Levels {
			d := 1 - p // the loss's slope
			if y > m.output(&hidden, a, i) {
				d = -p
			}
			w, g := m.head(m.net, a, i), m.head(m.grad, a, i)
			floats.AddScaled(g[:lstmHidden], d, hidden[:])
			g[lstmHidden] += d
			floats.AddScaled(dh[:], d, w[:lstmHidden])
		}
	}
	m.backward(dh)
	m.adam()
}

// backward adds the gradients of the gates, from the last input to the first.
func (m *lstm) backward(dh [lstmHidden]float64) {
	var ds [lstmHidden]float64
	for t := lstmSteps - 1; t >= 0; t-- {
		c := &m.cells[t]
		var dg [lstmGates]float64
		for j := range dh {
			in, forget, out, cand := c.gate[j], c.gate[lstmHidden+j], c.gate[2*lstmHidden+j], c.gate[3*lstmHidden+j]
			ds[j] += dh[j] * out * (1 - c.tanh[j]*c.tanh[j])
			dg[j] = ds[j] * cand * in * (1 - in)
			dg[lstmHidden+j] = ds[j] * c.before[j] * forget * (1 - forget)
			dg[2*lstmHidden+j] = dh[j] * c.tanh[j] * out * (1 - out)
			dg[3*lstmHidden+j] = ds[j] * in * (1 - cand*cand)
			ds[j] *= forget
		}
		dh = [lstmHidden]float64{}
		for g, d := range dg {
			row := m.net[g*lstmIn : (g+1)*lstmIn]
			floats.AddScaled(m.grad[g*lstmIn:(g+1)*lstmIn], d, c.in[:])
			floats.AddScaled(dh[:], d, row[:lstmHidden])
		}
	}
}

// adam moves the weights (Kingma and Ba 2015), with the gradient's norm bounded
// at 5.
func (m *lstm) adam() {
	m.n++
	if norm := floats.Norm(m.grad, 2); norm > 5 {
		floats.Scale(5/norm, m.grad)
	}
	t := float64(min(m.n, 10000))
	fix1, fix2 := 1-math.Pow(0.9, t), 1-math.Pow(0.999, t)
	for i, g := range m.grad {
		m.m1[i] += 0.1 * (g - m.m1[i])
		m.m2[i] += 0.001 * (g*g - m.m2[i])
		m.net[i] -= lstmRate * (m.m1[i] / fix1) / (math.Sqrt(m.m2[i]/fix2) + 1e-8)
	}
}

// forecast sets the quantiles of all steps; between scored ones, on a line.
func (m *lstm) forecast(unit float64) bool {
	hidden, ok := m.pass(0, unit)
	if !ok {
		return false
	}
	last := m.s.mean(0)
	var before Quantiles
	from := 0
	for a, l := range m.lags {
		var now Quantiles
		for i := range now {
			now[i] = m.output(&hidden, a, i) * unit
		}
		for h := from + 1; h <= l.steps; h++ {
			share := float64(h-from) / float64(l.steps-from)
			for i := range now {
				m.cached[h-1][i] = last + before[i] + share*(now[i]-before[i])
			}
			m.cached[h-1].tidy()
		}
		before, from = now, l.steps
	}
	return true
}

func (m *lstm) Forecast(h int, dst []Quantiles) bool {
	if m.ready {
		copy(dst[:h], m.cached)
	}
	return m.ready
}

func (m *lstm) state(c *codec) {
	m.scale.state(c)
	c.numbers(m.net)
	c.numbers(m.m1)
	for i := range m.m2 {
		c.positive(&m.m2[i])
	}
	c.int64(&m.n, maxCount)
	c.bool(&m.ready)
	for h := range m.cached {
		c.numbers(m.cached[h][:])
		m.cached[h].tidy()
	}
}
