package predict

import (
	"fmt"
	"math"
)

// rise sees that demand climbs now, before any loss could show it, and speaks
// only while it does.
//
// The climb over the last 4, 8, .. 64 samples is measured without its largest
// single jumps, so that a step or a burst, which is one or two jumps, is no
// climb. It counts as a rise when it stands far outside the climbs of the same
// length that this series usually shows.
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
	usual  [len(riseSpans)]running // climbs of each span
	noise  running                 // squared second differences / 6
	active bool
	age    float64 // samples
	slope  float64 // per sample
	from   float64 // demand when it began
	score  float64 // usual climbs away from the usual, when it was seen
}

const longestRise = 64

// riseSpans are the numbers of samples looked back over, with how many jumps
// are left out and how far from usual the climb must be.
var riseSpans = [...]struct {
	samples, jumps int
	threshold      float64
}{{4, 1, 6}, {8, 2, 5}, {16, 3, 5}, {32, 4, 5}, {64, 6, 5}}

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
	if m.n > 2 {
		d := x - 2*m.back(1) + m.back(2)
		m.noise.add(min(d*d/6, m.outlier()), memory)
	}
	if m.active {
		m.follow()
	}
	m.detect()
}

// outlier bounds what one jump may add to the noise.
func (m *rise) outlier() float64 {
	if m.noise.n < 5 {
		return math.Inf(1)
	}
	return 9*m.noise.mean + 1e-12*m.back(0)*m.back(0)
}

// climb is the change over the last samples less its largest jumps, scaled to
// the whole span.
func (m *rise) climb(samples, jumps int) float64 {
	var top [8]float64
	for i := range samples {
		d := m.back(i) - m.back(i+1)
		for j := range jumps {
			if d > top[j] {
				d, top[j] = top[j], d
			}
		}
	}
	sum := m.back(0) - m.back(samples)
	for _, d := range top[:jumps] {
		sum -= d
	}
	return sum * float64(samples) / float64(samples-jumps)
}

// detect compares the climbs with the usual ones, and learns what is usual:
// outliers count at most three times the spread, and a rise under way little.
func (m *rise) detect() {
	for i, span := range riseSpans {
		if m.n <= int64(span.samples) {
			return
		}
		usual := &m.usual[i]
		climb := m.climb(span.samples, span.jumps)
		// Noise alone makes climbs of this spread; the floor keeps a series
		// without any noise from calling its last digit a rise.
		// Noise that grows with demand has grown by as much as demand.
		grown := max(1, m.back(0)/max(m.back(span.samples), 0.1*m.back(0)))
		floor := math.Sqrt(2*m.noise.mean)*grown + 0.005*m.back(0)
		sd := max(usual.sd(), floor)
		score := climb / sd
		if m.n > minRiseSamples && score > span.threshold && !m.active {
			m.begin(span.samples, climb, score)
		}
		if usual.n >= 8 {
			climb = min(max(climb, usual.mean-3*sd), usual.mean+3*sd)
		}
		if !m.active || m.n%8 == 0 {
			usual.add(climb, 4*memory)
		}
	}
}

// minRiseSamples must be known before anything can be called unusual.
const minRiseSamples = 8

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
	recent := m.climb(4, 1) / 4
	if m.n > 8 {
		recent = max(recent, m.climb(8, 2)/8)
	}
	if recent < 0.3*m.slope {
		m.active = false
		return
	}
	m.slope = m.climb(span, span/8) / float64(span)
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
