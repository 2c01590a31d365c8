package history

import (
	"encoding/binary"
	"math"
	"time"
)

// Keys of the store. Numbers are big endian, so that Badger's order is theirs.
//
//	'v' vm(4)                         the VM's name and signals
//	'n'                               next VM number
//	'c' step(4) chunk(8) vm(4)        one chunk; step in seconds names the tier
//	'w' step(4) sequence(8)           one log value
//	'r' len(1) kind time(8) id        one record; time in ns since 1970
//	'i' len(1) kind id                where the record of an id stands: time(8)
//	'b' name                          one blob
const (
	prefixVM     = 'v'
	prefixNext   = 'n'
	prefixChunk  = 'c'
	prefixLog    = 'w'
	prefixRecord = 'r'
	prefixIndex  = 'i'
	prefixBlob   = 'b'
)

// maxName bounds VM names, record kinds and ids, blob names and journal keys.
const maxName = 512

// maxBucket is a bucket number that no time in a 64-bit nanosecond clock reaches.
const maxBucket = math.MaxInt64 / int64(time.Second)

func vmKey(vm uint32) []byte { return binary.BigEndian.AppendUint32([]byte{prefixVM}, vm) }

func tierPrefix(prefix byte, step int64) []byte {
	return binary.BigEndian.AppendUint32(append(make([]byte, 0, 17), prefix), uint32(step))
}

func chunkPrefix(step, chunk int64) []byte {
	return binary.BigEndian.AppendUint64(tierPrefix(prefixChunk, step), uint64(chunk))
}

func chunkKey(step, chunk int64, vm uint32) []byte {
	return binary.BigEndian.AppendUint32(chunkPrefix(step, chunk), vm)
}

func logKey(step int64, sequence uint64) []byte {
	return binary.BigEndian.AppendUint64(tierPrefix(prefixLog, step), sequence)
}

// splitTierKey returns the step and the number that follows it, of a chunk or log key.
func splitTierKey(key []byte) (step, number int64, ok bool) {
	if len(key) < 13 {
		return 0, 0, false
	}
	n := binary.BigEndian.Uint64(key[5:13])
	return int64(binary.BigEndian.Uint32(key[1:5])), int64(n), n <= math.MaxInt64
}

func recordPrefix(prefix byte, kind string) []byte {
	return append([]byte{prefix, byte(len(kind))}, kind...)
}

func recordKey(kind string, at time.Time, id string) []byte {
	k := binary.BigEndian.AppendUint64(recordPrefix(prefixRecord, kind), uint64(at.UnixNano()))
	return append(k, id...)
}

func indexKey(kind, id string) []byte { return append(recordPrefix(prefixIndex, kind), id...) }

// splitRecordKey is the inverse of recordKey.
func splitRecordKey(key []byte) (kind string, at time.Time, id string, ok bool) {
	if len(key) < 2 || len(key) < 2+int(key[1])+8 {
		return "", time.Time{}, "", false
	}
	kind, key = string(key[2:2+key[1]]), key[2+key[1]:]
	return kind, time.Unix(0, int64(binary.BigEndian.Uint64(key))).UTC(), string(key[8:]), true
}

func blobKey(name string) []byte { return append([]byte{prefixBlob}, name...) }
