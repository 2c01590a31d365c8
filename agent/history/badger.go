package history

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"golang.org/x/sys/unix"
)

// tuning is what differs between the two databases.
type tuning struct {
	memTable int64 // bytes of one memtable; two may live at a time
	sync     bool  // every commit reaches the disk before it returns
	minFree  int64 // bytes that must be free before a write
}

// database is a Badger database with the guards that it lacks.
type database struct {
	*badger.DB
	dir  string
	tune tuning
}

// openDatabase opens dir, creating it with mode 0700: VM names and loads are
// nobody else's business.
func openDatabase(dir string, tune tuning, log *slog.Logger) (db *database, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, classify(err)
	}
	if err := probeLock(dir); err != nil {
		return nil, err
	}
	if err := checkFree(dir, tune.minFree); err != nil {
		return nil, err
	}
	// Badger asserts in places where a damaged file is the cause.
	defer func() {
		if p := recover(); p != nil {
			db, err = nil, fmt.Errorf("open %s: %w: %v", dir, ErrCorrupt, p)
		}
	}()
	b, err := badger.Open(badgerOptions(dir, tune, log))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, classify(err))
	}
	db = &database{DB: b, dir: dir, tune: tune}
	if err := db.reserve(); err != nil {
		return nil, errors.Join(err, db.close())
	}
	return db, nil
}

// badgerOptions keeps Badger small. Values are compressed before they get there, so
// Badger compresses nothing and needs no block cache; all values live in the tree,
// so that the value log stays empty and needs no collection of garbage.
func badgerOptions(dir string, tune tuning, log *slog.Logger) badger.Options {
	o := badger.DefaultOptions(dir)
	o.SyncWrites = tune.sync
	o.Logger = badgerLog{log}
	o.Compression = options.None
	o.BlockCacheSize = 0
	o.MemTableSize = tune.memTable
	o.NumMemtables = 2
	o.BaseTableSize = tune.memTable / 4
	o.BaseLevelSize = tune.memTable
	o.ValueThreshold = min(1<<20, tune.memTable/8)
	o.ValueLogFileSize = 1 << 20
	o.NumCompactors = 2
	o.NumLevelZeroTables = 2
	o.NumLevelZeroTablesStall = 8
	o.NumGoroutines = 1
	o.MetricsEnabled = false
	o.DetectConflicts = false
	o.ChecksumVerificationMode = options.OnBlockRead
	return o
}

// probeLock tells a second agent apart from other failures: Badger takes the same
// lock, but reports its refusal only as text.
func probeLock(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close() // gives the lock back
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		pid, readErr := os.ReadFile(filepath.Join(dir, "LOCK"))
		if readErr != nil {
			pid = []byte("unknown")
		}
		return fmt.Errorf("open %s: %w: process %s holds it; is a second agent running? stop it or give this one its own data_dir",
			dir, ErrLocked, bytes.TrimSpace(pid))
	}
	return err
}

// checkFree fails with ErrDiskFull when less than need bytes are free for an
// unprivileged process.
func checkFree(dir string, need int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("statfs %s: %w", dir, err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < need {
		return fmt.Errorf("%w (%s: %d MiB free, %d MiB wanted)", ErrDiskFull, dir, free>>20, need>>20)
	}
	return nil
}

// reserve allocates the disk blocks of the memory-mapped logs that are being
// written, which Badger creates sparse: a store into a hole that cannot be filled
// any more would end the process with SIGBUS. The sizes stay as they are.
func (db *database) reserve() error {
	for _, pattern := range []string{"*.mem", "*.vlog", "DISCARD"} {
		paths, err := filepath.Glob(filepath.Join(db.dir, pattern))
		if err != nil {
			return err
		}
		for _, p := range paths {
			if err := reserveFile(p); err != nil {
				return err
			}
		}
	}
	return nil
}

func reserveFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // rotated away meanwhile
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Size == 0 || st.Blocks*512 >= st.Size {
		return nil
	}
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, st.Size)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil // such a file system cannot promise blocks; MinFree has to do
	}
	return classify(err)
}

// ready is asked before every write. Beside what is to stay free it wants the room
// that Badger's next compaction takes while its input still stands: level 0 and the
// level below it.
func (db *database) ready() error {
	need := db.tune.minFree
	for _, level := range db.Levels() {
		if level.Level == 0 || level.IsBaseLevel {
			need += level.Size
		}
	}
	return checkFree(db.dir, need)
}

// close closes the database and waits for its goroutines. Closing writes tables
// through a memory map; when there is no room for them the database is only synced
// and left to the end of the process: its logs hold everything, and the next opening
// replays them.
func (db *database) close() error {
	if err := checkFree(db.dir, 3*db.tune.memTable); errors.Is(err, ErrDiskFull) {
		return errors.Join(fmt.Errorf("close %s: the logs are kept for the next start: %w", db.dir, err), classify(db.Sync()))
	}
	return classify(db.DB.Close())
}

// allocated returns the disk blocks that the database takes, in bytes.
func (db *database) allocated() int64 {
	entries, err := os.ReadDir(db.dir)
	if err != nil {
		return 0
	}
	var sum int64
	for _, e := range entries {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(db.dir, e.Name()), &st) == nil {
			sum += st.Blocks * 512
		}
	}
	return sum
}

// get returns a copy of a value; ok is false when the key is absent.
func (db *database) get(key []byte) (value []byte, ok bool, err error) {
	err = db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(key)
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		ok = true
		value, err = item.ValueCopy(nil)
		return err
	})
	return value, ok, classify(err)
}

// badgerLog passes Badger's messages to slog. Its info lines (each compaction) are
// debug lines here.
type badgerLog struct{ log *slog.Logger }

func (l badgerLog) msg(format string, args []any) string {
	return "badger: " + strings.TrimSpace(fmt.Sprintf(format, args...))
}
func (l badgerLog) Errorf(f string, a ...any)   { l.log.Error(l.msg(f, a)) }
func (l badgerLog) Warningf(f string, a ...any) { l.log.Warn(l.msg(f, a)) }
func (l badgerLog) Infof(f string, a ...any)    { l.log.Debug(l.msg(f, a)) }
func (l badgerLog) Debugf(f string, a ...any)   { l.log.Debug(l.msg(f, a)) }
