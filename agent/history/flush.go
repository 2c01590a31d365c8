package history

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

const (
	// lateness is how long after its end a chunk is sealed, in steps of the finest
	// tier: the idle buckets of every tier are closed by then.
	lateness = 3
	// maxSeal bounds the chunks sealed in one flush, to spread the work of a moment at
	// which the chunks of all VMs end.
	maxSeal = 64
	// maxHeads and dropHeads bound the unsealed chunks of one VM and tier. More than
	// two are seen only while the clock is being set or the disk is full.
	maxHeads, dropHeads = 4, 8
	// maxLogs bounds the log values of one tier; beyond it everything is sealed.
	maxLogs = 4096
)

// Flush writes what was appended since the last Flush, seals chunks that have
// ended, and drops log values that are not needed any more. After an error nothing
// is lost: the next Flush tries again, as long as memory bounds allow.
func (s *Store) Flush() error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	err := s.flush()
	s.report(err)
	return err
}

func (s *Store) flush() error {
	entries, newVMs, err := s.collect()
	if err != nil {
		return err
	}
	if err := s.db.ready(); err != nil {
		s.restore(entries, newVMs)
		return fmt.Errorf("history flush: %w", err)
	}
	if err := s.writeLogs(entries, newVMs); err != nil {
		s.restore(entries, newVMs)
		return fmt.Errorf("history flush: %w", err)
	}
	if err := s.seal(); err != nil {
		return fmt.Errorf("history seal: %w", err)
	}
	if err := s.trimLogs(); err != nil {
		return fmt.Errorf("history trim: %w", err)
	}
	if now := s.opt.Now(); now.Sub(s.synced) >= s.opt.SyncEvery || now.Before(s.synced) {
		s.synced = now
		if err := s.db.Sync(); err != nil {
			return fmt.Errorf("history sync: %w", classify(err))
		}
	}
	return s.db.reserve()
}

// collect takes the changed points of every tier and the VMs whose entry changed.
func (s *Store) collect() (entries [][]logEntry, changed []*vm, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, ErrClosed
	}
	now := s.opt.Now().Unix()
	entries = make([][]logEntry, len(s.steps))
	ids := make([]uint32, 0, len(s.byID))
	for id := range s.byID {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		m := s.byID[id]
		m.closeIdle(s.steps, now)
		for sig := CPUUsed; sig.Valid(); sig++ {
			m.snapshot(sig)
		}
		// The newest time is written seldom: it only tells retention that the VM lives.
		if m.saved < 0 || m.last-m.saved >= 3600 {
			changed = append(changed, m)
			m.saved = m.last
		}
		for t := range m.heads {
			entries[t] = m.takeDirty(t, entries[t])
		}
	}
	return entries, changed, nil
}

// takeDirty appends the points of a tier that the log does not have and marks them
// as had.
func (v *vm) takeDirty(tier int, out []logEntry) []logEntry {
	for _, h := range v.heads[tier] {
		for sig := range h.dirty {
			for w := range h.dirty[sig] {
				for set := h.dirty[sig][w]; set != 0; set &= set - 1 {
					slot := uint8(w*64 + bits.TrailingZeros64(set))
					i, _ := slices.BinarySearch(h.cols[sig].slots, slot)
					out = append(out, logEntry{v.id, Signal(sig), h.chunk*chunkPoints + int64(slot), h.cols[sig].at(i)})
				}
				h.dirty[sig][w] = 0
			}
		}
	}
	return out
}

// restore marks points as changed again after a write that failed, and drops what
// has grown beyond the bounds meanwhile.
func (s *Store) restore(entries [][]logEntry, changed []*vm) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t := range entries {
		for _, e := range entries[t] {
			if m := s.byID[e.vm]; m != nil {
				slot := e.bucket % chunkPoints
				m.head(t, e.bucket/chunkPoints).dirty[e.signal][slot/64] |= 1 << (slot % 64)
			}
		}
	}
	for _, m := range changed {
		m.saved = -1
	}
	for _, m := range s.byID {
		for t, heads := range m.heads {
			for len(heads) > dropHeads {
				for _, c := range heads[0].cols {
					if c != nil {
						s.counts.lost.Add(uint64(len(c.slots)))
					}
				}
				heads = slices.Delete(heads, 0, 1)
			}
			m.heads[t] = heads
		}
	}
}

// writeLogs writes VM entries and log values in one batch.
func (s *Store) writeLogs(entries [][]logEntry, changed []*vm) error {
	wb := s.db.NewWriteBatch()
	defer wb.Cancel()
	for _, m := range changed {
		s.mu.Lock()
		value, next := encodeVM(m), s.nextVM
		s.mu.Unlock()
		if err := wb.Set(vmKey(m.id), value); err != nil {
			return classify(err)
		}
		if err := wb.Set([]byte{prefixNext}, binary.BigEndian.AppendUint32(nil, next)); err != nil {
			return classify(err)
		}
	}
	type written struct {
		tier int
		ref  logRef
	}
	var refs []written
	for t, all := range entries {
		for part := range slices.Chunk(all, maxLogEntries) {
			ref := logRef{sequence: s.sequence[t] + 1}
			for _, e := range part {
				ref.newest = max(ref.newest, e.bucket*s.steps[t])
			}
			s.sequence[t]++
			if err := wb.Set(logKey(s.steps[t], ref.sequence), encodeLog(part)); err != nil {
				return classify(err)
			}
			refs = append(refs, written{t, ref})
		}
	}
	if err := wb.Flush(); err != nil {
		return classify(err)
	}
	for _, r := range refs {
		s.logs[r.tier] = append(s.logs[r.tier], r.ref)
	}
	return nil
}

