package predict

import "math"

const (
	arimaMost  = 5             // highest p and q
	stateMost  = arimaMost + 3 // max(p, q+1) + d
	diffuse    = 1e6           // variance of what is not known at all
	diffuseCut = 1e4           // innovations above it carry no likelihood
	settled    = 1e-10         // relative change of a variance that has come to rest
)

// order is the shape of an ARIMA(p,d,q), with or without a constant: the mean
// when d is 0, the drift when d is 1.
type order struct {
	p, d, q  int
	constant bool
}

// free is the number of parameters that a search looks for.
func (o order) free() int { return o.p + o.q }

// params counts the constant as well.
func (o order) params() int {
	n := o.free()
	if o.constant {
		n++
	}
	return n
}

// arima is a fitted model.
type arima struct {
	order
	phi, theta [arimaMost]float64
	constant   float64
	sigma2     float64 // innovation variance: likelihood's, not corrected for parameters
	loglik     float64
	aicc       float64
}

// filter is the Kalman filter of an ARIMA in the state-space form of Durbin and
// Koopman that R's arima uses: an ARMA block and the last d values. A missing
// value is passed over, by prediction alone; an update costs the same whatever
// the length of the past.
type filter struct {
	n      int // states
	r      int // ARMA states: max(p, q+1)
	phi    [stateMost]float64
	impact [stateMost]float64 // of an innovation on each state
	delta  [2]float64
	d      int

	a      [stateMost]float64
	p      [stateMost][stateMost]float64 // prediction variance for the next value, over sigma2
	gain   [stateMost]float64
	share  [stateMost]float64 // gain over f: what an innovation moves each state by
	f      float64            // variance of the next innovation, over sigma2
	steady bool               // p, gain and f no longer change
}

func newFilter(m *arima) filter {
	k := filter{r: max(m.p, m.q+1), d: m.d}
	k.n = k.r + m.d
	k.delta = [3][2]float64{{}, {1}, {2, -1}}[m.d]
	copy(k.phi[:], m.phi[:m.p])
	k.impact[0] = 1
	copy(k.impact[1:], m.theta[:m.q])
	k.stationary()
	for i := k.r; i < k.n; i++ {
		k.p[i][i] = diffuse
	}
	k.weigh()
	return k
}

// stationary sets the ARMA block's variance to its long-run value, by doubling
// P = sum of T^j V T'^j.
func (k *filter) stationary() {
	type block [arimaMost + 1][arimaMost + 1]float64
	var t, v block
	for i := range k.r {
		t[i][0] = k.phi[i]
		if i+1 < k.r {
			t[i][i+1] = 1
		}
		for j := range k.r {
			v[i][j] = k.impact[i] * k.impact[j]
		}
	}
	times := func(a, b *block, transposed bool) (c block) {
		for i := range k.r {
			for j := range k.r {
				for l := range k.r {
					if transposed {
						c[i][j] += a[i][l] * b[j][l]
					} else {
						c[i][j] += a[i][l] * b[l][j]
					}
				}
			}
		}
		return c
	}
	for range 40 {
		tv := times(&t, &v, false)
		add := times(&tv, &t, true)
		var change, size float64
		for i := range k.r {
			for j := range k.r {
				v[i][j] += add[i][j]
				change = max(change, math.Abs(add[i][j]))
				size = max(size, math.Abs(v[i][j]))
			}
		}
		if !(change > 1e-14*size) || size > diffuse {
			break
		}
		t = times(&t, &t, false)
	}
	for i := range k.r {
		copy(k.p[i][:k.r], v[i][:k.r])
	}
}

// predict returns what the next value should be, at the present state.
func (k *filter) predict() float64 { return k.predictAt(&k.a) }

func (k *filter) predictAt(a *[stateMost]float64) float64 {
	y := a[0]
	for i := range k.d {
		y += k.delta[i] * a[k.r+i]
	}
	return y
}

// weigh works out gain and f from p.
func (k *filter) weigh() {
	for i := range k.n {
		k.gain[i] = k.p[i][0]
		for j := range k.d {
			k.gain[i] += k.p[i][k.r+j] * k.delta[j]
		}
	}
	k.f = k.gain[0]
	for j := range k.d {
		k.f += k.delta[j] * k.gain[k.r+j]
	}
	k.share = [stateMost]float64{}
	if k.f > 0 {
		for i := range k.n {
			k.share[i] = k.gain[i] / k.f
		}
	}
}

// observe takes the next value, NaN when missing, and moves one step on. It
// returns the innovation and its variance over sigma2.
func (k *filter) observe(y float64) (innovation, f float64) {
	f = k.f
	innovation = k.move(&k.a, y)
	missing := math.IsNaN(innovation)
	if missing {
		k.steady = false
	}
	if !k.steady {
		k.update(missing)
	}
	return innovation, f
}

// move takes the next value into a state and moves that one step on. It returns
// the innovation, NaN when the value is missing.
func (k *filter) move(a *[stateMost]float64, y float64) float64 {
	innovation := y - k.predictAt(a)
	if !math.IsNaN(innovation) {
		for i := range k.n {
			a[i] += k.share[i] * innovation
		}
	}
	k.advance(a)
	return innovation
}

