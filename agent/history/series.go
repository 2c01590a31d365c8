package history

import (
	"math"
	"slices"
	"time"
)

// accumulator gathers the samples of one open bucket.
type accumulator struct {
	open     bool
	bucket   int64
	n        uint32
	min, max int64
	sum      float64
	values   []int64 // for the percentile; at most valuesLimit
}

// valuesLimit bounds the values kept for one bucket's percentile. The coarsest
// bucket has one value per finest bucket, see maxRatio; a finest bucket has a few.
const valuesLimit = maxRatio

// add counts n samples of the given extremes and mean, with value standing for them
// in the percentile.
func (a *accumulator) add(bucket int64, p point) {
	if !a.open {
		*a = accumulator{open: true, bucket: bucket, min: p.min, max: p.max, values: a.values[:0]}
	}
	a.n += p.n
	a.min, a.max = min(a.min, p.min), max(a.max, p.max)
	a.sum += float64(p.mean) * float64(p.n)
	if len(a.values) < valuesLimit {
		a.values = append(a.values, p.mean)
	}
}

// point summarises the bucket so far. The percentile is the nearest rank.
func (a *accumulator) point() point {
	if len(a.values) == 1 {
		v := a.values[0]
		return point{a.min, v, a.max, min(max(v, a.min), a.max), a.n}
	}
	sorted := slices.Clone(a.values)
	slices.Sort(sorted)
	return point{
		min:  a.min,
		mean: min(max(int64(math.Round(a.sum/float64(a.n))), a.min), a.max),
		max:  a.max,
		p95:  sorted[rank95(len(sorted))],
		n:    a.n,
	}
}

// rank95 is the index of the 95th percentile among n sorted values.
func rank95(n int) int { return (95*n+99)/100 - 1 }

// head is a chunk that is not sealed yet.
type head struct {
	chunk int64
	cols  columns
	dirty [numSignals][2]uint64 // slots that the log does not have yet
	gen   uint64                // counts changes, so that a seal sees one that it raced
}

func (h *head) put(s Signal, slot uint8, p point, dirty bool) {
	if h.cols[s] == nil {
		h.cols[s] = &column{}
	}
	if !h.cols[s].put(slot, p) {
		return
	}
	h.gen++
	if dirty {
		h.dirty[s][slot/64] |= 1 << (slot % 64)
	}
}

func (h *head) clean() bool { return h.dirty == [numSignals][2]uint64{} }

// vm is one VM in memory.
type vm struct {
	id     uint32
	name   string
	last   int64 // unix seconds of the newest sample
	saved  int64 // the value of last in the database; -1 when the entry must be written
	series [numSignals]*series
	heads  [][]*head // per tier, by chunk
}

// series is one signal of a VM: an open bucket per tier.
type series struct {
	open []accumulator
}

// signals returns the signals that the VM has, as a bit mask.
func (v *vm) signals() uint32 {
	var mask uint32
	for s, ser := range v.series {
		if ser != nil {
			mask |= 1 << s
		}
	}
	return mask
}

// head returns the head of a chunk, creating it in order.
func (v *vm) head(tier int, chunk int64) *head {
	i, found := slices.BinarySearchFunc(v.heads[tier], chunk, func(h *head, c int64) int {
		return int(min(max(h.chunk-c, -1), 1))
	})
	if !found {
		v.heads[tier] = slices.Insert(v.heads[tier], i, &head{chunk: chunk})
	}
	return v.heads[tier][i]
}

// put stores a point of a tier in its head.
func (v *vm) put(tier int, s Signal, bucket int64, p point, dirty bool) {
	v.head(tier, bucket/chunkPoints).put(s, uint8(bucket%chunkPoints), p, dirty)
}

// observe adds one sample.
func (v *vm) observe(steps []int64, s Signal, at int64, value int64) {
	ser := v.series[s]
	if ser == nil {
		ser = &series{open: make([]accumulator, len(steps))}
		v.series[s] = ser
		v.saved = -1
	}
	bucket := at / steps[0]
	if a := &ser.open[0]; a.open && a.bucket != bucket {
		v.closeFinest(steps, s)
	}
	ser.open[0].add(bucket, point{value, value, value, value, 1})
	v.last = max(v.last, at)
}

