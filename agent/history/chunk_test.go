package history

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var inside = cmp.AllowUnexported(column{}, wide{}, logEntry{}, point{})

func drawPoint(t *rapid.T) point {
	v := rapid.SliceOfN(rapid.Int64Range(-quantum, quantum), 4, 4).Draw(t, "v")
	if rapid.Bool().Draw(t, "single") {
		return point{v[0], v[0], v[0], v[0], 1}
	}
	slices.Sort(v)
	// Mean and percentile lie between the extremes, in either order.
	p := point{v[0], v[1], v[3], v[2], rapid.Uint32Range(1, 1<<32-1).Draw(t, "n")}
	if rapid.Bool().Draw(t, "skewed") {
		p.mean, p.p95 = p.p95, p.mean
	}
	return p
}

func drawColumns(t *rapid.T) *columns {
	cols := &columns{}
	for range rapid.IntRange(0, 60).Draw(t, "points") {
		s := rapid.IntRange(1, numSignals-1).Draw(t, "signal")
		if cols[s] == nil {
			cols[s] = &column{}
		}
		cols[s].put(rapid.Uint8Range(0, chunkPoints-1).Draw(t, "slot"), drawPoint(t))
	}
	return cols
}

func TestChunkIsReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawColumns(t)
		got, err := decodeChunk(encodeChunk(want))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, inside); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestLogIsReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) logEntry {
			return logEntry{
				vm: rapid.Uint32().Draw(t, "vm"), signal: Signal(rapid.IntRange(1, numSignals-1).Draw(t, "signal")),
				bucket: rapid.Int64Range(0, maxBucket).Draw(t, "bucket"), point: drawPoint(t),
			}
		}), 1, 50).Draw(t, "entries")
		slices.SortStableFunc(want, func(a, b logEntry) int { return int(int64(a.vm) - int64(b.vm)) })
		got, err := decodeLog(encodeLog(want))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, inside); diff != "" {
			t.Fatal(diff)
		}
	})
}

// A column is a map from slot to point in which the point of more samples wins.
func TestColumnKeepsThePointOfMoreSamples(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, model := &column{}, map[uint8]point{}
		for range rapid.IntRange(1, 100).Draw(t, "puts") {
			slot, p := rapid.Uint8Range(0, 20).Draw(t, "slot"), drawPoint(t)
			if rapid.Bool().Draw(t, "few") {
				p.n = min(p.n, 3)
			}
			old, had := model[slot]
			if !had || p.n >= old.n {
				model[slot] = p
			}
			if changed := c.put(slot, p); changed != (model[slot] != old || !had) {
				t.Fatalf("put of %v over %v says changed = %v", p, old, changed)
			}
		}
		if !slices.IsSorted(c.slots) || len(c.slots) != len(model) {
			t.Fatalf("slots %v, want those of %v", c.slots, model)
		}
		for i, slot := range c.slots {
			if c.at(i) != model[slot] {
				t.Fatalf("slot %d is %v, want %v", slot, c.at(i), model[slot])
			}
		}
	})
}

// Every changed byte must be seen: the checksum is the only thing between a failing
// disk and a wrong number.
func TestEachFlippedBitIsSeen(t *testing.T) {
	cols := &columns{}
	cols[CPUUsed] = &column{}
	for i := range uint8(100) {
		cols[CPUUsed].put(i, point{1, 2, 3, 3, 10})
	}
	good := encodeChunk(cols)
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			if _, err := decodeChunk(bad); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("byte %d bit %d: %v", i, bit, err)
			}
		}
		if _, err := decodeChunk(good[:i]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
}

func TestFramesOfOneTypeAreNotReadAsAnother(t *testing.T) {
	if _, err := unframe(frameBlob, frame(frameRecord, []byte("x")), 10); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	// A small frame that claims to expand to more than the limit is refused before
	// anything is allocated for it.
	if _, err := unframe(frameBlob, frame(frameBlob, make([]byte, 1<<20)), 1<<10); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
}

// FuzzDecodeColumns: what decodes is what encodes to the same bytes, except for
// varints that are longer than needed.
func FuzzDecodeColumns(f *testing.F) {
	cols := &columns{}
	cols[CPUUsed], cols[NetRx] = &column{}, &column{}
	for i := range uint8(20) {
		cols[CPUUsed].put(i*3, point{int64(i), 50, 90, 80, 10})
		cols[NetRx].put(i, point{7, 7, 7, 7, 1})
	}
	f.Add(appendColumns(nil, cols))
	f.Add([]byte{1, 1, 1, 1, 0, 5})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeColumns(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		again, err := decodeColumns(appendColumns(nil, got))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, again, inside); diff != "" {
			t.Fatal(diff)
		}
	})
}

// FuzzDecodeLog feeds the payload inside a valid frame, which random bytes would
// never get past.
func FuzzDecodeLog(f *testing.F) {
	f.Add([]byte{5, 1, 1, 1, 0, 2})
	f.Add([]byte{5, 1, 1, 0x81, 0, 2, 3, 1, 1, 1})
	f.Fuzz(func(t *testing.T, payload []byte) {
		got, err := decodeLog(frame(frameLog, payload))
		if err != nil || len(got) == 0 {
			return
		}
		again, err := decodeLog(encodeLog(got))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, again, inside); diff != "" {
			t.Fatal(diff)
		}
	})
}

// FuzzUnframe feeds raw bytes, as a disk would.
func FuzzUnframe(f *testing.F) {
	f.Add(frame(frameBlob, bytes.Repeat([]byte("headroom "), 40)))
	f.Add(frame(frameBlob, []byte("x")))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := unframe(frameBlob, b, 1<<16)
		if err == nil && len(got) > 1<<16 {
			t.Fatalf("%d bytes", len(got))
		}
	})
}

// FuzzDecodeVM feeds the payload inside a valid frame.
func FuzzDecodeVM(f *testing.F) {
	f.Add([]byte{5, 2, 'a'})
	f.Fuzz(func(t *testing.T, payload []byte) {
		m, err := decodeVM(frame(frameVM, payload), 3)
		if err == nil && (m.name == "" || len(m.name) > maxName) {
			t.Fatalf("name %q", m.name)
		}
	})
}
