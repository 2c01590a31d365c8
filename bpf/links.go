package bpf

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
)

// LinkStats are the counters of one network interface as the host sees it: a
// tap's Rx is what its guest sent. Cumulative since the interface was made.
type LinkStats struct {
	RxBytes, TxBytes     uint64
	RxPackets, TxPackets uint64
	RxDropped, TxDropped uint64
}

// Add adds another interface's counters.
func (s *LinkStats) Add(o LinkStats) {
	s.RxBytes += o.RxBytes
	s.TxBytes += o.TxBytes
	s.RxPackets += o.RxPackets
	s.TxPackets += o.TxPackets
	s.RxDropped += o.RxDropped
	s.TxDropped += o.TxDropped
}

// checkEvery is how many readings by BPF are believed without a look at netlink.
const checkEvery = 64

// Links reads the counters of the interfaces of the network namespace that it was
// opened in: those of taps by a BPF program where that can be had (TierSyscall),
// all others, and without BPF the taps too, from a netlink dump, which needs no
// right (TierNetlink). One goroutine at a time may use it.
type Links struct {
	dump *linkDump
	// taps is nil where the dump alone is read.
	taps  *tapReader
	reads int
	// due: the taps must be held against the dump. dumped: the dump is of the
	// latest Read.
	due, dumped bool
	before      []tapRecord
	cost        costMeter
	// state is what other goroutines may ask for.
	state atomic.Pointer[linkState]
}

type linkState struct {
	tier    Tier
	refused []Refusal
}

// OpenLinks opens the interfaces of the calling thread's network namespace. Of the
// options only Tiers counts: without TierSyscall among them, netlink is read alone.
func OpenLinks(opts Options) (*Links, error) {
	// Netlink and the program must be in one namespace, which is the thread's.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	dump, err := openLinkDump()
	if err != nil {
		return nil, err
	}
	l := &Links{dump: dump}
	l.state.Store(&linkState{tier: TierNetlink})
	if len(opts.Tiers) > 0 && !slices.Contains(opts.Tiers, TierSyscall) {
		return l, nil
	}
	if l.taps, err = openTaps(); err == nil {
		l.state.Store(&linkState{tier: TierSyscall})
		err = l.readTaps()
	}
	if err != nil {
		l.fallBack(err)
	}
	return l, nil
}

// Tier is what reads the taps now. Any goroutine may ask.
func (l *Links) Tier() Tier { return l.state.Load().tier }

// Refused tells why a better tier does not read the taps. Any goroutine may ask.
func (l *Links) Refused() []Refusal { return slices.Clone(l.state.Load().refused) }

// fallBack leaves BPF for good.
func (l *Links) fallBack(why error) {
	if l.taps != nil {
		why = errors.Join(why, l.taps.close())
		l.taps = nil
	}
	l.state.Store(&linkState{tier: TierNetlink, refused: []Refusal{{Tier: TierSyscall, Err: why}}})
}

// Read takes in the counters of all taps at once. In the steady state it allocates
// nothing. After an error Stats knows no interface.
func (l *Links) Read() error {
	if l.dump.fd < 0 {
		return fmt.Errorf("read link statistics: %w", ErrClosed)
	}
	// The cost is the CPU time of this thread, so the reading must stay on it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	l.cost.begin()
	defer l.cost.end()
	l.dumped = false
	if l.taps != nil {
		err := l.readTaps()
		if err == nil {
			return nil
		}
		l.fallBack(err)
	}
	if err := l.readDump(); err != nil {
		return fmt.Errorf("read link statistics: %w", err)
	}
	return nil
}

// Cost tells what the readings so far cost, without what Stats may have asked of
// netlink. Any goroutine may ask.
func (l *Links) Cost() Cost { return l.cost.cost() }

func (l *Links) readDump() error {
	l.dumped = true
	return l.dump.read()
}

// readTaps has the program read the taps. When a tap is new, and now and then,
// what it read is held against netlink: a kernel may come to count elsewhere.
func (l *Links) readTaps() error {
	changed, err := l.taps.read()
	if err != nil {
		return err
	}
	l.dump.stale = l.dump.stale || changed
	l.due = l.due || changed || l.reads%checkEvery == 0
	l.reads++
	if !l.due {
		return nil
	}
	l.before = append(l.before[:0], l.taps.records()...)
	if err := l.readDump(); err != nil {
		return nil // not the program's fault; it is due still
	}
	changed, err = l.taps.read()
	if err != nil || changed {
		return err
	}
	l.due = false
	return l.dump.table.vouch(l.before, l.taps.records())
}

// Stats returns what the latest Read saw of the interface of that name. Asking for
// another interface than a tap costs a dump, once after each Read.
func (l *Links) Stats(name string) (LinkStats, bool) {
	if l.taps != nil {
		if s, ok := l.taps.stats(name); ok {
			return s, true
		}
		if !l.dumped && l.readDump() != nil {
			return LinkStats{}, false
		}
	}
	return l.dump.stats(name)
}

// Len is the number of interfaces that the latest Read saw.
func (l *Links) Len() int {
	if l.taps != nil {
		return l.taps.devices()
	}
	return len(l.dump.table.links)
}

// Close frees the program and the sockets. Closing twice is no error.
func (l *Links) Close() error {
	errs := []error{l.dump.close()}
	if l.taps != nil {
		errs = append(errs, l.taps.close())
		l.taps = nil
	}
	return errors.Join(errs...)
}
