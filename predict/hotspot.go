package predict

import (
	"fmt"
	"math"
	"math/bits"
	"time"
)

// HotSpot is one reason to look at a series, with its numbers.
type HotSpot struct {
	// Kind is rise, level-shift, volatile or exceed.
	Kind string `json:"kind"`
	// Explanation gives the numbers, in the unit of the series.
	Explanation string `json:"explanation"`
	// Score says how far beyond its threshold it is: 1 is just there.
	Score float64 `json:"score"`
}

// HotSpots lists what is remarkable at the last sample; nil when nothing is.
func (f *Forecaster) HotSpots() []HotSpot {
	var out []HotSpot
	sample := f.config.Sample.Seconds()
	if f.rise.active {
		out = append(out, HotSpot{"rise", f.rise.explain(sample), f.rise.score / riseAbove})
	}
	if f.spots.shifted() {
		out = append(out, f.spots.shift(sample))
	}
	if spot, ok := f.spots.volatile(); ok {
		out = append(out, spot)
	}
	if n, c := bits.OnesCount64(f.spots.over), f.config; c.Level > 0 && n >= c.ExceedOf {
		text := fmt.Sprintf("the 0.9 quantile of the peak within %v was above %.4g in %d of the last %d steps, now %.4g",
			c.Step*time.Duration(c.Horizon), c.Level, n, c.ExceedWithin, f.outTop[2])
		out = append(out, HotSpot{"exceed", text, float64(n) / float64(c.ExceedOf)})
	}
	return out
}

// cusum is the two-sided cumulative sum of standardised errors: k = 0.5 and
// h = 8 standard deviations, errors bounded at 4 so that one burst is no shift.
type cusum struct{ up, down float64 }

const (
	cusumSlack = 0.5
	cusumAlarm = 8
	cusumBound = 4
)

// add takes an error in standard deviations and says whether the level shifted:
// 1 up, -1 down, 0 not.
func (c *cusum) add(z float64) int {
	z = min(max(z, -cusumBound), cusumBound)
	c.up = max(0, c.up+z-cusumSlack)
	c.down = max(0, c.down-z-cusumSlack)
	if c.up <= cusumAlarm && c.down <= cusumAlarm {
		return 0
	}
	up := c.up > c.down
	*c = cusum{}
	if up {
		return 1
	}
	return -1
}

// spots is what HotSpots looks at.
type spots struct {
	level  running // of the demand, for shifts and volatility
	recent running // a short mean
	from   float64 // level before the last shift
	to     float64
	sd     float64
	since  int    // samples since the last shift; 0: none
	over   uint64 // one bit a step: the peak's 0.9 quantile was above Level
}

const (
	shiftShown    = 30  // samples for which a shift is shown
	volatileAbove = 0.5 // coefficient of variation
	recentMemory  = 5
)

// exceed notes whether the peak just forecast lies above the level.
func (s *spots) exceed(c Config, peak Quantiles) {
	if c.Level <= 0 || !peak.Known() {
		return
	}
	s.over = s.over << 1 & (1<<c.ExceedWithin - 1)
	if peak[2] > c.Level {
		s.over |= 1
	}
}

// watch looks for shifts with the sample just seen.
func (f *Forecaster) watch(x float64) {
	s := &f.spots
	if s.since > 0 {
		s.since++
	}
	if math.IsNaN(x) {
		return
	}
	sd := max(s.level.sd(), 0.005*s.level.mean)
	if s.level.n >= minRiseSamples && sd > 0 {
		if f.shift.add((x-s.level.mean)/sd) != 0 {
			f.shifted(x, sd)
		}
	}
	s.level.add(x, memory)
	s.recent.add(x, recentMemory)
}

// shifted starts a new level: what was learned about scores belongs to the old
// one, and must not keep a slow member in office; naive is at the new level
// first.
func (f *Forecaster) shifted(x, sd float64) {
	s := &f.spots
	s.from, s.to, s.sd, s.since = s.level.mean, (s.recent.mean+x)/2, sd, 1
	s.level = running{}
	for _, c := range f.cards {
		c.forget(0.25)
	}
	f.chosen = 0
}

func (s *spots) shifted() bool { return s.since > 0 && s.since <= shiftShown }

func (s *spots) shift(sample float64) HotSpot {
	by := math.Abs(s.to-s.from) / s.sd
	return HotSpot{"level-shift", fmt.Sprintf("demand moved from %.4g to %.4g, %.1f standard deviations of %.3g, %.4g s ago",
		s.from, s.to, by, s.sd, float64(s.since)*sample), by}
}

func (s *spots) volatile() (HotSpot, bool) {
	if s.level.n < 2*minRiseSamples || s.level.mean <= 0 {
		return HotSpot{}, false
	}
	cv := s.level.sd() / s.level.mean
	return HotSpot{"volatile", fmt.Sprintf("its standard deviation of %.3g is %.0f %% of its mean of %.4g over the last %.0f samples",
		s.level.sd(), 100*cv, s.level.mean, s.level.n), cv / volatileAbove}, cv > volatileAbove
}
