package predict

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Forecaster forecasts one series. One goroutine at a time may use it.
type Forecaster struct {
	config  Config
	series  *series
	lags    []lag
	members []member // members[0] is naive
	cards   []*card
	peaks   []*peakCalibration
	tables  *peakTables
	rise    *rise
	chosen  int

	given    *card // the forecasts given out
	conform  conformal
	coverage running
	peakCov  running
	shift    cusum
	spots    spots

	// The forecast of every member and the one given out, as of the last whole
	// step, or of the last sample once somebody has asked for them.
	steps  [][]Quantiles
	peak   []Quantiles
	known  []bool
	out    []Quantiles
	outTop Quantiles
	outOK  bool
	stale  bool
}

// New makes a Forecaster that has seen nothing yet. An error names the setting
// that is out of bounds.
func New(c Config) (*Forecaster, error) {
	c, err := c.normal()
	if err != nil {
		return nil, err
	}
	s, lags := newSeries(c), lagsFor(c)
	f := &Forecaster{config: c, series: s, lags: lags, rise: newRise(s), tables: newPeakTables(c.Horizon),
		given: newCard(lags), out: make([]Quantiles, c.Horizon), outTop: unknown()}
	f.members = []member{newNaive(s, lags), newSES(s, lags), newHolt(s, lags), newDecay(s), newTheta(s, lags), newAR(s, lags), newARIMA(c, s, lags)}
	if c.Season > 0 {
		f.members = append(f.members, newSeasonal(c, s, lags))
	}
	if c.LSTM {
		f.members = append(f.members, newLSTM(s, lags))
	}
	f.members = append(f.members, newBlend(f))
	f.members = append(f.members, f.rise)
	for range f.members {
		f.cards = append(f.cards, newCard(lags))
		f.peaks = append(f.peaks, newPeakCalibration(lags[len(lags)-1]))
		f.steps = append(f.steps, make([]Quantiles, c.Horizon))
	}
	f.peak = make([]Quantiles, len(f.members))
	f.known = make([]bool, len(f.members))
	return f, nil
}

// Config is the configuration with its defaults filled in.
func (f *Forecaster) Config() Config { return f.config }

// Observe takes the sample of one Config.Sample, in any unit. NaN says that it
// is missing; a negative, infinite or absurdly large value (above 1e30) is a
// broken reading and counts as missing as well.
func (f *Forecaster) Observe(x float64) {
	if !(x >= 0 && x <= limit) {
		x = math.NaN()
	} else if x < 1/limit {
		x = 0 // whose square could not be told from zero anyway
	}
	f.series.push(x)
	whole := f.series.whole()
	if whole {
		f.settle()
	}
	for _, m := range f.members {
		m.Observe(x)
	}
	if whole {
		f.issue()
		f.choose()
	}
	f.watch(x)
	f.stale = true
	if whole {
		f.combine()
		f.given.issue(f.series.t, f.out, f.outTop, f.outOK)
		f.spots.exceed(f.config, f.outTop)
		f.stale = false
	}
}

// issue puts every member's forecast under way.
func (f *Forecaster) issue() {
	t, peak := f.series.t, f.series.peak()
	for i := range f.members {
		f.peaks[i].learn(t, peak)
		f.peaks[i].issue(t, f.ask(i))
		f.cards[i].issue(t, f.steps[i], f.peak[i], f.known[i])
	}
}

// refresh makes the forecast given out that of the last sample. A member that is
// off has no part in it, and is asked when the step ends.
func (f *Forecaster) refresh() {
	if !f.stale {
		return
	}
	for i := range f.members {
		if i == 0 || i == f.chosen || !f.cards[i].off {
			f.ask(i)
		}
	}
	f.combine()
	f.stale = false
}

// ask takes the present forecast of member i, and returns its highest median;
// NaN when it has nothing to say.
func (f *Forecaster) ask(i int) (top float64) {
	f.known[i] = f.members[i].Forecast(f.config.Horizon, f.steps[i])
	if !f.known[i] {
		f.peak[i] = unknown()
		return math.NaN()
	}
	f.peak[i] = f.peakOf(i)
	return highest(f.steps[i])
}

func (f *Forecaster) peakOf(i int) (q Quantiles) {
	if p, ok := f.members[i].(peaker); ok && p.peak(&q) {
		return q
	}
	return f.peaks[i].quantiles(f.steps[i], f.tables)
}

// settle scores every forecast that falls due with the sample just pushed.
func (f *Forecaster) settle() {
	t := f.series.t
	fade := math.Exp2(-1 / float64(trailing*f.config.Horizon))
	for _, c := range f.cards {
		c.fade(fade)
	}
	f.given.fade(fade)
	for a := range f.given.lags {
		y, what := f.series.mean(0), forSteps
		if a == len(f.lags) {
			y, what = f.series.peak(), forPeak
		}
		base, ok := f.cards[0].due(a, t)
		if !ok || math.IsNaN(y) {
			continue
		}
		naive, weight := pinball(&base, y), float64(f.given.lags[a].stride)
		for _, c := range f.cards {
			if q, ok := c.due(a, t); ok {
				c.add(pinball(&q, y), naive, weight)
				c.addLevels(what, &q, &base, y, weight)
			}
		}
		if q, ok := f.given.due(a, t); ok {
			f.given.add(pinball(&q, y), naive, weight)
			f.cover(a, &q, y)
		}
	}
	for _, c := range f.cards[1:] {
		c.police()
	}
}

