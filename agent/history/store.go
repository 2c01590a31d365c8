package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// Tier is one resolution.
type Tier struct {
	Step time.Duration // one point per step; whole seconds
	Keep time.Duration // points older than this are dropped
}

// DefaultTiers returns 1 s for 1 h, 10 s for 24 h, 5 min for 90 days.
func DefaultTiers() []Tier {
	return []Tier{
		{time.Second, time.Hour},
		{10 * time.Second, 24 * time.Hour},
		{5 * time.Minute, 90 * 24 * time.Hour},
	}
}

const (
	maxTiers = 4
	// maxRatio bounds the coarsest step in steps of the finest: an open bucket keeps
	// one value per finest step for its percentile.
	maxRatio = 3600
)

// Options configures a Store. Only Dir is required.
type Options struct {
	Dir         string
	Tiers       []Tier           // finest first, each step a multiple of the one before; default DefaultTiers
	Logger      *slog.Logger     // default slog.Default
	Now         func() time.Time // default time.Now
	SyncEvery   time.Duration    // how often written data is forced to the disk; default 10 s
	MinFree     int64            // bytes that stay free beside the room for compaction; default 64 MiB
	KeepRecords time.Duration    // age at which records are dropped; default 90 days
	MaxRecords  int              // most records kept of one kind; default 20000
	MaxVMs      int              // most VMs known at a time; default 16384
}

func (o *Options) fill() error {
	if o.Tiers == nil {
		o.Tiers = DefaultTiers()
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	def := func(v, d time.Duration) time.Duration {
		if v <= 0 {
			return d
		}
		return v
	}
	o.SyncEvery = def(o.SyncEvery, 10*time.Second)
	o.KeepRecords = def(o.KeepRecords, 90*24*time.Hour)
	if o.MinFree <= 0 {
		o.MinFree = 64 << 20
	}
	if o.MaxRecords <= 0 {
		o.MaxRecords = 20000
	}
	if o.MaxVMs <= 0 {
		o.MaxVMs = 16384
	}
	return checkTiers(o.Tiers)
}

func checkTiers(tiers []Tier) error {
	if len(tiers) == 0 || len(tiers) > maxTiers {
		return fmt.Errorf("history: %d tiers; give 1 to %d", len(tiers), maxTiers)
	}
	for i, t := range tiers {
		if t.Step < time.Second || t.Step%time.Second != 0 || t.Keep < t.Step {
			return fmt.Errorf("history: tier %v for %v; give a step of whole seconds and keep at least one", t.Step, t.Keep)
		}
		if i > 0 && (t.Step <= tiers[i-1].Step || t.Step%tiers[i-1].Step != 0) {
			return fmt.Errorf("history: tier step %v is not a multiple of the finer %v", t.Step, tiers[i-1].Step)
		}
	}
	if coarsest := tiers[len(tiers)-1].Step; coarsest/tiers[0].Step > maxRatio {
		return fmt.Errorf("history: the coarsest step %v is more than %d of the finest %v", coarsest, maxRatio, tiers[0].Step)
	}
	return nil
}

// Key names one series.
type Key struct {
	VM     string // VM id; HostKey for the host itself; 1..512 bytes
	Signal Signal
}

// HostKey is the VM name under which the host's own series are kept.
const HostKey = "@host"

// Point is one bucket of a series, in the signal's unit.
type Point struct {
	At                  time.Time // start of the bucket
	Min, Mean, Max, P95 float64
	N                   int // samples in the bucket; never 0: a bucket without samples has no Point
}

// Store is the history of one agent.
type Store struct {
	opt   Options
	steps []int64 // seconds, per tier
	db    *database
	log   *slog.Logger

	flushing sync.Mutex // one Flush at a time; taken before mu
	mu       sync.Mutex // guards what follows
	closed   bool
	vms      map[string]*vm
	byID     map[uint32]*vm
	nextVM   uint32
	logs     [][]logRef // per tier, by sequence
	sequence []uint64   // per tier, of the next log value
	synced   time.Time
	lastErr  error

	counts counters
}

// logRef remembers a log value so that it can be dropped when it is not needed.
type logRef struct {
	sequence uint64
	newest   int64 // unix seconds of the newest bucket in it
}

// Open opens or creates the store in o.Dir. A second process gets ErrLocked, a full
// disk ErrDiskFull. A database that is damaged beyond opening is moved to
// Dir.damaged, which replaces an earlier one, and a new one is begun.
func Open(o Options) (*Store, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	tune := tuning{memTable: 8 << 20, minFree: o.MinFree}
	db, damaged, err := openOrReplace(o.Dir, tune, o.Logger)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	s := &Store{opt: o, db: db, log: o.Logger, vms: map[string]*vm{}, byID: map[uint32]*vm{}, nextVM: 1,
		logs: make([][]logRef, len(o.Tiers)), sequence: make([]uint64, len(o.Tiers)), synced: o.Now()}
	s.counts.quarantined.Store(damaged)
	for _, t := range o.Tiers {
		s.steps = append(s.steps, int64(t.Step/time.Second))
	}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("history: %w", errors.Join(err, db.close()))
	}
	return s, nil
}