// sealing is one head on its way to the disk.
type sealing struct {
	vm   *vm
	tier int
	head *head
	gen  uint64
	cols columns
}

// seal writes heads that have ended as chunks. A chunk that was sealed before, and
// got late samples, is merged with what is stored.
func (s *Store) seal() error {
	if work := s.sealable(); len(work) > 0 {
		return s.writeChunks(work)
	}
	return nil
}

// writeChunks writes sealable heads and drops those that did not change meanwhile.
func (s *Store) writeChunks(work []sealing) error {
	wb := s.db.NewWriteBatch()
	defer wb.Cancel()
	for i := range work {
		w := &work[i]
		key := chunkKey(s.steps[w.tier], w.head.chunk, w.vm.id)
		stored, err := s.chunk(key)
		if err != nil {
			return err
		}
		points := 0
		for sig := range w.cols {
			w.cols[sig] = mergeColumns(stored[sig], w.cols[sig])
			if w.cols[sig] != nil {
				points += len(w.cols[sig].slots)
			}
		}
		value := encodeChunk(&w.cols)
		if err := wb.Set(key, value); err != nil {
			return classify(err)
		}
		s.counts.sealedBytes.Add(uint64(len(value)))
		s.counts.sealedPoints.Add(uint64(points))
	}
	if err := wb.Flush(); err != nil {
		return classify(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range work {
		if w.head.gen == w.gen { // else a late sample came: it is sealed again later
			w.vm.heads[w.tier] = slices.DeleteFunc(w.vm.heads[w.tier], func(h *head) bool { return h == w.head })
		}
	}
	return nil
}

// mergeColumns joins two columns of which either may be nil.
func mergeColumns(stored, fresh *column) *column {
	if stored == nil || fresh == nil {
		if fresh == nil {
			return stored
		}
		return fresh
	}
	stored.merge(fresh)
	return stored
}

// sealable copies the heads whose time is over, or that are too many.
func (s *Store) sealable() []sealing {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.opt.Now().Unix()
	all := slices.ContainsFunc(s.logs, func(refs []logRef) bool { return len(refs) > maxLogs })
	var out []sealing
	for _, m := range s.byID {
		for t, heads := range m.heads {
			for i, h := range heads {
				over := (h.chunk+1)*chunkPoints*s.steps[t]+lateness*s.steps[0] <= now
				if !(over || all || len(heads)-i > maxHeads) || !h.clean() {
					continue
				}
				if len(out) == maxSeal && !all {
					return out
				}
				w := sealing{vm: m, tier: t, head: h, gen: h.gen}
				for sig, c := range h.cols {
					if c != nil {
						w.cols[sig] = c.clone()
					}
				}
				out = append(out, w)
			}
		}
	}
	return out
}

// chunk reads a stored chunk; what is absent or damaged is empty.
func (s *Store) chunk(key []byte) (*columns, error) {
	value, ok, err := s.db.get(key)
	if err != nil && errors.Is(err, ErrClosed) {
		return nil, err
	}
	if err == nil && ok {
		var cols *columns
		if cols, err = decodeChunk(value); err == nil {
			return cols, nil
		}
	}
	if err != nil {
		s.corrupt(key, err)
	}
	return &columns{}, nil
}

// trimLogs drops log values all of whose points stand in sealed chunks. Those of the
// finest tier stay until the coarser buckets that they fed are closed too, because
// these are rebuilt from them after a crash.
func (s *Store) trimLogs() error {
	var keys [][]byte
	s.mu.Lock()
	for t := range s.logs {
		keep := s.needed(t)
		s.logs[t] = slices.DeleteFunc(s.logs[t], func(r logRef) bool {
			if r.newest >= keep {
				return false
			}
			keys = append(keys, logKey(s.steps[t], r.sequence))
			return true
		})
	}
	s.mu.Unlock()
	if len(keys) == 0 {
		return nil
	}
	return s.deleteKeys(keys)
}

// needed returns the time, in unix seconds, from which a tier's log is needed.
func (s *Store) needed(tier int) int64 {
	from := int64(math.MaxInt64)
	for _, m := range s.byID {
		if h := m.heads[tier]; len(h) > 0 {
			from = min(from, h[0].chunk*chunkPoints*s.steps[tier])
		}
		if tier > 0 {
			continue
		}
		for _, ser := range m.series {
			if ser == nil {
				continue
			}
			for t := 1; t < len(s.steps); t++ {
				if a := &ser.open[t]; a.open {
					from = min(from, a.bucket*s.steps[t])
				}
			}
		}
	}
	return from
}
