package predict

import "math"

// exactly is the exact Gaussian log-likelihood of w, differenced and without gaps, at
// the constant that makes it largest: profile at a fraction of its cost. From its
// long-run value the filter's variance moves by a matrix of rank one, along, which
// moves on by itself (Morf, Sidhu and Kailath 1974; Mélard 1984): O(n) a value where
// the filter needs O(n^2).
func (m *arima) exactly(w []float64) {
	k := filter{r: max(m.p, m.q+1)}
	k.n = k.r
	copy(k.phi[:], m.phi[:m.p])
	gain := m.longRun() // what an innovation moves the next state by, times f
	f := gain[0]
	k.advance(&gain)
	along, scale, inverse := gain, -1/f, 1/f
	rests := false
	var a, beside [stateMost]float64 // states of the values, and of a constant 1
	var sums normal
	var logs float64
	n, det := 0, 1.0
	for t, v := range w {
		e, u := v-m.constant-a[0], 0.0
		k.follow(&a, &gain, e*inverse)
		if m.order.constant {
			u = 1 - beside[0]
			k.follow(&beside, &gain, u*inverse)
		}
		if f < diffuseCut {
			n++
			sums.add(e, u, inverse)
			det *= f
		}
		if det > 1e100 || det < 1e-100 { // one logarithm for many factors
			logs += math.Log(det)
			det = 1
		}
		if rests = rests || t%8 == 0 && resting(&along, scale*inverse); rests {
			continue
		}
		first, was := along[0], f
		k.advance(&along)
		f += scale * first * first
		share := first * inverse
		for i := range k.n {
			before := gain[i]
			gain[i] += scale * first * along[i]
			along[i] -= share * before
		}
		inverse = 1 / f
		scale *= was * inverse
	}
	m.conclude(&sums, logs+math.Log(det), n)
}

// follow advances a state and moves it by so much of gain.
func (k *filter) follow(a, gain *[stateMost]float64, by float64) {
	k.advance(a)
	for i := range k.n {
		a[i] += gain[i] * by
	}
}

// resting says that a variance which moves by scale times along along' stays.
func resting(along *[stateMost]float64, scale float64) bool {
	var size float64
	for _, v := range along {
		size = max(size, v*v)
	}
	return -scale*size < settled
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
