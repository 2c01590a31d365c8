package predict

import "math"

// gains is the filter of an ARMA without gaps, less its state. From its long-run value
// the filter's variance moves by a matrix of rank one, scale times along along', which
// moves on by itself (Morf, Sidhu and Kailath 1974; Mélard 1984): O(n) a value where the
// filter needs O(n^2).
type gains struct {
	filter                         // of which the shape and phi count
	next, along [stateMost]float64 // next: what an innovation moves the next state by, times f
	scale       float64
	variance    float64 // of the next innovation, over sigma2
	inverse     float64
	rests       bool
}

func (m *arima) gains() gains {
	g := gains{filter: filter{r: max(m.p, m.q+1)}, next: m.longRun()}
	g.n = g.r
	copy(g.phi[:], m.phi[:m.p])
	g.variance = g.next[0]
	g.inverse = 1 / g.variance
	g.advance(&g.next)
	g.along, g.scale = g.next, -g.inverse
	return g
}

// move goes on by one value.
func (g *gains) move() {
	if g.rests {
		return
	}
	v, next, was := &g.along, &g.next, g.variance
	first := v[0]
	g.variance += g.scale * first * first
	share, by := first*g.inverse, g.scale*first
	v0, v1, v2, v3, v4 := g.phi[0]*first+v[1], g.phi[1]*first+v[2], g.phi[2]*first+v[3], g.phi[3]*first+v[4], g.phi[4]*first
	v[0], v[1], v[2], v[3], v[4] = v0-share*next[0], v1-share*next[1], v2-share*next[2], v3-share*next[3], v4-share*next[4]
	next[0] += by * v0
	next[1] += by * v1
	next[2] += by * v2
	next[3] += by * v3
	next[4] += by * v4
	g.inverse = 1 / g.variance
	g.scale *= was * g.inverse
}

// settle notes whether the variance has come to rest.
func (g *gains) settle() {
	var size float64
	for _, v := range g.along[:arimaMost] {
		if v *= v; v > size {
			size = v
		}
	}
	g.rests = g.rests || -g.scale*g.inverse*size < settled
}

// exactly is the exact Gaussian log-likelihood of w, differenced and without gaps, at
// the constant that makes it largest: profile at a fraction of its cost.
func (m *arima) exactly(w []float64) {
	g := m.gains()
	var a, beside [stateMost]float64 // states of the values, and of a constant 1
	var sums normal
	var logs float64
	n, det := 0, 1.0
	for t, v := range w {
		e, u := v-m.constant-a[0], 0.0
		g.follow(&a, e*g.inverse)
		if m.order.constant {
			u = 1 - beside[0]
			g.follow(&beside, u*g.inverse)
		}
		if g.variance < diffuseCut {
			n++
			sums.add(e, u, g.inverse)
			det *= g.variance
		}
		if det > 1e100 || det < 1e-100 { // one logarithm for many factors
			logs += math.Log(det)
			det = 1
		}
		if t%8 == 0 {
			g.settle()
		}
		g.move()
	}
	m.conclude(&sums, logs+math.Log(det), n)
}

// invert turns the MA part into the one of the same likelihood that is invertible, as
// R's arima does in the end: the one whose innovations the filter comes to see.
func (m *arima) invert() {
	if m.q == 0 || invertible(m.theta[:m.q]) {
		return
	}
	g := m.gains()
	for range invertMost {
		if g.settle(); g.rests {
			break
		}
		g.move()
	}
	for i := range m.q {
		m.theta[i] = g.next[i]*g.inverse - m.phi[i]
	}
	m.sigma2 *= g.variance
}

const invertMost = 4096 // values until the filter is at rest

func invertible(theta []float64) bool {
	var ma [arimaMost]float64
	for i, v := range theta {
		ma[i] = -v
	}
	_, ok := partial(ma[:len(theta)])
	return ok
}

// follow advances a state and moves it by so much of next.
func (g *gains) follow(a *[stateMost]float64, by float64) {
	first, next := a[0], &g.next
	a[0] = g.phi[0]*first + a[1] + next[0]*by
	a[1] = g.phi[1]*first + a[2] + next[1]*by
	a[2] = g.phi[2]*first + a[3] + next[2]*by
	a[3] = g.phi[3]*first + a[4] + next[3]*by
	a[4] = g.phi[4]*first + next[4]*by
}

// longRun is the covariance of each state of the filter with the value, over sigma2,
// when the process has run for ever: with psi, the weights of past innovations, and
// gamma, the autocovariances, which solve the equations of Yule and Walker (Brockwell
// and Davis 1991, 3.3).
func (m *arima) longRun() (out [stateMost]float64) {
	var psi, moved [arimaMost + 1]float64 // moved[k]: of the MA part and the value k before
	theta := [arimaMost + 1]float64{1}
	copy(theta[1:], m.theta[:m.q])
	for k := range psi {
		psi[k] = theta[k]
		for j := range min(k, m.p) {
			psi[k] += m.phi[j] * psi[k-1-j]
		}
	}
	for k := range moved {
		for j := k; j <= m.q; j++ {
			moved[k] += theta[j] * psi[j-k]
		}
	}
	gamma := m.autocovariances(moved)
	out[0] = gamma[0]
	for i := 1; i < max(m.p, m.q+1); i++ {
		for j := i; j < m.p; j++ {
			out[i] += m.phi[j] * gamma[j-i+1]
		}
		for j := i; j <= m.q; j++ {
			out[i] += theta[j] * psi[j-i]
		}
	}
	return out
}

// autocovariances solves gamma_k - phi_1 gamma_|k-1| - .. = moved_k for k = 0..p, by
// elimination.
func (m *arima) autocovariances(moved [arimaMost + 1]float64) (gamma [arimaMost + 1]float64) {
	n := m.p + 1
	var a [arimaMost + 1][arimaMost + 1]float64
	for k := range n {
		a[k][k]++
		for j := 1; j <= m.p; j++ {
			a[k][max(k-j, j-k)] -= m.phi[j-1]
		}
	}
	for i := range n {
		top := i
		for k := i + 1; k < n; k++ {
			if abs(a[k][i]) > abs(a[top][i]) {
				top = k
			}
		}
		a[i], a[top], moved[i], moved[top] = a[top], a[i], moved[top], moved[i]
		for k := i + 1; k < n; k++ {
			share := a[k][i] / a[i][i]
			for j := i; j < n; j++ {
				a[k][j] -= share * a[i][j]
			}
			moved[k] -= share * moved[i]
		}
	}
	for i := n - 1; i >= 0; i-- {
		gamma[i] = moved[i]
		for j := i + 1; j < n; j++ {
			gamma[i] -= a[i][j] * gamma[j]
		}
		gamma[i] /= a[i][i]
	}
	return gamma
}