// trailing is the half-life of scores, in horizons.
const trailing = 8

// cover counts what the given forecast q held at lag a, and corrects the next.
func (f *Forecaster) cover(a int, q *Quantiles, y float64) {
	l := f.given.lags[a]
	what := forSteps
	if a == len(f.lags) {
		what = forPeak
	}
	f.conform.settle(what, q, y, l.independent())
	held := 0.0
	if y <= q[3] {
		held = 1
	}
	if what == forPeak {
		f.peakCov.add(held, coverageMemory)
		return
	}
	f.coverage.add(held, coverageMemory)
}

// coverageMemory is the number of outcomes over which coverage is shown.
const coverageMemory = 500

// choose picks the blend, unless it loses clearly to naive: then naive, until it
// does not. The blend itself chooses among the members, level by level.
func (f *Forecaster) choose() {
	b := f.blendIndex()
	r := f.cards[b].ratio()
	switch {
	case !f.known[b] || r > leaveBlend:
		f.chosen = 0
	case !(r >= backToBlend):
		f.chosen = b
	}
}

const (
	leaveBlend  = 1.3 // its trailing loss over naive's
	backToBlend = 1.05
)

// combine makes the forecast that is given out: the chosen member's, read at the
// levels that coverage asks for, raised where demand climbs now. The medians of the
// steps stay as they are: neither is coverage about them, nor is a climb more
// likely than not to go on.
func (f *Forecaster) combine() {
	f.outOK = f.known[f.chosen]
	if !f.outOK {
		f.outTop = unknown()
		return
	}
	copy(f.out, f.steps[f.chosen])
	f.outTop = f.peak[f.chosen]
	for h := range f.out {
		f.conform.apply(forSteps, &f.out[h])
	}
	f.conform.apply(forPeak, &f.outTop)
	if r := f.riseIndex(); f.known[r] && !f.cards[r].off {
		for h := range f.out {
			median := f.out[h][0]
			f.out[h].upper(&f.steps[r][h])
			f.out[h][0] = median
		}
		f.outTop.upper(&f.peak[r])
	}
	for h := range f.out {
		f.outTop.upper(&f.out[h])
	}
}

// blendIndex is the place of the blend, after all that it is made of.
func (f *Forecaster) blendIndex() int { return len(f.members) - 2 }

func (f *Forecaster) riseIndex() int { return slices.Index(f.members, member(f.rise)) }

// Forecast returns the present forecast. It may be kept: it shares nothing with
// the Forecaster.
func (f *Forecaster) Forecast() Forecast {
	f.refresh()
	out := Forecast{Step: f.config.Step, Peak: f.outTop, Method: f.method(),
		Skill: 1 - f.given.ratio(), Coverage: math.NaN(), PeakCoverage: math.NaN(),
		Observed: int(f.series.observed), Missing: int(f.series.missing)}
	if math.IsInf(out.Skill, 0) {
		out.Skill = math.NaN()
	}
	if f.outOK {
		out.Steps = slices.Clone(f.out)
	}
	if f.coverage.n >= minCovered {
		out.Coverage = f.coverage.mean
	}
	if f.peakCov.n >= minCovered {
		out.PeakCoverage = f.peakCov.mean
	}
	out.Why = f.why()
	out.Ready = out.Why == ""
	shares := f.shares()
	out.Members = make([]MemberStatus, len(f.members))
	for i, m := range f.members {
		out.Members[i] = f.status(i, m.Name(), shares[i])
	}
	return out
}

// minCovered outcomes must be seen before a coverage is shown.
const minCovered = 10

func (f *Forecaster) method() string {
	name := f.members[f.chosen].Name()
	if r := f.riseIndex(); f.known[r] && !f.cards[r].off {
		name += "+rise"
	}
	return name
}

// why is the reason for which the forecast must not be acted upon, or "".
func (f *Forecaster) why() string {
	s := f.series
	switch {
	case s.observed < int64(f.config.Warmup):
		return fmt.Sprintf("warming up: %d of %d samples seen", s.observed, f.config.Warmup)
	case s.gap > f.config.MaxGap:
		return fmt.Sprintf("no sample for %v", time.Duration(s.gap)*f.config.Sample)
	case !f.outOK:
		return "no step is complete yet"
	}
	return ""
}

func (f *Forecaster) status(i int, name string, share float64) MemberStatus {
	c := f.cards[i]
	st := MemberStatus{Name: name, Loss: math.NaN(), Ratio: c.ratio(), Weight: share, Off: c.off}
	if c.weight >= minScored {
		st.Loss = c.loss / c.weight
	}
	switch {
	case c.off:
		st.Why = fmt.Sprintf("loses to naive at every level: its trailing loss is %.3g times naive's", st.Ratio)
	case !f.known[i]:
		st.Why = "has nothing to say now"
	}
	return st
}

// shares are those of the members in the present forecast.
func (f *Forecaster) shares() (out [maxMembers]float64) {
	if !f.outOK {
		return out
	}
	if b, ok := f.members[f.chosen].(*blend); ok {
		return b.shares()
	}
	out[f.chosen] = 1
	return out
}
