package simulate

import (
	"math"
	"slices"
)

// selector chooses which VM leaves an over-utilised host; -1 for none.
type selector func(st *stage, i int) int

// leastMemory is CloudSim's «minimum migration time».
func leastMemory(st *stage, i int) int {
	best, least := -1, math.Inf(1)
	for _, v := range st.hosts[i].vms {
		if g := &st.guests[v]; !g.moving && g.Memory < least {
			best, least = v, g.Memory
		}
	}
	return best
}

// mostCorrelated is CloudSim's «maximum correlation»: the VM whose history the
// others explain best, by the coefficient of determination of a linear
// regression. Where that cannot be computed the least memory decides.
func mostCorrelated(st *stage, i int) int {
	var vms []int
	samples := historyLength
	for _, v := range st.hosts[i].vms {
		if !st.guests[v].moving {
			vms = append(vms, v)
			samples = min(samples, st.guests[v].samples)
		}
	}
	if len(vms) < 2 || samples < len(vms) {
		return leastMemory(st, i)
	}
	best, most := vms[0], math.SmallestNonzeroFloat64
	for k, v := range vms {
		r2, ok := st.determination(vms, k, samples)
		if !ok {
			return leastMemory(st, i)
		}
		if r2 > most {
			best, most = v, r2
		}
	}
	return best
}

// determination is R² of VM vms[k]'s history regressed on the others' with an
// intercept; false when the regression is singular.
func (st *stage) determination(vms []int, k, samples int) (float64, bool) {
	ones := make([]float64, samples)
	for i := range ones {
		ones[i] = 1
	}
	columns := [][]float64{ones}
	for j, v := range vms {
		if j != k {
			columns = append(columns, st.guests[v].history[:samples])
		}
	}
	y := st.guests[vms[k]].history[:samples]
	coefficients, ok := leastSquares(columns, y)
	if !ok {
		return 0, false
	}
	var rest, mean, total float64
	for r, v := range y {
		fitted := 0.0
		for c, b := range coefficients {
			fitted += columns[c][r] * b
		}
		rest += (v - fitted) * (v - fitted)
		off := v - mean
		step := off / float64(r+1)
		mean += step
		total += float64(r) * off * step
	}
	return 1 - rest/total, true
}

// leastSquares solves for the coefficients of the columns that fit y best, by
// Householder reflections. Like the library that CloudSim uses it calls a
// problem singular only when a column vanishes exactly.
func leastSquares(columns [][]float64, y []float64) ([]float64, bool) {
	q := make([][]float64, len(columns))
	for c := range columns {
		q[c] = slices.Clone(columns[c])
	}
	y = slices.Clone(y)
	diagonal := make([]float64, len(q))
	for c, col := range q {
		norm := 0.0
		for _, x := range col[c:] {
			norm += x * x
		}
		if norm == 0 {
			return nil, false
		}
		a := math.Sqrt(norm)
		if col[c] > 0 {
			a = -a
		}
		diagonal[c] = a
		col[c] -= a
		for _, other := range q[c+1:] {
			reflect(other, col, c, a)
		}
		reflect(y, col, c, a)
	}
	for c := len(q) - 1; c >= 0; c-- {
		y[c] /= diagonal[c]
		for r := range c {
			y[r] -= y[c] * q[c][r]
		}
	}
	return y[:len(q)], true
}

// reflect applies the reflection of column c, whose diagonal is a, to x.
func reflect(x, col []float64, c int, a float64) {
	dot := 0.0
	for r := c; r < len(col); r++ {
		dot += x[r] * col[r]
	}
	dot /= a * col[c]
	for r := c; r < len(col); r++ {
		x[r] += dot * col[r]
	}
}
