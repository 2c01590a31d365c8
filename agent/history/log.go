package history

import (
	"encoding/binary"
	"math"
)

// A log value holds the points that changed in one tier since the flush before, of
// all VMs. It is what a crash leaves of points whose chunk is not sealed yet.
//
//	base bucket, count, then per point, ordered by VM:
//	  difference to the VM number before, signal (top bit set: wide),
//	  zigzag difference of the bucket to base, zigzag mean,
//	  wide only: n, mean-min, max-mean, max-p95
type logEntry struct {
	vm     uint32
	signal Signal
	bucket int64
	point  point
}

// maxLogEntries bounds one log value; a flush with more writes several.
const maxLogEntries = 16384

const maxLog = maxLogEntries*(5+1+10*6) + 32

// wideBit marks a wide point in the signal byte of a log entry.
const wideBit = 0x80

func encodeLog(entries []logEntry) []byte {
	base := entries[0].bucket
	b := binary.AppendUvarint(make([]byte, 0, 8*len(entries)), uint64(base))
	b = binary.AppendUvarint(b, uint64(len(entries)))
	vm := uint32(0)
	for _, e := range entries {
		b = binary.AppendUvarint(b, uint64(e.vm-vm))
		vm = e.vm
		p := e.point
		s := byte(e.signal)
		if !p.single() {
			s |= wideBit
		}
		b = append(b, s)
		b = binary.AppendVarint(b, e.bucket-base)
		b = binary.AppendVarint(b, p.mean)
		if s&wideBit != 0 {
			b = binary.AppendUvarint(b, uint64(p.n))
			b = binary.AppendUvarint(b, uint64(p.mean-p.min))
			b = binary.AppendUvarint(b, uint64(p.max-p.mean))
			b = binary.AppendUvarint(b, uint64(p.max-p.p95))
		}
	}
	return frame(frameLog, b)
}

func decodeLog(value []byte) ([]logEntry, error) {
	payload, err := unframe(frameLog, value, maxLog)
	if err != nil {
		return nil, err
	}
	r := &reader{b: payload}
	base := int64(r.uvarint(uint64(maxBucket)))
	count := r.uvarint(maxLogEntries)
	// Each entry takes at least four bytes: a wrong count must not buy memory.
	if count > uint64(len(r.b)/4) {
		r.fail("%d entries in %d bytes", count, len(r.b))
	}
	if r.err != nil {
		return nil, r.err
	}
	out := make([]logEntry, 0, count)
	vm := uint64(0)
	for range count {
		vm += r.uvarint(math.MaxUint32)
		if vm > math.MaxUint32 {
			r.fail("VM number out of range")
		}
		e := r.logEntry(base)
		if r.err != nil {
			return nil, r.err
		}
		e.vm = uint32(vm)
		out = append(out, e)
	}
	if len(r.b) != 0 {
		r.fail("%d bytes are left over", len(r.b))
	}
	return out, r.err
}

func (r *reader) logEntry(base int64) logEntry {
	s := r.byte()
	e := logEntry{signal: Signal(s &^ wideBit)}
	if diff := r.varint(); diff > maxBucket || diff < -maxBucket || base+diff < 0 || base+diff > maxBucket {
		r.fail("bucket out of range")
	} else {
		e.bucket = base + diff
	}
	m := r.value(0, r.varint())
	e.point = point{m, m, m, m, 1}
	if s&wideBit != 0 {
		e.point.n = uint32(r.uvarint(math.MaxUint32))
		e.point.min = r.value(m, -int64(r.uvarint(2*quantum)))
		e.point.max = r.value(m, int64(r.uvarint(2*quantum)))
		e.point.p95 = r.value(e.point.max, -int64(r.uvarint(2*quantum)))
	}
	if r.err == nil && (!e.signal.Valid() || e.point.n == 0 || e.point.p95 < e.point.min) {
		r.fail("an entry that cannot be")
	}
	return e
}
