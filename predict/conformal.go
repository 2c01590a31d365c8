package predict

// conformal holds the coverage of the forecasts that are really given out, by
// adaptive conformal inference (Gibbs and Candès 2021; the tracking of
// Angelopoulos, Candès and Tibshirani 2023): after every outcome the offset of
// each quantile moves up a little when it was exceeded and down a little when
// not, in the proportion that is in balance at exactly its level. Offsets are
// in units of the trailing median error, so they scale with the series.
type conformal struct {
	scale   []running   // per lag: absolute error of the median
	offsets []Quantiles // per lag, in scales
}

const (
	conformalRate = 0.1
	conformalMost = 4 // scales: a run of misses must not throw the forecast away
)

func newConformal(lags int) *conformal {
	return &conformal{scale: make([]running, lags), offsets: make([]Quantiles, lags)}
}

// settle learns from outcome y of the given forecast at lag a.
func (c *conformal) settle(a int, q *Quantiles, y, independent float64) {
	c.scale[a].add(abs(y-q[0]), memory)
	for i, v := range q {
		move := -(1 - Levels[i])
		if y > v {
			move = Levels[i]
		}
		o := &c.offsets[a][i]
		*o = min(max(*o+conformalRate*independent*move, -conformalMost), conformalMost)
	}
}

// offset is what to add at lag a.
func (c *conformal) offset(a int) (q Quantiles) {
	for i := range q {
		q[i] = c.offsets[a][i] * c.scale[a].mean
	}
	return q
}

// apply shifts every step, except its median, by the offsets of the lags around
// it.
func (c *conformal) apply(lags []lag, steps []Quantiles) {
	a := 0
	for h := range steps {
		for a < len(lags)-1 && lags[a].steps < h+1 {
			a++
		}
		above := c.offset(a)
		below, share := above, 1.0
		if a > 0 && lags[a].steps > h+1 {
			below = c.offset(a - 1)
			share = float64(h+1-lags[a-1].steps) / float64(lags[a].steps-lags[a-1].steps)
		}
		for i := 1; i < len(steps[h]); i++ {
			steps[h][i] += below[i] + share*(above[i]-below[i])
		}
		steps[h].tidy()
	}
}

func abs(v float64) float64 { return max(v, -v) }
