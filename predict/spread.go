package predict

import "math"

// spread gives a point forecaster its quantiles: at every scored horizon it
// keeps the errors that the points really had, and mixes their quantiles with
// the model's own standard deviation while there are few.
type spread struct {
	s       *series
	lags    []lag
	pending [][]float32 // per lag: points under way, NaN where none
	seen    []window    // per lag: errors
	points  []float64   // per step: the present points
	sigma   []float64   // per step: the model's standard deviation of the error
	ready   bool        // points and sigma hold a forecast
}

func newSpread(s *series, lags []lag) *spread {
	p := &spread{s: s, lags: lags, seen: make([]window, len(lags)),
		points: make([]float64, s.horizon), sigma: make([]float64, s.horizon)}
	for _, l := range lags {
		ring := make([]float32, l.slots())
		for i := range ring {
			ring[i] = float32(math.NaN())
		}
		p.pending = append(p.pending, ring)
	}
	return p
}

// restart forgets the errors: they were those of another model.
func (p *spread) restart() {
	for a := range p.pending {
		p.seen[a] = window{}
		for i := range p.pending[a] {
			p.pending[a][i] = float32(math.NaN())
		}
	}
}

// settle takes the error of every point that falls due now, and puts the
// present points under way in their place. Call it once a sample, after the
// member has set points, sigma and ready.
func (p *spread) settle() {
	y := p.s.mean(0)
	for a, l := range p.lags {
		i, ok := l.slot(p.s.t)
		if !ok {
			continue
		}
		p.seen[a].add(y - float64(p.pending[a][i])) // NaN, when either is missing, is not taken
		p.pending[a][i] = float32(math.NaN())
		if p.ready {
			p.pending[a][i] = float32(p.points[l.steps-1])
		}
	}
}

// quantiles writes the present forecast of len(dst) steps.
func (p *spread) quantiles(dst []Quantiles) bool {
	if !p.ready {
		return false
	}
	var below, above Quantiles
	var median float64
	from, to, a := 0, 0, -1
	for h := 1; h <= len(dst); h++ {
		if h > to && a < len(p.lags)-1 {
			a++
			below, from = above, to
			above, to = p.offsets(a), p.lags[a].steps
			if a == 0 {
				below, from, median = above, to-1, above[0]
			}
			// The median is corrected by the errors one step ahead alone: they show a
			// skewed series as well, and unlike those far ahead they do not go on
			// correcting for a shift that is long over.
			above[0] = median
		}
		share := min(1, float64(h-from)/float64(to-from))
		q := &dst[h-1]
		for i := range q {
			q[i] = p.points[min(h, len(p.points))-1] + below[i] + share*(above[i]-below[i])
		}
		q.tidy()
	}
	return true
}

// offsets is the distribution of the error at scored horizon a.
func (p *spread) offsets(a int) Quantiles {
	l := p.lags[a]
	var prior Quantiles
	for i, z := range gaussian {
		prior[i] = z * p.sigma[l.steps-1]
	}
	return p.seen[a].blend(prior, l.independent())
}
