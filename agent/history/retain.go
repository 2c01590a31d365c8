package history

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// maxSwept bounds the keys removed of one kind in one sweep; the rest waits.
const maxSwept = 100_000

// Sweep drops what is older than its retention: chunks, records, and VMs without
// samples. Run calls it; tests may.
func (s *Store) Sweep() error {
	now := s.opt.Now()
	var keys [][]byte
	var err error
	for _, find := range []func(time.Time) ([][]byte, error){s.oldChunks, s.oldLogs, s.oldRecords} {
		found, findErr := find(now)
		keys, err = append(keys, found...), errors.Join(err, findErr)
	}
	if err == nil {
		err = s.deleteKeys(keys)
	}
	if err != nil {
		return fmt.Errorf("history sweep: %w", err)
	}
	for _, name := range s.oldVMs(now) {
		if err := s.Forget(name); err != nil {
			return fmt.Errorf("history sweep: %w", err)
		}
	}
	return nil
}

// kept returns the first and last chunk of a step that are kept; ok is false for a
// step that no tier has, left over from another configuration. What lies more than a
// day ahead comes from a clock that was wrong, and would otherwise stay for years.
func (s *Store) kept(now time.Time, step int64) (first, last int64, ok bool) {
	for t, st := range s.steps {
		if st == step {
			first = max(0, now.Add(-s.opt.Tiers[t].Keep).Unix())
			last = max(0, now.Add(24*time.Hour).Unix())
			return first / (step * chunkPoints), last / (step * chunkPoints), true
		}
	}
	return 0, 0, false
}

// oldChunks finds chunks that end before their tier's retention begins. Keys are in
// the order of step and time, so that the chunks to keep are jumped over.
func (s *Store) oldChunks(now time.Time) ([][]byte, error) {
	var keys [][]byte
	err := classify(s.db.View(func(txn *badger.Txn) error {
		o := badger.DefaultIteratorOptions
		o.Prefix, o.PrefetchValues = []byte{prefixChunk}, false
		it := txn.NewIterator(o)
		defer it.Close()
		for it.Rewind(); it.Valid() && len(keys) < maxSwept; {
			key := it.Item().KeyCopy(nil)
			step, chunk, ok := splitTierKey(key)
			first, last, known := s.kept(now, step)
			if ok && known && chunk >= first && chunk <= last {
				it.Seek(chunkPrefix(step, last+1))
				continue
			}
			keys = append(keys, key)
			it.Next()
		}
		return nil
	}))
	return keys, err
}

// oldLogs finds log values of steps that no tier has any more.
func (s *Store) oldLogs(now time.Time) ([][]byte, error) {
	var keys [][]byte
	err := s.scan([]byte{prefixLog}, false, func(item *badger.Item) (bool, error) {
		key := item.KeyCopy(nil)
		step, _, ok := splitTierKey(key)
		if _, _, known := s.kept(now, step); !ok || !known {
			keys = append(keys, key)
		}
		return len(keys) < maxSwept, nil
	})
	return keys, err
}

// oldRecords finds records beyond their age or number, with their index entries.
func (s *Store) oldRecords(now time.Time) ([][]byte, error) {
	var keys [][]byte
	cutoff := now.Add(-s.opt.KeepRecords)
	count := map[string]int{}
	err := s.scan([]byte{prefixRecord}, false, func(item *badger.Item) (bool, error) {
		if kind, _, _, ok := splitRecordKey(item.Key()); ok {
			count[kind]++
		}
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	err = s.scan([]byte{prefixRecord}, false, func(item *badger.Item) (bool, error) {
		kind, at, id, ok := splitRecordKey(item.Key())
		if !ok || at.Before(cutoff) || count[kind] > s.opt.MaxRecords {
			keys = append(keys, item.KeyCopy(nil), indexKey(kind, id))
			count[kind]--
		}
		return len(keys) < maxSwept, nil
	})
	return keys, err
}

// oldVMs returns the VMs of which no tier has anything any more.
func (s *Store) oldVMs(now time.Time) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	keep := time.Duration(0)
	for _, t := range s.opt.Tiers {
		keep = max(keep, t.Keep)
	}
	cutoff := now.Add(-keep).Unix()
	var out []string
	for name, m := range s.vms {
		m.last = min(m.last, now.Add(24*time.Hour).Unix())
		if m.last < cutoff {
			out = append(out, name)
		}
	}
	return out
}

// noDamage are causes of a failed opening that a new database would meet as well.
var noDamage = []syscall.Errno{syscall.EACCES, syscall.EPERM, syscall.EROFS, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOTDIR}

// isDamage tells whether an error of openDatabase says that the files are bad.
func isDamage(err error) bool {
	if errors.Is(err, ErrLocked) || errors.Is(err, ErrDiskFull) {
		return false
	}
	for _, e := range noDamage {
		if errors.Is(err, e) || strings.Contains(err.Error(), e.Error()) {
			return false
		}
	}
	return true
}

// openOrReplace opens the database, or moves a damaged one aside and begins anew.
func openOrReplace(dir string, tune tuning, log *slog.Logger) (db *database, damaged bool, err error) {
	db, err = openDatabase(dir, tune, log)
	if err == nil || !isDamage(err) {
		return db, false, err
	}
	aside := dir + ".damaged"
	log.Error("the history is damaged and is begun afresh; the old one is kept aside", "error", err, "aside", aside)
	if rmErr := os.RemoveAll(aside); rmErr != nil {
		return nil, false, errors.Join(err, rmErr)
	}
	if mvErr := os.Rename(dir, aside); mvErr != nil {
		return nil, false, errors.Join(err, mvErr)
	}
	db, err = openDatabase(dir, tune, log)
	return db, true, err
}
