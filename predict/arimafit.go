package predict

import (
	"cmp"
	"math"
	"slices"
)

// selection is the stepwise search of Hyndman and Khandakar (2008) for an order, as
// R's auto.arima makes it: d by the KPSS test, then from four models on to neighbours
// as long as AICc falls. Long series compare models by conditional sums of squares and
// fit the best by exact likelihood, the next best if that fit ends nearly not
// stationary or not invertible. It can be interrupted after any unit of work: one model
// compared, or one step of an exact fit.
//
// It sees the series in units of about its standard deviation, powers of two of its
// own: which model wins by a hair must not depend on the unit of the series.
type selection struct {
	series  []float64
	x       []float64 // the series in unit
	unit    float64
	diff    []float64 // x differenced d times
	d       int
	most    int  // highest p and q
	exact   bool // models are compared by exact likelihood
	tried   []trial
	queue   []order
	at      order // whose neighbours are looked at
	climb   *climber
	exactly *likelihood // what climb makes large
	best    arima       // so far; in the end the one found
}

// trial is a model that was looked at.
type trial struct {
	order
	aicc float64 // limit: it is unsound
}

const (
	selectionMost = 94  // models tried at most, as in R
	exactUpTo     = 150 // values, as in R
)

func newSelection(x []float64, most int, exact bool) *selection {
	s := &selection{series: x, x: slices.Clone(x), unit: 1, d: differences(x), most: most, exact: exact, best: arima{aicc: limit}}
	if gamma, _, _ := autocovariance(x, 0); gamma[0] > 0 {
		_, exponent := math.Frexp(math.Sqrt(gamma[0]))
		s.unit = math.Ldexp(1, exponent)
		for i := range s.x {
			s.x[i] /= s.unit
		}
	}
	s.diff = differenced(s.x, s.d)
	c := s.d <= 1
	s.queue = []order{{2, s.d, 2, c}, {0, s.d, 0, c}, {1, s.d, 0, c}, {0, s.d, 1, c}}
	if c {
		s.queue = append(s.queue, order{0, s.d, 0, false})
	}
	s.at = s.queue[0]
	return s
}

// work does one unit and says whether the selection is over.
func (s *selection) work() (done bool) {
	if s.climb != nil {
		return s.climb.step() && s.settle()
	}
	for len(s.queue) > 0 && len(s.tried) < selectionMost {
		o := s.queue[0]
		s.queue = s.queue[1:]
		if !slices.ContainsFunc(s.tried, func(t trial) bool { return t.order == o }) {
			s.try(o)
			return false
		}
	}
	if s.exact {
		return true
	}
	slices.SortStableFunc(s.tried, func(a, b trial) int { return cmp.Compare(a.aicc, b.aicc) })
	s.best = arima{aicc: limit}
	return s.settle()
}

// try compares one more model with the best so far. A start that wins without a
// constant hands on its order alone, as in R.
func (s *selection) try(o order) {
	m := conditional(o, s.diff)
	if s.exact && m.aicc < limit && inside(m.phi[:m.p]) {
		c, l := climbFrom(m, s.x, climbRough)
		for !c.step() {
		}
		m = l.found()
	}
	if !m.sound() {
		m.aicc = limit
	}
	s.tried = append(s.tried, trial{o, m.aicc})
	starts := 4
	if s.d <= 1 {
		starts = 5
	}
	won := m.aicc < s.best.aicc
	if won {
		s.best = m
		s.at.p, s.at.q = o.p, o.q
	}
	if len(s.tried) > starts && won {
		s.at = o
	}
	if len(s.tried) == starts || len(s.tried) > starts && won {
		s.queue = s.at.neighbours(s.most)
	}
}

// found is the model in the unit of the series; its AICc is limit when there is none.
// Its likelihood is still that of the search.
func (s *selection) found() arima {
	m := s.best
	m.constant *= s.unit
	m.sigma2 *= s.unit * s.unit
	return m
}

// settle ends an exact fit, and begins that of the next model if it is unsound or
// there was none yet. The selection is over when it returns true.
func (s *selection) settle() (done bool) {
	if s.climb != nil {
		if m := s.exactly.found(); m.sound() {
			s.best = m
			return true
		}
	}
	for len(s.tried) > 0 && s.tried[0].aicc < limit {
		o := s.tried[0].order
		s.tried = s.tried[1:]
		s.climb, s.exactly = climbFrom(conditional(o, s.diff), s.x, climbRough)
		return false
	}
	return true
}

// neighbours in the order in which R looks at them, p and q at most most.
func (o order) neighbours(most int) (out []order) {
	for _, step := range [][2]int{{-1, 0}, {0, -1}, {1, 0}, {0, 1}, {-1, -1}, {-1, 1}, {1, -1}, {1, 1}} {
		n := order{o.p + step[0], o.d, o.q + step[1], o.constant}
		if n.p >= 0 && n.q >= 0 && n.p <= most && n.q <= most {
			out = append(out, n)
		}
	}
	if o.d <= 1 {
		out = append(out, order{o.p, o.d, o.q, !o.constant})
	}
	return out
}

// sound refuses a model whose AR or MA part is nearly not stationary or not
// invertible: a root within 1.01 of the unit circle. Scaling the coefficients
// by 1.01^i moves the roots in by as much, and then the partial
// autocorrelations tell whether one lies inside.
func (m *arima) sound() bool {
	var ma [arimaMost]float64
	for i, v := range m.theta {
		ma[i] = -v
	}
	return inside(m.phi[:m.p]) && inside(ma[:m.q])
}

// inside says whether all roots of 1 - phi_1 B - .. lie 1.01 outside of the circle.
func inside(phi []float64) bool {
	scaled, scale := slices.Clone(phi), 1.0
	for i := range scaled {
		scale *= 1.01
		scaled[i] *= scale
	}
	_, ok := partial(scaled)
	return ok
}

// differences is how often x must be differenced to be level-stationary by the
// KPSS test at 5 %, at most twice.
func differences(x []float64) int {
	for d := range 2 {
		if !(kpss(x) > 0.463) {
			return d
		}
		x = difference(x)
	}
	return 2
}

// differenced is x, differenced d times.
func differenced(x []float64, d int) []float64 {
	for range d {
		x = difference(x)
	}
	return x
}

// difference is NaN where either value is missing.
func difference(x []float64) []float64 {
	if len(x) == 0 {
		return nil
	}
	out := make([]float64, len(x)-1)
	for i := range out {
		out[i] = x[i+1] - x[i]
	}
	return out
}

// kpss is the statistic of Kwiatkowski, Phillips, Schmidt and Shin (1992) for
// level stationarity, with trunc(3*sqrt(n)/13) lags as R's ndiffs uses. Missing
// values are left out. 0 for a constant.
func kpss(x []float64) float64 {
	y := slices.DeleteFunc(slices.Clone(x), math.IsNaN)
	n := len(y)
	if n < 4 {
		return 0
	}
	gamma, mean, _ := autocovariance(y, int(3*math.Sqrt(float64(n))/13))
	variance := gamma[0]
	for l, g := range gamma[1:] {
		variance += 2 * (1 - float64(l+1)/float64(len(gamma))) * g
	}
	if !(variance > 1e-12*mean*mean) {
		return 0
	}
	var sum, squares float64
	for _, v := range y {
		sum += v - mean
		squares += sum * sum
	}
	return squares / float64(n) / float64(n) / variance
}