// closeFinest ends the open bucket of the finest tier and feeds it to the coarser.
func (v *vm) closeFinest(steps []int64, s Signal) {
	a := &v.series[s].open[0]
	p := a.point()
	a.open = false
	v.put(0, s, a.bucket, p, true)
	v.feed(steps, s, a.bucket*steps[0], p)
}

// feed gives a finished point of the finest tier to the coarser tiers. They are fed
// from it and not from each other so that their percentiles are exact.
func (v *vm) feed(steps []int64, s Signal, at int64, p point) {
	for t := 1; t < len(steps); t++ {
		a := &v.series[s].open[t]
		bucket := at / steps[t]
		if a.open && a.bucket != bucket {
			v.closeCoarse(t, s)
		}
		a.add(bucket, p)
	}
}

func (v *vm) closeCoarse(tier int, s Signal) {
	a := &v.series[s].open[tier]
	a.open = false
	v.put(tier, s, a.bucket, a.point(), true)
}

// closeIdle ends buckets whose time is over and that no sample ends: those of a VM
// that is gone.
func (v *vm) closeIdle(steps []int64, now int64) {
	for s, ser := range v.series {
		if ser == nil {
			continue
		}
		if a := &ser.open[0]; a.open && (a.bucket+2)*steps[0] <= now {
			v.closeFinest(steps, Signal(s))
		}
		for t := 1; t < len(steps); t++ {
			if a := &ser.open[t]; a.open && (a.bucket+1)*steps[t]+2*steps[0] <= now {
				v.closeCoarse(t, Signal(s))
			}
		}
	}
}

// snapshot puts the open bucket of the finest tier into its head as it stands, marked
// for the log, so that a flush leaves nothing behind.
func (v *vm) snapshot(s Signal) {
	if ser := v.series[s]; ser != nil && ser.open[0].open {
		a := &ser.open[0]
		v.put(0, s, a.bucket, a.point(), true)
	}
}

// snapshotCoarse does the same for the coarser tiers, for a reader: each open bucket
// with the newest point of the finest tier, which feeds it only when it is over.
// Nothing is marked, since these buckets are rebuilt from the finest log.
func (v *vm) snapshotCoarse(steps []int64, s Signal) {
	ser := v.series[s]
	if ser == nil {
		return
	}
	newest := &ser.open[0]
	for t := 1; t < len(steps); t++ {
		a := ser.open[t]
		a.values = slices.Clone(a.values)
		if newest.open {
			bucket := newest.bucket * steps[0] / steps[t]
			if a.open && a.bucket != bucket {
				v.put(t, s, a.bucket, a.point(), false)
				a.open = false
			}
			a.add(bucket, newest.point())
		}
		if a.open {
			v.put(t, s, a.bucket, a.point(), false)
		}
	}
}

// rebuild restores the open buckets from the points of the finest tier that the log
// still had. The last of them may not be over, so it becomes the open bucket.
func (v *vm) rebuild(steps []int64) {
	for s := CPUUsed; s.Valid(); s++ {
		var buckets []int64
		var points []point
		for _, h := range v.heads[0] {
			if c := h.cols[s]; c != nil {
				for i, slot := range c.slots {
					buckets = append(buckets, h.chunk*chunkPoints+int64(slot))
					points = append(points, c.at(i))
				}
			}
		}
		if len(buckets) == 0 {
			continue
		}
		if v.series[s] == nil {
			v.series[s] = &series{open: make([]accumulator, len(steps))}
		}
		last := len(buckets) - 1
		for i := range last {
			v.feed(steps, s, buckets[i]*steps[0], points[i])
		}
		v.series[s].open[0].add(buckets[last], points[last])
		v.last = max(v.last, buckets[last]*steps[0])
	}
}

// quantise turns a value into multiples of the signal's resolution.
func quantise(s Signal, value float64) (int64, bool) {
	q := math.Round(value * signalInfo[s].perUnit)
	if !(math.Abs(q) <= quantum) { // also true of NaN
		return 0, false
	}
	return int64(q), true
}

// export turns a stored point into a Point. It divides, so that a value which is a
// short decimal comes back as the same one.
func export(s Signal, at time.Time, p point) Point {
	f := signalInfo[s].perUnit
	return Point{At: at, Min: float64(p.min) / f, Mean: float64(p.mean) / f, Max: float64(p.max) / f,
		P95: float64(p.p95) / f, N: int(p.n)}
}
