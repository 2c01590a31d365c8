package predict

import (
	"cmp"
	"math"
	"slices"
)

// decay is a decaying histogram without buckets: the step means of the last
// eight horizons, each weighing half as much per horizon of age. It expects the
// same distribution at every step, and is hard to beat on noise. The histogram
// with a half-life is that of Borg's Autopilot (Rzadca et al., EuroSys 2020): the
// quantile at p is the least value at which the weights 2^(-age/horizon) of all
// smaller ones reach p of their sum.
type decay struct {
	s      *series
	stride int
	ring   []float64 // newest at next-1
	next   int
	sorted []aged
	weight []float64 // by age in strides
	cached Quantiles
}

type aged struct {
	value float64
	slot  int
}

const decayHorizons = 8

func newDecay(s *series) *decay {
	span := s.perStep * s.horizon
	m := &decay{s: s, stride: max(1, s.perStep/2, span/48), cached: unknown()}
	n := max(8, decayHorizons*span/m.stride)
	m.weight = make([]float64, n)
	for i := range m.weight {
		m.weight[i] = math.Exp2(-float64(i*m.stride) / float64(max(span, 4)))
	}
	return m
}

func (m *decay) Name() string { return "decay" }

func (m *decay) Observe(float64) {
	y := m.s.mean(0)
	if m.s.t%int64(m.stride) != 0 || math.IsNaN(y) {
		return
	}
	m.insert(y)
	m.cached = m.read()
}

func (m *decay) insert(y float64) {
	slot := m.next
	if len(m.ring) < len(m.weight) {
		slot = len(m.ring)
		m.ring = append(m.ring, y)
	} else {
		i, _ := slices.BinarySearchFunc(m.sorted, aged{m.ring[slot], slot}, compareAged)
		m.sorted = slices.Delete(m.sorted, i, i+1)
		m.ring[slot] = y
		m.next = (slot + 1) % len(m.ring)
	}
	i, _ := slices.BinarySearchFunc(m.sorted, aged{y, slot}, compareAged)
	m.sorted = slices.Insert(m.sorted, i, aged{y, slot})
}

func compareAged(a, b aged) int {
	return cmp.Or(cmp.Compare(a.value, b.value), cmp.Compare(a.slot, b.slot))
}

// read walks the sorted values until the weight of each level is reached,
// interpolating between neighbours.
func (m *decay) read() Quantiles {
	n := len(m.ring)
	newest := (m.next + n - 1) % n
	var total float64
	for _, w := range m.weight[:n] {
		total += w
	}
	var q Quantiles
	var sum, from float64 // from: the middle of the weight of the value before
	level, last := 0, m.sorted[0].value
	for _, v := range m.sorted {
		w := m.weight[(newest-v.slot+n)%n]
		to := sum + w/2
		for level < len(q) && to >= Levels[level]*total {
			share := max(0, (Levels[level]*total-from)/(to-from))
			q[level] = last + share*(v.value-last)
			level++
		}
		sum, last, from = sum+w, v.value, to
	}
	for ; level < len(q); level++ {
		q[level] = last
	}
	q.tidy()
	return q
}

func (m *decay) Forecast(h int, dst []Quantiles) bool {
	if len(m.ring) == 0 {
		return false
	}
	for i := range dst[:h] {
		dst[i] = m.cached
	}
	return true
}
