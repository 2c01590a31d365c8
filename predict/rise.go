package predict

import (
	"fmt"
	"math"
)

// rise sees that demand climbs now, before any loss could show it, and speaks
// only while it does.
//
// The climb over the last 4, 8, .. 64 samples is the slope of a fitted line. Lone
// jumps are taken out first, so that a step or a burst, which is one or two
// jumps, is no climb. It counts as a rise when it stands far outside the climbs
// of the same length that noise makes and that this series usually shows.
//
// How long a rise will last is not known; that it has lasted for a time a makes
// it last another a*p/(1-p) with probability 1-p (Gott, Nature 363, 1993): the
// median rise goes on for as long as it has lasted, one in ten for nine times
// as long. So a young rise moves the high quantiles at once and the median
// hardly, and no rise is extrapolated for ever.
type rise struct {
	s      *series
	ring   [longestRise + 1]float64 // known samples only
	n      int64
	usual  [len(riseSpans)]running                 // climbs of each span
	recent [len(riseSpans)][riseLearnsLate]float64 // climbs not yet learned from
	noise  running                                 // squared second differences / 6
	jumped int64                                   // when the last jump was, 0: never
	active bool
	age    float64 // samples
	slope  float64 // per sample
	from   float64 // demand when it began
	score  float64 // times the usual climb, when it was seen
}

const (
	longestRise = 64
	// riseLearnsLate is for how many samples a climb is kept from what is usual,
	// lest a beginning rise make itself usual before it is seen.
	riseLearnsLate = 8
	minRiseSamples = 8 // must be known before anything can be called unusual
	riseAbove      = 5 // standard deviations
)

// riseSpans are the numbers of samples looked back over.
var riseSpans = [...]int{4, 8, 16, 32, 64}

func newRise(s *series) *rise { return &rise{s: s} }

func (m *rise) Name() string { return "rise" }

func (m *rise) back(i int) float64 { return m.ring[(m.n-int64(i))%int64(len(m.ring))] }

func (m *rise) Observe(x float64) {
	if math.IsNaN(x) {
		if m.s.gap > m.s.perStep+3 {
			m.active = false
		}
		if m.active {
			m.age++
		}
		return
	}
	m.n++
	m.ring[m.n%int64(len(m.ring))] = x
	m.hear(x)
	if m.active {
		m.follow()
	}
	m.detect()
}

// hear learns the noise from second differences, in which a steady climb does
// not show. A jump adds no more than a large noise would, but since the noise
// of demand grows with demand, it is taken to have grown as much.
func (m *rise) hear(x float64) {
	if m.n <= 2 {
		return
	}
	before := m.back(1)
	if m.n > 8 && x-before > 6*m.floor() {
		grown := min(10, x/max(before, 0.1*x))
		m.noise.mean *= grown * grown
		m.noise.n = min(m.noise.n, 10)
		m.jumped = m.n
	}
	if m.jumped > 0 && m.n-m.jumped < 2 {
		return // the jump itself is no noise
	}
	d := x - 2*before + m.back(2)
	m.noise.addBounded(d*d/6, memory)
}

// floor is the change that noise alone makes between two samples; the small
// share of the demand keeps a series without any noise from calling its last
// digit a rise.
func (m *rise) floor() float64 { return math.Sqrt(2*m.noise.mean) + 0.005*m.back(0) }

// climb is the slope of the line through the last samples, without jumps, times
// their number.
func (m *rise) climb(samples int) float64 {
	var path [longestRise + 1]float64
	for i := range samples {
		path[i] = m.back(samples-i-1) - m.back(samples-i)
	}
	m.smooth(path[:samples])
	var sum, cross float64
	n := float64(samples)
	for i, d := range path[:samples] {
		sum += d
		cross += (float64(i+1) - n/2) * sum
	}
	// The times are 0..n, with sum of squares n(n+1)(n+2)/12 about their mean.
	return cross * 12 / ((n + 1) * (n + 2))
}

// smooth takes lone jumps out of the differences d: up to a quarter of them,
// the largest first, as long as it is out of proportion to noise and to the
// others. In a steep climb all are alike, and none is taken out.
func (m *rise) smooth(d []float64) {
	least := 5 * m.floor()
	var total float64
	for _, v := range d {
		total += abs(v)
	}
	for n := len(d); n > len(d)-max(2, len(d)/8); n-- {
		top := 0
		for i, v := range d {
			if abs(v) > abs(d[top]) {
				top = i
			}
		}
		jump := abs(d[top])
		total -= jump
		if jump < least || jump < 2.5*total/float64(n-1) {
			return
		}
		d[top] = 0
	}
}

// detect compares the climbs with the usual ones, and learns what is usual.
func (m *rise) detect() {
	for i, span := range riseSpans {
		if m.n <= int64(span) {
			return
		}
		usual, climb := &m.usual[i], m.climb(span)
		byNoise := m.floor() * math.Sqrt(6/float64(span))
		sd := max(usual.sd(), byNoise)
		if m.n > minRiseSamples && climb > riseAbove*sd && sd > 0 && !m.active {
			m.begin(span, climb, min(climb/sd, limit))
		}
		late := &m.recent[i][m.n%riseLearnsLate]
		if m.n > int64(span+riseLearnsLate) && (!m.active || m.n%8 == 0) {
			usual.add(*late, 4*memory)
		}
		*late = climb
	}
}

func (m *rise) begin(samples int, climb, score float64) {
	m.active, m.score = true, score
	m.age = float64(samples)
	m.slope = climb / float64(samples)
	m.from = m.back(samples)
}

// follow keeps the slope of a rise under way up to date, and ends the rise when
// the last samples no longer climb.
func (m *rise) follow() {
	m.age++
	span := int(min(m.age, longestRise, float64(m.n-1)))
	// Two samples at either end of the last eight.
	recent := (m.back(0) + m.back(1) - m.back(6) - m.back(7)) / 12
	if m.n > 8 && recent < 0.3*m.slope {
		m.active = false
		return
	}
	m.slope = m.climb(span) / float64(span)
	if m.slope <= 0 {
		m.active = false
	}
}

// remaining is for how many more samples the rise lasts, at level p.
func (m *rise) remaining(p float64) float64 { return m.age * p / (1 - p) }

func (m *rise) Forecast(h int, dst []Quantiles) bool {
	if !m.active {
		return false
	}
	k := float64(m.s.perStep)
	level := (m.back(0) + m.back(1) + m.slope) / 2 // two samples, brought to now
	noise := math.Sqrt(m.noise.mean / k)
	for i := range dst[:h] {
		ahead := float64(i+1)*k - (k-1)/2 // the middle of the step
		for j, p := range Levels {
			dst[i][j] = level + m.slope*min(ahead, m.remaining(p)) + gaussian[j]*noise
		}
		dst[i].tidy()
	}
	return true
}

// peak is that of the last step: while demand rises, the end is the highest.
func (m *rise) peak(dst *Quantiles) bool {
	steps := make([]Quantiles, m.s.horizon)
	if !m.Forecast(len(steps), steps) {
		return false
	}
	*dst = steps[len(steps)-1]
	return true
}

func (m *rise) explain(sample float64) string {
	return fmt.Sprintf("demand rose from %.4g to %.4g in %.4g s (%.3g a second), %.1f times its usual change",
		m.from, m.back(0), m.age*sample, m.slope/sample, m.score)
}
