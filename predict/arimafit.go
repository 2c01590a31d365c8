package predict

import (
	"math"
	"slices"
)

// search looks for the parameters of one model with the highest likelihood, one
// evaluation at a time, so that a fit can be spread over many samples: along
// each axis in turn, by a step that grows with success and shrinks with
// failure. AR and MA parameters are inverse hyperbolic tangents of partial
// autocorrelations, which keeps every model stationary and invertible.
type search struct {
	best  arima
	mean  float64 // centre of the constant, which profile works out
	x     vector
	step  vector
	axis  int
	sign  float64
	moved bool // at the present axis
	evals int
	rough bool // conditional sums of squares of the differences, not the likelihood
}

const (
	searchStep  = 0.4
	searchDone  = 2e-3 // a step so small moves the log-likelihood by some hundredths
	searchBound = 3.5  // tanh(3.5) = 0.998: further lies what sound refuses
	searchEvals = 400  // most evaluations of one model
)

func newSearch(o order, mean float64) search {
	s := search{best: arima{order: o, loglik: -limit, aicc: limit}, sign: 1}
	for i := range o.free() {
		s.step[i] = searchStep
	}
	if o.constant {
		s.mean = mean
	}
	return s
}

// model turns parameters into a model.
func (s *search) model() arima {
	o := s.best.order
	m := arima{order: o, phi: fromPartial(s.x[:o.p]), theta: fromPartial(s.x[o.p : o.p+o.q])}
	for i := range o.q {
		m.theta[i] = -m.theta[i]
	}
	m.constant = s.mean
	return m
}

// fromPartial turns tangents of partial autocorrelations into coefficients, by
// Durbin's recursion (Jones 1980).
func fromPartial(x []float64) (phi [arimaMost]float64) {
	for n, v := range x {
		k := math.Tanh(v)
		before := phi
		for i := range n {
			phi[i] = before[i] - k*before[n-1-i]
		}
		phi[n] = k
	}
	return phi
}

// next makes one evaluation and says whether the search is over.
func (s *search) next(x []float64) (done bool) {
	n := s.best.free()
	if s.evals++; s.evals == 1 {
		s.best = s.model()
		s.evaluate(&s.best, x)
		return n == 0
	}
	i := s.axis
	was := s.x[i]
	s.x[i] = min(max(s.x[i]+s.sign*s.step[i], -searchBound), searchBound)
	m := s.model()
	s.evaluate(&m, x)
	if m.loglik > s.best.loglik {
		s.best = m
		s.step[i] *= 1.6
		s.moved = true
		return s.evals > searchEvals
	}
	s.x[i] = was
	switch {
	case s.moved: // the way is at its end: the next axis
		s.step[i] *= 0.5
	case s.sign > 0:
		s.sign = -1
		return s.evals > searchEvals
	default:
		s.step[i] *= 0.25
	}
	// A step that is not worth trying now may be when other axes have moved.
	s.step[i] = max(s.step[i], s.enough()/2)
	s.axis, s.sign, s.moved = (i+1)%n, 1, false
	return s.evals > searchEvals || s.axis == 0 && s.small()
}

func (s *search) evaluate(m *arima, x []float64) {
	if s.rough {
		m.conditional(x)
		return
	}
	m.profile(x)
}

// small says whether all steps are too small to matter.
func (s *search) small() bool {
	for _, step := range s.step[:s.best.free()] {
		if step > s.enough() {
			return false
		}
	}
	return true
}

// enough is the step that is small enough.
func (s *search) enough() float64 {
	if s.rough {
		return 16 * searchDone
	}
	return searchDone
}

// selection is the stepwise search of Hyndman and Khandakar (2008) for an
// order: d by the KPSS test, then from four models on to neighbours as long as
// AICc falls. A rough one compares models by their conditional sums of squares, as
// auto.arima does with long series, and fits the chosen one by exact likelihood. It can be interrupted after any evaluation.
type selection struct {
	x     []float64
	diff  []float64 // x differenced d times, in unit
	unit  float64
	rough bool
	final bool   // the chosen model is being fitted exactly
	start vector // parameters of best
	d     int
	mean  float64 // of the differences
	tried []order
	queue []order
	best  arima
	now   search
	busy  bool
}

const (
	selectionMost = 40  // models tried at most
	roughAbove    = 150 // samples, as in R
)

