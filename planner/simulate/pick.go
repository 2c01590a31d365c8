package simulate

import "math"

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
			columns = append(columns, append([]float64(nil), st.guests[v].history[:samples]...))
		}
	}
	y := append([]float64(nil), st.guests[vms[k]].history[:samples]...)
	mean, total := 0.0, 0.0
	for _, v := range y {
		mean += v / float64(samples)
	}
	for _, v := range y {
		total += (v - mean) * (v - mean)
	}
	rest, ok := residual(columns, y)
	return 1 - rest/total, ok
}

// residual is the sum of squares that least squares leaves of y, by Householder
// reflections. It destroys its arguments.
func residual(columns [][]float64, y []float64) (float64, bool) {
	for c, col := range columns {
		norm := 0.0
		for _, x := range col[c:] {
			norm += x * x
		}
		if norm == 0 {
			return 0, false
		}
		a := math.Sqrt(norm)
		if col[c] > 0 {
			a = -a
		}
		col[c] -= a
		for _, other := range append(columns[c+1:len(columns):len(columns)], y) {
			dot := 0.0
			for r := c; r < len(col); r++ {
				dot += other[r] * col[r]
			}
			dot /= a * col[c]
			for r := c; r < len(col); r++ {
				other[r] += dot * col[r]
			}
		}
	}
	rest := 0.0
	for _, x := range y[len(columns):] {
		rest += x * x
	}
	return rest, true
}
