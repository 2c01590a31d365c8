package simulate

import (
	"math"
	"slices"
)

// detector says when a host is over-utilised, from its sums.
type detector interface {
	over(h *machine, s *sums) bool
}

// The published detectors (Beloglazov and Buyya 2012, section 5), as CloudSim
// computes them. They fall back on a threshold while history is short.
type (
	// threshold: requests above a fixed share of capacity.
	threshold float64
	// quartiles: requests above 1 - s * interquartile range of the history.
	quartiles float64
	// deviation: requests above 1 - s * median absolute deviation.
	deviation float64
	// regression: the line through the last ten values, carried on to the
	// end of the longest migration and scaled by s, reaches capacity. CloudSim
	// names it local regression; its weights are never applied.
	regression struct{ safety float64 }
)

const (
	fallback      = threshold(0.7)
	shortHistory  = 12
	regressionLen = 10
)

func (t threshold) over(h *machine, s *sums) bool { return s.requested/h.capacity > float64(t) }

func (q quartiles) over(h *machine, s *sums) bool {
	if s.length < shortHistory {
		return fallback.over(h, s)
	}
	x := s.sorted()
	n := float64(len(x) + 1)
	iqr := x[int(math.Floor(0.75*n+0.5))-1] - x[int(math.Floor(0.25*n+0.5))-1]
	return threshold(1-float64(q)*iqr).over(h, s)
}

func (d deviation) over(h *machine, s *sums) bool {
	if s.length < shortHistory {
		return fallback.over(h, s)
	}
	x := s.sorted()
	m := median(x)
	for i := range x {
		x[i] = math.Abs(m - x[i])
	}
	slices.Sort(x)
	return threshold(1-float64(d)*median(x)).over(h, s)
}

func (s *sums) sorted() []float64 {
	x := slices.Clone(s.history[:s.length])
	slices.Sort(x)
	return x
}

func median(sorted []float64) float64 {
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return sorted[n/2-1] + 0.5*(sorted[n/2]-sorted[n/2-1])
}

func (r regression) over(h *machine, s *sums) bool {
	if s.length < regressionLen {
		return fallback.over(h, s)
	}
	var mean, slope float64
	for i := range regressionLen {
		y := s.history[regressionLen-1-i] // oldest first
		mean += y / regressionLen
		slope += y * (float64(i) - 4.5) / 82.5
	}
	// Migrations end within one step: the next value is what matters.
	return r.safety*(mean+slope*5.5) >= 1
}
