package history

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// Limits of records and blobs, in bytes before compression.
const (
	maxKind   = 64
	maxRecord = 256 << 10
	maxBlob   = 4 << 20
	// maxStored bounds a frame: larger ones would leave the tree for the value log.
	maxStored = 1000 << 10
)

// maxListed bounds the records that one call of Records returns.
const maxListed = 10_000

// Record is one stored event: a decision, a migration, a verdict.
type Record struct {
	Kind  string
	At    time.Time
	ID    string
	Value []byte
}

// PutRecord stores value under a kind, a time and an id that is unique within the
// kind. A record of the same kind and id is replaced, also when its time differs:
// so a decision gets its verdict. Kind has 1..64 bytes, id 1..512, value at most
// 256 KiB. It is on its way to the disk on return, not yet durable: what must be
// durable belongs into the Journal.
func (s *Store) PutRecord(kind string, at time.Time, id string, value []byte) error {
	if kind == "" || len(kind) > maxKind || id == "" || len(id) > maxName || len(value) > maxRecord || at.UnixNano() < 0 {
		return fmt.Errorf("record %.64q %.64q of %d bytes: %w", kind, id, len(value), ErrTooLarge)
	}
	framed := frame(frameRecord, value)
	index := indexKey(kind, id)
	stamp := binary.BigEndian.AppendUint64(nil, uint64(at.UnixNano()))
	err := s.db.ready()
	if err == nil {
		err = classify(s.db.Update(func(txn *badger.Txn) error {
			if old, err := txn.Get(index); err == nil {
				before, err := old.ValueCopy(nil)
				if err == nil && len(before) == 8 && string(before) != string(stamp) {
					if err := txn.Delete(append(append(recordPrefix(prefixRecord, kind), before...), id...)); err != nil {
						return err
					}
				}
			}
			if err := txn.Set(index, stamp); err != nil {
				return err
			}
			return txn.Set(recordKey(kind, at, id), framed)
		}))
	}
	if err != nil {
		return fmt.Errorf("record %q %q: %w", kind, id, err)
	}
	return nil
}

// Records returns at most limit records of a kind with At >= since, newest first.
// A limit of 0 or less, or above 10000, means 10000. Damaged records are skipped and
// counted.
func (s *Store) Records(kind string, since time.Time, limit int) ([]Record, error) {
	if kind == "" || len(kind) > maxKind {
		return nil, fmt.Errorf("records %.64q: %w", kind, ErrTooLarge)
	}
	if limit <= 0 || limit > maxListed {
		limit = maxListed
	}
	var out []Record
	prefix := recordPrefix(prefixRecord, kind)
	err := s.db.View(func(txn *badger.Txn) error {
		o := badger.DefaultIteratorOptions
		o.Reverse, o.PrefetchSize = true, min(limit, 32)
		it := txn.NewIterator(o)
		defer it.Close()
		// A reverse iterator starts at the last key that is not above the seek.
		for it.Seek(append(append([]byte{}, prefix...), 0xff)); it.ValidForPrefix(prefix) && len(out) < limit; it.Next() {
			key := it.Item().KeyCopy(nil)
			_, at, id, ok := splitRecordKey(key)
			if ok && at.Before(since) {
				return nil
			}
			value, err := it.Item().ValueCopy(nil)
			if err == nil {
				value, err = unframe(frameRecord, value, maxRecord)
			}
			if err != nil || !ok {
				s.corrupt(key, err)
				continue
			}
			out = append(out, Record{kind, at, id, value})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("records %q: %w", kind, classify(err))
	}
	return out, nil
}

// Record returns the record of an id; ok is false when there is none, or when it is
// damaged, which is counted.
func (s *Store) Record(kind, id string) (r Record, ok bool, err error) {
	if kind == "" || len(kind) > maxKind || id == "" || len(id) > maxName {
		return Record{}, false, nil
	}
	stamp, ok, err := s.db.get(indexKey(kind, id))
	if err != nil || !ok || len(stamp) != 8 {
		return Record{}, false, err
	}
	at := time.Unix(0, int64(binary.BigEndian.Uint64(stamp))).UTC()
	value, ok, err := s.framed(frameRecord, recordKey(kind, at, id), maxRecord)
	return Record{kind, at, id, value}, ok, err
}

// framed reads a frame; a damaged one counts as absent.
func (s *Store) framed(t frameType, key []byte, limit int) (value []byte, ok bool, err error) {
	raw, ok, err := s.db.get(key)
	if err != nil || !ok {
		return nil, false, err
	}
	if value, err = unframe(t, raw, limit); err != nil {
		s.corrupt(key, err)
		return nil, false, nil
	}
	return value, true, nil
}

// PutBlob stores learned state under a name of 1..512 bytes, replacing what was
// there. The value has at most 4 MiB, and about 1 MB after compression.
func (s *Store) PutBlob(name string, value []byte) error {
	if name == "" || len(name) > maxName || len(value) > maxBlob {
		return fmt.Errorf("blob %.64q of %d bytes: %w", name, len(value), ErrTooLarge)
	}
	framed := frame(frameBlob, value)
	if len(framed) > maxStored {
		return fmt.Errorf("blob %q of %d bytes when compressed: %w", name, len(framed), ErrTooLarge)
	}
	err := s.db.ready()
	if err == nil {
		err = classify(s.db.Update(func(txn *badger.Txn) error { return txn.Set(blobKey(name), framed) }))
	}
	if err != nil {
		return fmt.Errorf("blob %q: %w", name, err)
	}
	return nil
}

// Blob returns the value of a name; ok is false when there is none, or when it is
// damaged, which is counted: state is learned again.
func (s *Store) Blob(name string) (value []byte, ok bool, err error) {
	if name == "" || len(name) > maxName {
		return nil, false, nil
	}
	return s.framed(frameBlob, blobKey(name), maxBlob)
}

// DeleteBlobs removes all blobs whose name begins with prefix, which is not empty.
func (s *Store) DeleteBlobs(prefix string) error {
	if strings.TrimSpace(prefix) == "" {
		return fmt.Errorf("delete blobs of an empty prefix: %w", ErrBadSample)
	}
	var keys [][]byte
	if err := s.scanKeys(blobKey(prefix), func(key []byte) { keys = append(keys, key) }); err != nil {
		return err
	}
	return s.deleteKeys(keys)
}
