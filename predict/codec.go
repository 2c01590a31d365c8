package predict

import (
	"encoding/binary"
	"errors"
	"math"
)

// codec writes state, or reads it back, through the same calls: what is written
// and what is read cannot drift apart. The sizes of all rings follow from the
// configuration, so that no length from outside is ever trusted with memory.
type codec struct {
	buf     []byte
	reading bool
	err     error
}

var errShort = errors.New("state ends early")

// next gives the next n bytes to fill or to read; nil after an error.
func (c *codec) next(n int) []byte {
	if c.err != nil {
		return nil
	}
	if c.reading {
		if len(c.buf) < n {
			c.err = errShort
			return nil
		}
		b := c.buf[:n]
		c.buf = c.buf[n:]
		return b
	}
	c.buf = append(c.buf, make([]byte, n)...)
	return c.buf[len(c.buf)-n:]
}

func (c *codec) uint64(v *uint64) {
	b := c.next(8)
	switch {
	case b == nil:
	case c.reading:
		*v = binary.LittleEndian.Uint64(b)
	default:
		binary.LittleEndian.PutUint64(b, *v)
	}
}

// int keeps a number that must lie within 0 and most.
func (c *codec) int(v *int, most int) {
	n := int64(*v)
	c.int64(&n, int64(most))
	*v = int(n)
}

func (c *codec) int64(v *int64, most int64) {
	u := uint64(*v)
	c.uint64(&u)
	if c.reading && u > uint64(most) {
		c.fail("a number is out of bounds")
		u = 0
	}
	*v = int64(u)
}

func (c *codec) bool(v *bool) {
	n := 0
	if *v {
		n = 1
	}
	c.int(&n, 1)
	*v = n == 1
}

// float keeps a number that may be NaN but not infinite.
func (c *codec) float(v *float64) {
	u := math.Float64bits(*v)
	c.uint64(&u)
	*v = math.Float64frombits(u)
	if c.reading && math.IsInf(*v, 0) {
		c.fail("a number is infinite")
		*v = 0
	}
}

// number keeps one that may be neither.
func (c *codec) number(vs ...*float64) {
	for _, v := range vs {
		c.float(v)
		if c.reading && *v != *v {
			c.fail("a number is missing")
			*v = 0
		}
	}
}

// positive keeps a number that is neither missing nor negative.
func (c *codec) positive(vs ...*float64) {
	for _, v := range vs {
		c.number(v)
		if c.reading && *v < 0 {
			c.fail("a number is negative")
			*v = 0
		}
	}
}

func (c *codec) floats(v []float64) {
	for i := range v {
		c.float(&v[i])
	}
}

func (c *codec) numbers(v []float64) {
	for i := range v {
		c.number(&v[i])
	}
}

func (c *codec) float32(v *float32) {
	b := c.next(4)
	switch {
	case b == nil:
	case !c.reading:
		binary.LittleEndian.PutUint32(b, math.Float32bits(*v))
	default:
		*v = math.Float32frombits(binary.LittleEndian.Uint32(b))
		if math.IsInf(float64(*v), 0) {
			c.fail("a number is infinite")
			*v = 0
		}
	}
}

func (c *codec) float32s(v []float32) {
	for i := range v {
		c.float32(&v[i])
	}
}

func (c *codec) fail(why string) {
	if c.err == nil {
		c.err = errors.New(why)
	}
}

// maxCount bounds counters of samples: 10 ms samples for 285 years.
const maxCount = 1 << 53
