package history

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Every stored value is a frame:
//
//	type (1) version (1) flags (1) length uvarint payload crc32c (4, little endian)
//
// The checksum covers all before it. Badger's own checksums guard its blocks and
// logs; this one is what makes a wrong value visible wherever it came from.
type frameType byte

const (
	frameChunk   frameType = 'C'
	frameLog     frameType = 'W'
	frameVM      frameType = 'V'
	frameRecord  frameType = 'R'
	frameBlob    frameType = 'B'
	frameJournal frameType = 'J'

	frameVersion = 1
	flagZstd     = 1
)

// compressFrom is the payload size from which compression is tried.
const compressFrom = 64

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// The coders keep their tables between calls; both are safe for concurrent use of
// their All methods.
var (
	encoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
			zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithSingleSegment(true), zstd.WithWindowSize(128<<10), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic("history: zstd refuses its constant options: " + err.Error())
		}
		return e
	})
	decoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderLowmem(true))
		if err != nil {
			panic("history: zstd refuses its constant options: " + err.Error())
		}
		return d
	})
)

// frame wraps payload, compressed when that saves space.
func frame(t frameType, payload []byte) []byte {
	body, flags := payload, byte(0)
	if len(payload) >= compressFrom {
		if z := encoder().EncodeAll(payload, nil); len(z) < len(payload) {
			body, flags = z, flagZstd
		}
	}
	out := make([]byte, 0, len(body)+16)
	out = append(out, byte(t), frameVersion, flags)
	out = binary.AppendUvarint(out, uint64(len(payload)))
	out = append(out, body...)
	return binary.LittleEndian.AppendUint32(out, crc32.Checksum(out, castagnoli))
}

// unframe returns the payload of a frame, at most limit bytes. Every failure is an
// ErrCorrupt.
func unframe(t frameType, b []byte, limit int) ([]byte, error) {
	if len(b) < 3+1+4 {
		return nil, fmt.Errorf("%w: %d bytes are no frame", ErrCorrupt, len(b))
	}
	sum := binary.LittleEndian.Uint32(b[len(b)-4:])
	b = b[:len(b)-4]
	if crc32.Checksum(b, castagnoli) != sum {
		return nil, fmt.Errorf("%w: checksum differs", ErrCorrupt)
	}
	if frameType(b[0]) != t || b[1] != frameVersion || b[2]&^flagZstd != 0 {
		return nil, fmt.Errorf("%w: frame %q version %d flags %#x, want %q version %d; was it written by a newer headroom?",
			ErrCorrupt, b[0], b[1], b[2], byte(t), frameVersion)
	}
	length, n := binary.Uvarint(b[3:])
	if n <= 0 || length > uint64(limit) {
		return nil, fmt.Errorf("%w: frame length %d, at most %d", ErrCorrupt, length, limit)
	}
	body := b[3+n:]
	if b[2]&flagZstd != 0 {
		out, err := decoder().DecodeAll(body, make([]byte, 0, length))
		if err != nil {
			return nil, fmt.Errorf("%w: %v", ErrCorrupt, err)
		}
		body = out
	}
	if uint64(len(body)) != length {
		return nil, fmt.Errorf("%w: payload of %d bytes, want %d", ErrCorrupt, len(body), length)
	}
	return body, nil
}
