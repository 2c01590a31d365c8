package history

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// chunkPoints is the number of buckets that one chunk spans, in every tier. It is
// part of the file format: chunk n of a tier holds the buckets
// [n*chunkPoints, (n+1)*chunkPoints).
const chunkPoints = 120

// quantum bounds a stored value, in multiples of its signal's resolution; within it
// all differences of two values fit an int64 and a float64 exactly.
const quantum = 1 << 52

// point is one bucket in multiples of the signal's resolution.
type point struct {
	min, mean, max, p95 int64
	n                   uint32 // samples it is made of; never 0
}

// single tells whether one number says it all.
func (p point) single() bool {
	return p.n == 1 && p.min == p.mean && p.max == p.mean && p.p95 == p.mean
}

// wide is the part of a point that single points do without.
type wide struct {
	min, max, p95 int64
	n             uint32
}

// column holds the points of one signal in one chunk. Points of a single sample,
// the common case in the finest tier, take 9 bytes.
type column struct {
	slots []uint8 // ascending, below chunkPoints
	mean  []int64
	wide  []wide // nil while all points are single, else as long as slots
}

func (c *column) at(i int) point {
	if c.wide == nil {
		m := c.mean[i]
		return point{m, m, m, m, 1}
	}
	w := c.wide[i]
	return point{w.min, c.mean[i], w.max, w.p95, w.n}
}

// put stores p at slot. Of two points of one slot the one made of more samples
// stays: it knew more. It reports whether the column changed.
func (c *column) put(slot uint8, p point) bool {
	i, found := len(c.slots), false
	if i > 0 && slot <= c.slots[i-1] {
		i, found = slices.BinarySearch(c.slots, slot)
	}
	if found {
		if old := c.at(i); old.n > p.n || old == p {
			return false
		}
	}
	if c.wide == nil && !p.single() {
		c.wide = make([]wide, len(c.slots), max(len(c.slots)+1, cap(c.slots)))
		for k, m := range c.mean {
			c.wide[k] = wide{m, m, m, 1}
		}
	}
	w := wide{p.min, p.max, p.p95, p.n}
	switch {
	case found:
		c.mean[i] = p.mean
		if c.wide != nil {
			c.wide[i] = w
		}
	default:
		c.slots = slices.Insert(c.slots, i, slot)
		c.mean = slices.Insert(c.mean, i, p.mean)
		if c.wide != nil {
			c.wide = slices.Insert(c.wide, i, w)
		}
	}
	return true
}

// merge puts all points of other into c.
func (c *column) merge(other *column) {
	for i, slot := range other.slots {
		c.put(slot, other.at(i))
	}
}

// clone returns a copy that shares nothing with c.
func (c *column) clone() *column {
	return &column{slots: slices.Clone(c.slots), mean: slices.Clone(c.mean), wide: slices.Clone(c.wide)}
}

// columns are the signals of one VM in one chunk; nil where a signal has no point.
type columns [numSignals]*column

// appendColumns encodes the payload of a chunk:
//
//	count of signals, then per signal:
//	  signal (1), shape (1): 0 single points, 1 wide points
//	  runs of slots: count, then (gap, length) each
//	  means: zigzag difference to the one before
//	  wide only: n; mean-min; max-mean; max-p95, each a column
//
// All numbers are varints.
func appendColumns(b []byte, cols *columns) []byte {
	used := 0
	for _, c := range cols {
		if c != nil && len(c.slots) > 0 {
			used++
		}
	}
	b = binary.AppendUvarint(b, uint64(used))
	for s, c := range cols {
		if c != nil && len(c.slots) > 0 {
			b = appendColumn(append(b, byte(s)), c)
		}
	}
	return b
}

func appendColumn(b []byte, c *column) []byte {
	shape := byte(0)
	if c.wide != nil {
		shape = 1
	}
	b = append(b, shape)
	b = appendRuns(b, c.slots)
	var before int64
	for _, m := range c.mean {
		b = binary.AppendVarint(b, m-before)
		before = m
	}
	for _, w := range c.wide {
		b = binary.AppendUvarint(b, uint64(w.n))
	}
	for i, w := range c.wide {
		b = binary.AppendUvarint(b, uint64(c.mean[i]-w.min))
	}
	for i, w := range c.wide {
		b = binary.AppendUvarint(b, uint64(w.max-c.mean[i]))
	}
	for _, w := range c.wide {
		b = binary.AppendUvarint(b, uint64(w.max-w.p95))
	}
	return b
}

