package predict

// blend combines the other members, level by level: at every level of the
// quantiles, and for the steps and the peak apart, a member weighs the more the
// smaller its trailing pinball loss there was, and nothing where it loses to
// naive. The method with the best median
// is often not the one with the best 0.95 quantile, and the mean of several
// good forecasts usually beats each of them (Bates and Granger 1969; for
// quantiles Lichtendahl, Grushka-Cockayne and Winkler 2013).
type blend struct {
	f    *Forecaster
	over int // how many of the members are blended: those before it
}

func newBlend(f *Forecaster) *blend { return &blend{f: f, over: len(f.members)} }

func (m *blend) Name() string { return "blend" }

func (m *blend) Observe(float64) {}

func (m *blend) state(*codec) {}

// Forecast blends the forecasts that the others have just given.
func (m *blend) Forecast(h int, dst []Quantiles) bool {
	var weights [5][maxMembers]float64
	for l := range weights {
		if !m.weigh(forSteps, l, &weights[l]) {
			return false
		}
	}
	for i := range dst[:h] {
		for l := range dst[i] {
			var sum float64
			for j, w := range weights[l][:m.over] {
				if w > 0 {
					sum += w * m.f.steps[j][i][l]
				}
			}
			dst[i][l] = sum
		}
		dst[i].tidy()
	}
	return true
}

// peak blends the others' peaks.
func (m *blend) peak(dst *Quantiles) bool {
	for l := range dst {
		var weights [maxMembers]float64
		if !m.weigh(forPeak, l, &weights) {
			return false
		}
		dst[l] = 0
		for j, w := range weights[:m.over] {
			if w > 0 {
				dst[l] += w * m.f.peak[j][l]
			}
		}
	}
	for i := range m.f.steps[m.over] {
		dst.upper(&m.f.steps[m.over][i])
	}
	dst.tidy()
	return true
}

// weigh sets the weights at level l, which sum to 1; false when nobody speaks.
func (m *blend) weigh(what, l int, weights *[maxMembers]float64) bool {
	var total float64
	for j := range m.over {
		loss := m.f.cards[j].relative(what, l)
		if !m.f.known[j] || j > 0 && (m.f.cards[j].off || loss > 1) {
			continue
		}
		weights[j] = sharp(max(loss, 0.05), l)
		total += weights[j]
	}
	if !(total > 0) {
		return false
	}
	for j := range weights {
		weights[j] /= total
	}
	return true
}

// sharp is the weight of a loss at level l: its inverse to the fifth power; to
// the fifteenth for the median, where the average of a member that foresees a
// step and of one that does not is what nobody expects.
func sharp(loss float64, l int) float64 {
	w := 1 / (loss * loss * loss * loss * loss)
	if l == 0 {
		return w * w * w
	}
	return w
}

// shares are how much the members weigh, on average over the levels of the steps.
func (m *blend) shares() (out [maxMembers]float64) {
	for l := range Levels {
		var weights [maxMembers]float64
		if m.weigh(forSteps, l, &weights) {
			for j, w := range weights {
				out[j] += w / float64(len(Levels))
			}
		}
	}
	return out
}

// maxMembers bounds the number of members.
const maxMembers = 16

// adopt points the blend at the Forecaster that holds it.
func (f *Forecaster) adopt() {
	for _, m := range f.members {
		if b, ok := m.(*blend); ok {
			b.f = f
		}
	}
}