// Append adds one sample to a series. It costs no I/O: the sample is durable after
// the next Flush. A NaN, an infinity, a time before 1970 or an unknown signal is
// ErrBadSample; a new VM beyond Options.MaxVMs is ErrTooMany.
func (s *Store) Append(at time.Time, k Key, v float64) error {
	if !k.Signal.Valid() || at.Unix() < 0 {
		return fmt.Errorf("append %v at %v: %w", k, at, ErrBadSample)
	}
	q, ok := quantise(k.Signal, v)
	if !ok {
		return fmt.Errorf("append %v = %v: %w", k, v, ErrBadSample)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	m := s.vms[k.VM]
	if m == nil {
		var err error
		if m, err = s.addVM(k.VM); err != nil {
			return err
		}
	}
	m.observe(s.steps, k.Signal, at.Unix(), q)
	s.counts.appended.Add(1)
	return nil
}

func (s *Store) addVM(name string) (*vm, error) {
	if name == "" || len(name) > maxName {
		return nil, fmt.Errorf("VM name of %d bytes: %w", len(name), ErrTooLarge)
	}
	if len(s.vms) >= s.opt.MaxVMs {
		s.counts.refused.Add(1)
		return nil, fmt.Errorf("VM %q: %w", name, ErrTooMany)
	}
	m := &vm{id: s.nextVM, name: name, saved: -1, heads: make([][]*head, len(s.steps))}
	s.nextVM++
	s.vms[name], s.byID[m.id] = m, m
	return m, nil
}

// Keys returns all series that the store knows, in no order.
func (s *Store) Keys() ([]Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	var out []Key
	for name, m := range s.vms {
		for sig, ser := range m.series {
			if ser != nil {
				out = append(out, Key{name, Signal(sig)})
			}
		}
	}
	return out, nil
}

// Forget drops a VM's series at once. It is no error when there is none. Blobs and
// records are kept: the former by name (DeleteBlobs), the latter as evidence.
func (s *Store) Forget(name string) error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	s.mu.Lock()
	m := s.vms[name]
	if m != nil {
		delete(s.vms, name)
		delete(s.byID, m.id)
	}
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if m == nil {
		return nil
	}
	keys := [][]byte{vmKey(m.id)}
	for _, step := range s.steps {
		first, last, _ := s.kept(s.opt.Now(), step)
		for c := max(0, first-1); c <= last; c++ {
			keys = append(keys, chunkKey(step, c, m.id))
		}
	}
	if err := s.deleteKeys(keys); err != nil {
		return fmt.Errorf("forget %q: %w", name, err)
	}
	return nil
}

// Err returns the error of the last Flush, nil when it succeeded. While it matches
// ErrDiskFull, the agent begins no move.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastErr
}

// Run flushes once a second and enforces the retention every ten minutes, until ctx
// ends; then it flushes once more. A failing flush is logged when it begins to fail
// and when it recovers, and is visible in Err meanwhile.
func (s *Store) Run(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	s.run(ctx, ticker.C)
}

// sweepEvery is the number of flushes between two sweeps.
const sweepEvery = 600

func (s *Store) run(ctx context.Context, tick <-chan time.Time) {
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			_ = s.Flush() // reported and kept for Err
			return
		case <-tick:
		}
		if err := s.Flush(); err != nil || n%sweepEvery != 0 {
			continue
		}
		if err := s.Sweep(); err != nil {
			s.log.Warn("old history could not be dropped; it is tried again", "error", err)
		}
	}
}

// report remembers the outcome of a flush for Err, and logs changes only.
func (s *Store) report(err error) {
	s.mu.Lock()
	before := s.lastErr
	s.lastErr = err
	s.mu.Unlock()
	switch {
	case errors.Is(err, ErrClosed):
	case err != nil && before == nil:
		s.log.Error("history cannot be written; samples are kept in memory as long as they fit", "error", err)
	case err == nil && before != nil:
		s.log.Info("history is written again")
	}
}

// Close flushes, syncs and closes. It waits for Badger's goroutines; the owner of
// Run ends that first. On a full disk it returns ErrDiskFull; what was flushed is
// kept, but the directory stays locked until the process ends.
func (s *Store) Close() error {
	flushErr := s.Flush()
	s.flushing.Lock()
	defer s.flushing.Unlock()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.closed = true
	s.mu.Unlock()
	return errors.Join(flushErr, classify(s.db.Sync()), s.db.close())
}

// deleteKeys removes keys in batches.
func (s *Store) deleteKeys(keys [][]byte) error {
	wb := s.db.NewWriteBatch()
	defer wb.Cancel()
	for _, k := range keys {
		if err := wb.Delete(k); err != nil {
			return classify(err)
		}
	}
	return classify(wb.Flush())
}

// scan visits the keys of a prefix in order, until fn says stop. Values are read
// only through the item.
func (s *Store) scan(prefix []byte, values bool, fn func(item *badger.Item) (more bool, err error)) error {
	return classify(s.db.View(func(txn *badger.Txn) error {
		o := badger.DefaultIteratorOptions
		o.Prefix, o.PrefetchValues, o.PrefetchSize = prefix, values, 16
		it := txn.NewIterator(o)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if more, err := fn(it.Item()); err != nil || !more {
				return err
			}
		}
		return nil
	}))
}

// scanKeys visits the keys of a prefix in order, as copies.
func (s *Store) scanKeys(prefix []byte, fn func(key []byte)) error {
	return s.scan(prefix, false, func(item *badger.Item) (bool, error) {
		fn(item.KeyCopy(nil))
		return true, nil
	})
}
