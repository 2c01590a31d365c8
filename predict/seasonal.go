package predict

import (
	"math"
	"time"
)

// seasonal is additive Holt-Winters without a trend: a smoothed level and what
// each part of the season usually adds to it. It speaks once a whole season was
// seen, and only when Config.Season is set.
//
// Holt 1957 and Winters 1960: l_t = l_(t-1) + alpha (y_t - l_(t-1) - s_i),
// s_i moves by gamma to y_t - l, the forecast is l_t + s_(i+h). Here l in the second
// equation is a level of its own, smoothed over a season, and the mean of a part
// comes first, until it has been seen 1/gamma times.
type seasonal struct {
	*spread
	sample, season time.Duration
	at             time.Duration // within the season, of the last sample
	seen           int64         // samples since the start
	level          [len(seasonalRates)]float64
	errs           [len(seasonalRates)]running
	base           running   // level over a whole season, without the pattern
	adds           []float64 // by part of the season
	counts         []float64
}

var seasonalRates = [...]float64{0.02, 0.1, 0.3, 0.7, 0.95}

const (
	seasonalParts = 288  // of a season at most: 5 minutes of a day
	seasonalRate  = 0.25 // by which a part follows what it adds this season
)

func newSeasonal(c Config, s *series, lags []lag) *seasonal {
	n := int(min(c.Season/c.Sample, seasonalParts))
	return &seasonal{spread: newSpread(s, lags), sample: c.Sample, season: c.Season,
		adds: make([]float64, n), counts: make([]float64, n)}
}

func (m *seasonal) Name() string { return "seasonal" }

// part of the season that lies ahead of the last sample.
func (m *seasonal) part(ahead time.Duration) int {
	at := (m.at + ahead) % m.season
	return int(float64(at) / float64(m.season) * float64(len(m.adds)))
}

func (m *seasonal) Observe(x float64) {
	m.at = (m.at + m.sample) % m.season
	m.seen++
	if !math.IsNaN(x) {
		m.learn(x)
	}
	m.ready = time.Duration(m.seen)*m.sample > m.season
	m.project()
	m.settle()
}

func (m *seasonal) learn(x float64) {
	i := m.part(0)
	for r, rate := range seasonalRates {
		e := x - m.level[r] - m.adds[i]
		if m.ready {
			m.errs[r].addBounded(e*e, memory)
		}
		m.level[r] += max(rate, 1/float64(m.seen)) * e
	}
	// Without the pattern: a mean that swings with it would take part of it away.
	m.base.add(x-m.adds[i], float64(m.season/m.sample))
	m.counts[i] = min(m.counts[i]+1, float64(m.season/m.sample)/float64(len(m.adds))/seasonalRate)
	m.adds[i] += (x - m.base.mean - m.adds[i]) / m.counts[i]
}

func (m *seasonal) project() {
	best := 0
	for r := range m.errs {
		if m.errs[r].mean < m.errs[best].mean {
			best = r
		}
	}
	k, rate := float64(m.s.perStep), seasonalRates[best]
	for h := range m.points {
		ahead := float64(h+1)*k - (k-1)/2
		add := m.adds[m.part(time.Duration(ahead*float64(m.sample)))]
		m.points[h] = min(max(0, m.level[best]+add), limit)
		m.sigma[h] = math.Sqrt(m.errs[best].mean * (1/k + (ahead-1)*rate*rate))
	}
}

func (m *seasonal) Forecast(h int, dst []Quantiles) bool { return m.quantiles(dst[:h]) }

func (m *seasonal) state(c *codec) {
	m.spread.state(c)
	at := int64(m.at)
	c.int64(&at, int64(m.season)-1)
	m.at = time.Duration(at)
	c.int64(&m.seen, maxCount)
	c.numbers(m.level[:])
	for i := range m.errs {
		m.errs[i].state(c)
	}
	m.base.state(c)
	c.numbers(m.adds)
	for i := range m.counts {
		c.positive(&m.counts[i])
	}
}
