package predict

import "math"

// conformal holds the coverage of the forecasts that are really given out, by
// adaptive conformal inference (Gibbs and Candès 2021): what moves is the level
// at which the forecast's own distribution is read. After every outcome the level
// of each quantile moves up when it was exceeded and down a little when not, in
// the proportion that is in balance at exactly the level that is asked for. A
// calibrated forecast answers a move of the level by the same change of coverage,
// whatever its scale and shape, so one rate fits all series; an offset in the unit
// of the series would be too slow for heavy tails and too rough for light ones.
//
// Levels move on the scale z = -ln(1-p), on which an exponential tail is a
// straight line: between the five quantiles z is interpolated, above the highest
// the line goes on. All steps share one shift, since a forecast that is too narrow
// usually is so at all of them and each alone would learn slowly; the peak has its
// own. The shift of the steps is drawn back to zero in proportion: the members
// learn from errors as well, and a shift that nothing calls for would only add
// noise. The price: a forecast so wrong that it needs a shift of 0.1 for good is
// left with 1.2 times the misses that its level allows; one that is off for a time
// is corrected in that time. The peak's shift is not drawn.
type conformal struct {
	shifts [2]Quantiles // of z, per level, for steps and peak; the median's stays 0
}

const (
	conformalRate = 0.01 // of a shift, for one independent outcome
	conformalDraw = 0.02 // of the steps' shift back to zero, likewise
	conformalMost = 1.5  // shift: a run of misses must not throw the forecast away
)

// tailDepth is -ln(1-p) at each of Levels.
var tailDepth = func() (z Quantiles) {
	for i, p := range Levels {
		z[i] = -math.Log1p(-p)
	}
	return z
}()

// settle learns from outcome y of the given forecast q of a step, or of the
// peak, which is worth independent outcomes.
func (c *conformal) settle(what int, q *Quantiles, y, independent float64) {
	draw := conformalDraw
	if what == forPeak {
		draw = 0
	}
	for i := 1; i < len(q); i++ {
		// One miss in a hundred may not move the highest level by all that there is.
		rate := conformalRate * min(1, (1-Levels[i])/0.05)
		move := -1.0
		if y > q[i] {
			move = Levels[i] / (1 - Levels[i])
		}
		shift := &c.shifts[what][i]
		v := *shift + independent*(rate*move-draw**shift)
		*shift = min(max(v, -conformalMost), conformalMost)
	}
}

// apply reads q, a step or the peak, at the levels that the shifts ask for; its
// median stays.
func (c *conformal) apply(what int, q *Quantiles) { q.move(&c.shifts[what]) }

// move reads q at other levels: those whose tail depth differs by the shifts.
func (q *Quantiles) move(by *Quantiles) {
	from := *q
	for i := 1; i < len(q); i++ {
		z := max(tailDepth[i]+by[i], tailDepth[0])
		j := 0
		for j < len(q)-2 && z > tailDepth[j+1] {
			j++
		}
		q[i] = from[j] + (z-tailDepth[j])/(tailDepth[j+1]-tailDepth[j])*(from[j+1]-from[j])
	}
	q.tidy()
}

func abs(v float64) float64 { return max(v, -v) }
