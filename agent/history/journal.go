package history

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/dgraph-io/badger/v4"
)

// maxJournalValue bounds one journal value, in bytes.
const maxJournalValue = 64 << 10

// Journal holds the negotiation records. Every Put and Delete is on the disk when it
// returns. All methods may be called concurrently.
type Journal struct {
	db *database
}

// OpenJournal opens or creates the journal in dir. A damaged journal is an error
// (ErrCorrupt where it can be told): what it held decides about running VMs, so a
// person has to look. A second process gets ErrLocked.
func OpenJournal(dir string) (*Journal, error) {
	// Room for the next memtable and its table, so that a record which ends a
	// migration still fits when the disk has become full.
	tune := tuning{memTable: 1 << 20, sync: true, minFree: 8 << 20}
	db, err := openDatabase(dir, tune, slog.Default())
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return &Journal{db: db}, nil
}

// Put stores value under key, durably, replacing what was there. The key has 1..512
// bytes, the value at most 64 KiB. ErrDiskFull means that nothing changed.
func (j *Journal) Put(key string, value []byte) error {
	if len(key) == 0 || len(key) > maxName || len(value) > maxJournalValue {
		return fmt.Errorf("journal put %.64q of %d bytes: %w", key, len(value), ErrTooLarge)
	}
	return j.update("put", key, func(txn *badger.Txn) error {
		return txn.Set([]byte(key), frame(frameJournal, value))
	})
}

// Delete removes key, durably. It is no error when there is none.
func (j *Journal) Delete(key string) error {
	if len(key) == 0 {
		return nil
	}
	return j.update("delete", key, func(txn *badger.Txn) error { return txn.Delete([]byte(key)) })
}

func (j *Journal) update(what, key string, fn func(*badger.Txn) error) error {
	err := j.db.ready()
	if err == nil {
		err = classify(j.db.Update(fn))
	}
	if err == nil {
		// A commit may have rotated the log; its successor is sparse again.
		err = j.db.reserve()
	}
	if err != nil {
		return fmt.Errorf("journal %s %q: %w", what, key, err)
	}
	return nil
}

// Get returns the value of key; ok is false when there is none. A damaged value is
// ErrCorrupt, never absence.
func (j *Journal) Get(key string) (value []byte, ok bool, err error) {
	if key == "" {
		return nil, false, nil
	}
	raw, ok, err := j.db.get([]byte(key))
	if err == nil && ok {
		value, err = unframe(frameJournal, raw, maxJournalValue)
	}
	if err != nil {
		return nil, false, fmt.Errorf("journal get %q: %w", key, err)
	}
	return value, ok, nil
}

// Each calls fn for every record in the order of the keys, until fn fails. Damaged
// records are passed over and named in the returned error (ErrCorrupt) after all
// others were visited. fn may keep value; it must not call the Journal.
func (j *Journal) Each(fn func(key string, value []byte) error) error {
	var damaged []error
	err := j.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			key := string(it.Item().KeyCopy(nil))
			raw, err := it.Item().ValueCopy(nil)
			if err == nil {
				raw, err = unframe(frameJournal, raw, maxJournalValue)
			}
			if err != nil {
				damaged = append(damaged, fmt.Errorf("journal record %q: %w", key, err))
				continue
			}
			if err := fn(key, raw); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(classify(err), errors.Join(damaged...))
}

// Close closes the journal and waits for Badger's goroutines. On a full disk it
// returns ErrDiskFull; nothing is lost, but the directory stays locked until the
// process ends.
func (j *Journal) Close() error { return j.db.close() }
