package predict

import "math"

// card keeps the forecasts of one member that are under way, and how good they
// turned out to be. The last ring is the peak's.
type card struct {
	lags   []lag
	rings  [][][5]float32
	loss   float64 // decayed sum of pinball losses
	naive  float64 // the same sum for naive, at the same moments
	weight float64 // decayed sum of what was scored
	levels [2][5]balance
	off    bool
}

// balance is a decayed sum of losses at one level, and naive's.
type balance struct{ loss, naive float64 }

// What a card keeps apart, level by level.
const (
	forSteps = iota
	forPeak
)

func newCard(lags []lag) *card {
	c := &card{lags: append(append([]lag{}, lags...), lags[len(lags)-1])}
	for _, l := range c.lags {
		ring := make([][5]float32, l.slots())
		for i := range ring {
			ring[i] = narrow(unknown())
		}
		c.rings = append(c.rings, ring)
	}
	return c
}

func narrow(q Quantiles) (out [5]float32) {
	for i, v := range q {
		out[i] = float32(v)
	}
	return out
}

func wide(q [5]float32) (out Quantiles) {
	for i, v := range q {
		out[i] = float64(v)
	}
	return out
}

// due returns the forecast that falls due now at lag a.
func (c *card) due(a int, t int64) (Quantiles, bool) {
	i, ok := c.lags[a].slot(t)
	if !ok {
		return Quantiles{}, false
	}
	q := wide(c.rings[a][i])
	return q, q.Known()
}

// issue puts a forecast under way; ok is false when there is none.
func (c *card) issue(t int64, steps []Quantiles, peak Quantiles, ok bool) {
	for a, l := range c.lags {
		i, due := l.slot(t)
		if !due {
			continue
		}
		q := unknown()
		if ok {
			q = peak
			if a < len(c.lags)-1 {
				q = steps[l.steps-1]
			}
		}
		c.rings[a][i] = narrow(q)
	}
}

// add takes one outcome: the loss, and naive's at the same moment.
func (c *card) add(loss, naive, weight float64) {
	c.loss += weight * loss
	c.naive += weight * naive
	c.weight += weight
}

// fade lets the past count less.
func (c *card) fade(by float64) {
	c.forget(by)
	for what := range c.levels {
		for l := range c.levels[what] {
			c.levels[what][l].loss *= by
			c.levels[what][l].naive *= by
		}
	}
}

// forget lets the past count less in the sums over all levels alone.
func (c *card) forget(by float64) {
	c.loss *= by
	c.naive *= by
	c.weight *= by
}

// addLevels takes one outcome y of quantiles q and of naive's base, apart for
// each level.
func (c *card) addLevels(what int, q, base *Quantiles, y, weight float64) {
	for l, p := range Levels {
		b := &c.levels[what][l]
		b.loss += weight * quantileLoss(p, q[l], y)
		b.naive += weight * quantileLoss(p, base[l], y)
	}
}

// relative is the loss at level l over naive's. While little was scored it is
// near 1.
func (c *card) relative(what, l int) float64 {
	b := c.levels[what][l]
	if c.weight <= 0 || b.naive <= 0 && b.loss <= 0 {
		return 1
	}
	doubt := b.naive * minScored / c.weight
	return (b.loss + doubt) / (b.naive + doubt)
}

// ratio is the loss over naive's; NaN until enough was scored.
func (c *card) ratio() float64 {
	if c.weight < minScored {
		return math.NaN()
	}
	if c.naive <= 0 {
		if c.loss <= 0 {
			return 1
		}
		return math.Inf(1)
	}
	return c.loss / c.naive
}

const (
	minScored = 6    // weight of outcomes before a ratio means anything
	offAbove  = 1.02 // a member with a larger ratio is switched off
	onBelow   = 0.99 // and comes back below this one
)

// best is the smallest loss over naive's at any level; NaN until enough was
// scored.
func (c *card) best() float64 {
	if c.weight < minScored {
		return math.NaN()
	}
	best := math.Inf(1)
	for what := range c.levels {
		for l := range c.levels[what] {
			best = min(best, c.relative(what, l))
		}
	}
	return best
}

// police switches a member off that loses to naive wherever it speaks, and on
// again when it wins anywhere.
func (c *card) police() {
	r := c.best()
	switch {
	case r > offAbove:
		c.off = true
	case r < onBelow:
		c.off = false
	}
}