// appendRuns writes ascending slots as runs of neighbours; an unbroken series is one.
func appendRuns(b []byte, slots []uint8) []byte {
	var runs []byte
	count, next := uint64(0), 0
	for i := 0; i < len(slots); {
		k := i + 1
		for k < len(slots) && slots[k] == slots[k-1]+1 {
			k++
		}
		runs = binary.AppendUvarint(runs, uint64(int(slots[i])-next))
		runs = binary.AppendUvarint(runs, uint64(k-i))
		next = int(slots[k-1]) + 1
		count++
		i = k
	}
	return append(binary.AppendUvarint(b, count), runs...)
}

// decodeColumns is the inverse of appendColumns. It accepts only what appendColumns
// can write; signals of a later version are an error too.
func decodeColumns(b []byte) (*columns, error) {
	r := &reader{b: b}
	out := &columns{}
	used := r.uvarint(uint64(numSignals))
	before := -1
	for range used {
		s := Signal(r.byte())
		if r.err == nil && (!s.Valid() || int(s) <= before) {
			r.fail("signal %d is not known or out of order", s)
		}
		c := r.column()
		if r.err != nil {
			return nil, r.err
		}
		out[s], before = c, int(s)
	}
	if r.err == nil && len(r.b) != 0 {
		r.fail("%d bytes are left over", len(r.b))
	}
	return out, r.err
}

// reader reads varints and remembers the first failure.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...)
	}
	r.b = nil
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail("it ends early")
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > limit {
		r.fail("a number is missing or above %d", limit)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail("a number is missing")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// value adds a difference to a value and keeps the result within the quantum.
func (r *reader) value(base, diff int64) int64 {
	v := base + diff
	if diff > 2*quantum || diff < -2*quantum || v > quantum || v < -quantum {
		r.fail("value out of range")
		return 0
	}
	return v
}

func (r *reader) column() *column {
	shape := r.byte()
	if shape > 1 {
		r.fail("shape %d", shape)
	}
	c := &column{slots: r.runs()}
	n := len(c.slots)
	if r.err == nil && n == 0 {
		r.fail("a column without points")
	}
	c.mean = make([]int64, n)
	var before int64
	for i := range c.mean {
		before = r.value(before, r.varint())
		c.mean[i] = before
	}
	if shape == 1 {
		r.wide(c)
	}
	return c
}

func (r *reader) wide(c *column) {
	c.wide = make([]wide, len(c.slots))
	for i := range c.wide {
		c.wide[i].n = uint32(r.uvarint(math.MaxUint32))
		if r.err == nil && c.wide[i].n == 0 {
			r.fail("a point of no samples")
		}
	}
	for i := range c.wide {
		c.wide[i].min = r.value(c.mean[i], -int64(r.uvarint(2*quantum)))
	}
	for i := range c.wide {
		c.wide[i].max = r.value(c.mean[i], int64(r.uvarint(2*quantum)))
	}
	for i := range c.wide {
		w := &c.wide[i]
		if w.p95 = r.value(w.max, -int64(r.uvarint(2*quantum))); r.err == nil && w.p95 < w.min {
			r.fail("p95 below the minimum")
		}
	}
}

func (r *reader) runs() []uint8 {
	var slots []uint8
	at := uint64(0)
	for range r.uvarint(chunkPoints) {
		at += r.uvarint(chunkPoints)
		length := r.uvarint(chunkPoints)
		if at+length > chunkPoints || length == 0 {
			r.fail("slots beyond the chunk")
		}
		if r.err != nil {
			return nil
		}
		for range length {
			slots = append(slots, uint8(at))
			at++
		}
	}
	return slots
}

// maxChunk bounds the payload of a chunk: five numbers of ten bytes per point.
const maxChunk = numSignals * (chunkPoints*5*10 + 400)

// encodeChunk returns the stored form of one VM's chunk.
func encodeChunk(cols *columns) []byte { return frame(frameChunk, appendColumns(nil, cols)) }

// decodeChunk reads what encodeChunk wrote. Every failure is an ErrCorrupt.
func decodeChunk(b []byte) (*columns, error) {
	payload, err := unframe(frameChunk, b, maxChunk)
	if err != nil {
		return nil, err
	}
	return decodeColumns(payload)
}