// update moves the variance on: first what the value taught, then one step. The
// transition T has at most three entries a row, and the variance is symmetric.
func (k *filter) update(missing bool) {
	var tv [stateMost][stateMost]float64
	share := k.share
	if missing {
		share = [stateMost]float64{}
	}
	r := k.r
	for j := range k.n { // T V, column by column, of V = P - share gain'
		g := k.gain[j]
		first := k.p[0][j] - share[0]*g
		for i := range r - 1 {
			tv[i][j] = k.phi[i]*first + k.p[i+1][j] - share[i+1]*g
		}
		tv[r-1][j] = k.phi[r-1] * first
		if k.d > 0 {
			last := k.p[r][j] - share[r]*g
			tv[r][j] = first + k.delta[0]*last
			if k.d > 1 {
				tv[r][j] += k.delta[1] * (k.p[r+1][j] - share[r+1]*g)
				tv[r+1][j] = last
			}
		}
	}
	change := 0.0
	for i := range k.n { // (T V) T', row by row, below the diagonal
		row := &tv[i]
		k.advance(row)
		for j := range i + 1 {
			was, is := k.p[i][j], row[j]+k.impact[i]*k.impact[j]
			// The gain alone may pause without having come to rest.
			change = max(change, math.Abs(is-was)-settled*math.Abs(was))
			k.p[i][j], k.p[j][i] = is, is
		}
	}
	k.steady = !missing && change <= settled
	k.weigh()
}

// advance applies the transition to a vector.
func (k *filter) advance(v *[stateMost]float64) {
	first, last := v[0], k.r-1
	for i := range last {
		v[i] = k.phi[i]*first + v[i+1]
	}
	v[last] = k.phi[last] * first
	switch k.d {
	case 1:
		v[k.r] = first + k.delta[0]*v[k.r]
	case 2:
		v[k.r], v[k.r+1] = first+k.delta[0]*v[k.r]+k.delta[1]*v[k.r+1], v[k.r]
	}
}

// trend is what the constant adds to the value at time t.
func (m *arima) trend(t int) float64 {
	return m.constant * m.regressor(t)
}

// normal holds the sums of the normal equation of one regressor, the constant.
type normal struct{ ee, eu, uu float64 }

// add takes an innovation of the values, the same of the regressor, and the inverse
// of the variance that both have.
func (s *normal) add(e, u, w float64) {
	s.ee += e * e * w
	s.eu += e * u * w
	s.uu += u * u * w
}

// solve returns the sum of squares at the best constant, and that constant; 0 when
// there is no regressor.
func (s *normal) solve() (squares, best float64) {
	if !(s.uu > 0) {
		return s.ee, 0
	}
	best = s.eu / s.uu
	return max(0, s.ee-best*s.eu), best
}

// inform sets aicc of a log-likelihood of n values.
func (m *arima) inform(n float64) {
	params := float64(m.params() + 1)
	if left := n - params - 1; left > 0 {
		m.aicc = -2*m.loglik + 2*params*n/left
	}
}

// likelihood filters x, whose first value has time 1, and sets sigma2, loglik
// and aicc. It returns the filter, ready for the next value.
func (m *arima) likelihood(x []float64) filter { return m.run(x, false) }

// profile is likelihood at the constant that makes it largest: generalised least
// squares of the values on 1, or on the time, through the same filter (Harvey
// 1989, section 3.4). The constant it starts from is only a centre. A search
// need not look for the constant then.
func (m *arima) profile(x []float64) filter { return m.run(x, m.order.constant) }

func (m *arima) run(x []float64, solve bool) filter {
	k := newFilter(m)
	var sums normal
	var beside [stateMost]float64 // the regressor's state
	var logs float64
	n, det := 0, 1.0
	for t, v := range x {
		v -= m.trend(t + 1)
		var u float64
		if solve {
			u = k.move(&beside, m.regressor(t+1)+0*v) // missing where the value is
		}
		e, f := k.observe(v)
		if math.IsNaN(e) || f >= diffuseCut {
			continue
		}
		n++
		sums.add(e, u, 1/f)
		if det *= f; det > 1e100 || det < 1e-100 { // one logarithm for many factors
			logs += math.Log(det)
			det = 1
		}
	}
	logs += math.Log(det)
	more := m.conclude(&sums, logs, n)
	for i := range k.n {
		k.a[i] -= more * beside[i]
	}
	return k
}

// conclude sets sigma2, loglik and aicc from the sums over n innovations and the
// logarithm of the product of their variances, and corrects the constant, if sums say
// so; it returns by how much.
func (m *arima) conclude(sums *normal, logs float64, n int) (more float64) {
	m.loglik, m.aicc = -limit, limit
	if n == 0 {
		return 0
	}
	squares, more := sums.solve()
	m.constant += more
	m.sigma2 = max(squares/float64(n), 1/(limit*limit)) // a constant has no innovations
	m.loglik = -0.5 * (float64(n)*(math.Log(2*math.Pi*m.sigma2)+1) + logs)
	m.inform(float64(n))
	return more
}

// regressor is what one unit of the constant adds to the value at time t.
func (m *arima) regressor(t int) float64 {
	if m.d == 0 {
		return 1
	}
	return float64(t)
}
