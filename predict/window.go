package predict

import (
	"math"
	"slices"
)

// windowSize is how many outcomes a window remembers: enough for an empirical
// 0.99 quantile, small enough for hundreds of series.
const windowSize = 128

// window holds the last outcomes of one kind, in order of arrival and sorted.
// float32 halves the memory; the error of 1e-7 is far below any demand's noise.
type window struct {
	ring   []float32
	sorted []float32
	next   int
	levels Quantiles // quantiles at Levels, when read
	read   bool
}

func (w *window) len() int { return len(w.sorted) }

// add takes one outcome and forgets the oldest when full.
func (w *window) add(v float64) {
	f := float32(v)
	if math.IsNaN(v) || math.IsInf(float64(f), 0) {
		return
	}
	w.read = false
	to := w.rank(f)
	if len(w.ring) < windowSize {
		w.ring = append(w.ring, f)
		w.sorted = slices.Insert(w.sorted, to, f)
		return
	}
	// The new value takes the place of the oldest; what lies between them moves.
	from := w.rank(w.ring[w.next])
	if from < to {
		to--
		copy(w.sorted[from:to], w.sorted[from+1:to+1])
	} else {
		copy(w.sorted[to+1:from+1], w.sorted[to:from])
	}
	w.sorted[to] = f
	w.ring[w.next] = f
	w.next = (w.next + 1) % windowSize
}

// rank is the index of the first value that is not below f. No value is NaN, which
// slices.BinarySearch would look for at every step.
func (w *window) rank(f float32) int {
	lo, hi := 0, len(w.sorted)
	for lo < hi {
		if mid := (lo + hi) / 2; w.sorted[mid] < f {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// quantile is the conformal one, of rank p*(n+1), interpolated, at most the
// largest value. The window must not be empty.
func (w *window) quantile(p float64) float64 {
	rank := p*float64(len(w.sorted)+1) - 1
	if rank <= 0 {
		return float64(w.sorted[0])
	}
	i := int(rank)
	if i >= len(w.sorted)-1 {
		return float64(w.sorted[len(w.sorted)-1])
	}
	lo, hi := float64(w.sorted[i]), float64(w.sorted[i+1])
	return lo + (rank-float64(i))*(hi-lo)
}

// priorWeight is how many independent outcomes the model's own idea of its
// spread is worth against the spread that was seen.
const priorWeight = 5

// blend mixes the quantiles seen with those expected: at first the expected
// ones count alone, later hardly.
func (w *window) blend(prior Quantiles, independent float64) Quantiles {
	n := float64(w.len()) * independent
	if w.len() == 0 {
		return prior
	}
	if !w.read {
		for i, p := range Levels {
			w.levels[i] = w.quantile(p)
		}
		w.read = true
	}
	share := n / (n + priorWeight)
	for i, q := range w.levels {
		prior[i] += share * (q - prior[i])
	}
	return prior
}

// running is a mean and a variance with exponential forgetting; while few
// values were seen it is the plain mean.
type running struct {
	n, mean, sq float64 // sq: mean of squared deviations
}

// add takes v with a memory of about size values.
func (r *running) add(v, size float64) {
	r.n = min(r.n+1, size)
	d := v - r.mean
	r.mean += d / r.n
	r.sq += (d*(v-r.mean) - r.sq) / r.n
}

// addBounded is add for a squared error, bounded at nine times the usual one:
// a single jump says little about the noise around it. What jumps do to the
// tails is for the windows of real outcomes to show.
func (r *running) addBounded(v, size float64) {
	if r.n >= 8 {
		v = min(v, 9*r.mean)
	}
	r.add(v, size)
}

func (r *running) sd() float64 { return math.Sqrt(max(r.sq, 0)) }