func newSelection(x []float64, rough bool) *selection {
	s := &selection{x: x, d: differences(x), best: arima{aicc: limit}, rough: rough}
	s.mean = s.difference()
	c := s.d <= 1
	s.queue = []order{{2, s.d, 2, c}, {0, s.d, 0, c}, {1, s.d, 0, c}, {0, s.d, 1, c}}
	if c {
		s.queue = append(s.queue, order{0, s.d, 0, false})
	}
	return s
}

// work makes at most evals evaluations and says whether the selection is over.
func (s *selection) work(evals int) (done bool) {
	for range evals {
		if !s.busy && !s.take() {
			return true
		}
		if !s.now.next(s.data()) {
			continue
		}
		s.busy = false
		if s.now.best.aicc < s.best.aicc && s.now.best.sound() {
			s.best, s.start = s.now.best, s.now.x
			// The first neighbours of the start are looked at when all four
			// starting models are known.
			if len(s.tried) > 5 {
				s.queue = nil
			}
		}
		if len(s.queue) == 0 && !s.final {
			s.queue = s.best.neighbours()
		}
	}
	return false
}

// difference sets diff and unit from x and d, and returns the mean of the
// differences. A rough search sees them in units of about their standard deviation,
// powers of two of those of x: which model wins by a hair must not depend on the
// unit of the series.
func (s *selection) difference() (mean float64) {
	s.diff, s.unit = s.x, 1
	for range s.d {
		s.diff = difference(s.diff)
	}
	gamma, mean, _ := autocovariance(s.diff, 0)
	if !s.rough || !(gamma[0] > 0) {
		return mean
	}
	_, exponent := math.Frexp(math.Sqrt(gamma[0]))
	s.unit = math.Ldexp(1, exponent)
	s.diff = slices.Clone(s.diff)
	for i := range s.diff {
		s.diff[i] /= s.unit
	}
	return mean
}

// data is what the present search looks at.
func (s *selection) data() []float64 {
	if s.now.rough {
		return s.diff
	}
	return s.x
}

// finish starts the exact fit of the model chosen; false when there is none to
// do. The parameters found so far stand if the fit ends nearly not stationary.
func (s *selection) finish() bool {
	if !s.rough || s.final || s.best.aicc >= limit {
		return false
	}
	s.final, s.busy = true, true
	s.now = newSearch(s.best.order, s.mean)
	s.now.x = s.start
	for i := range s.best.free() {
		s.now.step[i] = searchStep / 4
	}
	s.best = s.now.model()
	s.best.profile(s.x)
	return true
}

// near lets the present search begin where the best model so far is.
func (s *selection) near() {
	n, b := &s.now, s.best
	copy(n.x[:min(n.best.p, b.p)], s.start[:])
	copy(n.x[n.best.p:n.best.p+min(n.best.q, b.q)], s.start[b.p:])
	for i := range n.best.free() {
		n.step[i] = searchStep / 2
	}
}

// take starts the next model that was not tried yet.
func (s *selection) take() bool {
	for len(s.queue) > 0 && len(s.tried) < selectionMost {
		o := s.queue[0]
		s.queue = s.queue[1:]
		if slices.Contains(s.tried, o) {
			continue
		}
		s.tried = append(s.tried, o)
		s.now, s.busy = newSearch(o, s.mean/s.unit), true
		s.now.rough = s.rough
		if len(s.tried) > 5 {
			s.near()
		}
		return true
	}
	return s.finish()
}

// neighbours in the order in which Hyndman and Khandakar look at them.
func (o order) neighbours() (out []order) {
	for _, step := range [][2]int{{-1, 0}, {0, -1}, {1, 0}, {0, 1}, {-1, -1}, {-1, 1}, {1, -1}, {1, 1}} {
		n := order{o.p + step[0], o.d, o.q + step[1], o.constant}
		if n.p >= 0 && n.q >= 0 && n.p <= arimaMost && n.q <= arimaMost && n.p+n.q <= arimaSum {
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

func inside(phi []float64) bool {
	a := slices.Clone(phi)
	scale := 1.0
	for i := range a {
		scale *= 1.01
		a[i] *= scale
	}
	for n := len(a) - 1; n >= 0; n-- { // Durbin's recursion backwards
		k := a[n]
		if math.Abs(k) >= 1 {
			return false
		}
		before := slices.Clone(a[:n])
		for i := range before {
			a[i] = (before[i] + k*before[n-1-i]) / (1 - k*k)
		}
	}
	return true
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
