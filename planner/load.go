package planner

import (
	"fmt"
	"math"
	"time"

	"headroom/predict"
)

// DefaultCorrelation is assumed between VMs' forecast residuals where none was
// learned. Zero would claim that bursts never coincide.
const DefaultCorrelation = 0.2

const levels = len(predict.Levels)

// grid is the time base of a load: n steps of a fixed length.
type grid struct {
	step time.Duration
	n    int
}

// stepSum accumulates what the distribution of a sum of demands is made of, so
// that one VM can be added or removed in constant time: with 200 VMs every
// candidate's leaving has to be tried.
//
// A quantile of the sum is the sum of medians, plus the part of the skewness
// that does not cancel, plus the deviations from the median combined as
// sqrt((1-rho) sum d^2 + rho (sum d)^2). It is exact for one VM, for normal
// demands with correlation rho and for rho = 1, and it never falls when a
// demand is added.
type stepSum struct {
	med, skew, skew2 float64
	dev, dev2        [levels]float64
}

func (s *stepSum) add(q *predict.Quantiles, sign float64) {
	med := q[0]
	skew := max(0, mean(q)-med)
	s.med += sign * med
	s.skew += sign * skew
	s.skew2 += sign * skew * skew
	for i := range q {
		d := q[i] - med
		s.dev[i] += sign * d
		s.dev2[i] += sign * d * d
	}
}

// centre is the median of the sum. The rounding left by removals is clamped.
func (s *stepSum) centre() float64 {
	c := s.med + s.skew - math.Sqrt(max(0, s.skew2))
	return max(0, c)
}

func (s *stepSum) deviation(i int, rho float64) float64 {
	v := (1-rho)*max(0, s.dev2[i]) + rho*s.dev[i]*s.dev[i]
	return math.Sqrt(v)
}

func (s *stepSum) quantiles(rho float64) predict.Quantiles {
	var q predict.Quantiles
	c := s.centre()
	for i := range q {
		q[i] = c + s.deviation(i, rho)
		if i > 0 {
			q[i] = max(q[i], q[i-1])
		}
	}
	return q
}

// load is the joint distribution of several demands on one host.
type load struct {
	grid  grid
	rho   float64
	steps []stepSum
	// peak accumulates each part's peak as a deviation from its own highest
	// step median: peaks of different VMs rarely fall together, so adding the
	// peaks themselves would promise nothing to anybody.
	peak stepSum
}

func newLoad(g grid, rho float64) *load {
	return &load{grid: g, rho: rho, steps: make([]stepSum, g.n)}
}

// at returns the demand in step h of g. A demand of another time base counts
// with its peak in every step, which errs on the safe side.
func (d *Demand) at(g grid, h int) *predict.Quantiles {
	if d.Step == g.step && h < len(d.Steps) {
		return &d.Steps[h]
	}
	return &d.Peak
}

// set makes l a copy of o, which has the same grid.
func (l *load) set(o *load) {
	copy(l.steps, o.steps)
	l.peak, l.rho = o.peak, o.rho
}

func (l *load) add(d *Demand)    { l.apply(d, 1) }
func (l *load) remove(d *Demand) { l.apply(d, -1) }

func (l *load) apply(d *Demand, sign float64) {
	top := 0.0
	for h := range l.steps {
		q := d.at(l.grid, h)
		l.steps[h].add(q, sign)
		top = max(top, q[0])
	}
	if l.grid.n == 0 {
		top = d.Peak[0]
		l.peak.med += sign * top
	}
	for i, v := range d.Peak {
		e := max(0, v-top)
		l.peak.dev[i] += sign * e
		l.peak.dev2[i] += sign * e * e
	}
}

// peakQuantiles is the distribution of the highest demand over the horizon.
func (l *load) peakQuantiles() predict.Quantiles {
	top := max(0, l.peak.med)
	var floor, q predict.Quantiles
	for h := range l.steps {
		top = max(top, l.steps[h].centre())
		for i, v := range l.steps[h].quantiles(l.rho) {
			floor[i] = max(floor[i], v)
		}
	}
	for i := range q {
		q[i] = max(floor[i], top+l.peak.deviation(i, l.rho))
		if i > 0 {
			q[i] = max(q[i], q[i-1])
		}
	}
	return q
}

func (l *load) demand() Demand {
	d := Demand{Step: l.grid.step, Steps: make([]predict.Quantiles, l.grid.n), Peak: l.peakQuantiles()}
	for h := range l.steps {
		d.Steps[h] = l.steps[h].quantiles(l.rho)
	}
	return d
}

// unserved returns the expected demand beyond capacity per step, in core-seconds.
func (l *load) unserved(capacity Cores, dst []float64) []float64 {
	dst = dst[:0]
	for h := range l.steps {
		q := l.steps[h].quantiles(l.rho)
		dst = append(dst, expectedExcess(q, float64(capacity))*l.grid.step.Seconds())
	}
	return dst
}

// demandOf reduces a forecast to what plans and records need.
func demandOf(f *predict.Forecast) Demand { return Demand{Step: f.Step, Steps: f.Steps, Peak: f.Peak} }

// sideThreads is what a VM may use beside its vCPUs (emulator, I/O and vhost
// threads) before a forecast of more stops being plausible.
const sideThreads Cores = 1

// demand is the VM's forecast CPU demand, bounded by what its threads can use:
// a steep rise carried on for a whole horizon may promise more than that.
func (vm *VM) demand() Demand {
	d := demandOf(&vm.CPU)
	if vm.VCPUs <= 0 {
		return d
	}
	return d.upTo(float64(Cores(vm.VCPUs) + sideThreads))
}

// upTo is the demand cut at top.
func (d Demand) upTo(top float64) Demand {
	highest := d.Peak[levels-1]
	for _, q := range d.Steps {
		highest = max(highest, q[levels-1])
	}
	if highest <= top {
		return d
	}
	d.Peak = clip(d.Peak, top)
	steps := make([]predict.Quantiles, len(d.Steps))
	for h, q := range d.Steps {
		steps[h] = clip(q, top)
	}
	d.Steps = steps
	return d
}

func clip(q predict.Quantiles, top float64) predict.Quantiles {
	for i := range q {
		q[i] = min(q[i], top)
	}
	return q
}

// constantDemand is a demand known to be exactly v, on every time base.
func constantDemand(v float64) Demand {
	var q predict.Quantiles
	for i := range q {
		q[i] = v
	}
	return Demand{Peak: q}
}

// check says what is wrong with a demand, or "".
func (d *Demand) check() string {
	if why := checkQuantiles(&d.Peak); why != "" {
		return "peak: " + why
	}
	for h := range d.Steps {
		if why := checkQuantiles(&d.Steps[h]); why != "" {
			return fmt.Sprintf("step %d: %s", h+1, why)
		}
	}
	if len(d.Steps) > 0 && d.Step <= 0 {
		return "steps without a length"
	}
	return ""
}

func checkQuantiles(q *predict.Quantiles) string {
	last := 0.0
	for _, v := range q {
		if !(v >= last-1e-9 && v <= math.MaxFloat64) { // every round looks at every value
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return "not a number"
			}
			return "quantiles fall or are negative"
		}
		last = v
	}
	return ""
}
