package history

import (
	"encoding/binary"
	"slices"

	"github.com/dgraph-io/badger/v4"
)

// load reads the VMs and what the logs still hold.
func (s *Store) load() error {
	err := s.scan([]byte{prefixVM}, true, func(item *badger.Item) (bool, error) {
		key := item.KeyCopy(nil)
		value, err := item.ValueCopy(nil)
		var m *vm
		if err == nil {
			m, err = decodeVM(value, len(s.steps))
		}
		if err != nil || len(key) != 5 {
			s.corrupt(key, err)
			return true, nil
		}
		m.id = binary.BigEndian.Uint32(key[1:])
		s.vms[m.name], s.byID[m.id] = m, m
		s.nextVM = max(s.nextVM, m.id+1)
		return true, nil
	})
	if err != nil {
		return err
	}
	if next, ok, err := s.db.get([]byte{prefixNext}); err == nil && ok && len(next) == 4 {
		s.nextVM = max(s.nextVM, binary.BigEndian.Uint32(next))
	}
	for t := range s.steps {
		if err := s.loadLogs(t); err != nil {
			return err
		}
	}
	for _, m := range s.byID {
		m.rebuild(s.steps)
	}
	return nil
}

// loadLogs replays one tier's log into heads.
func (s *Store) loadLogs(tier int) error {
	return s.scan(tierPrefix(prefixLog, s.steps[tier]), true, func(item *badger.Item) (bool, error) {
		key := item.KeyCopy(nil)
		_, number, ok := splitTierKey(key)
		value, err := item.ValueCopy(nil)
		var entries []logEntry
		if err == nil {
			entries, err = decodeLog(value)
		}
		if err != nil || !ok {
			s.corrupt(key, err)
		}
		ref := logRef{sequence: uint64(number)}
		for _, e := range entries {
			// A VM that is not known any more was forgotten; its points went with it.
			if m := s.byID[e.vm]; m != nil {
				m.put(tier, e.signal, e.bucket, e.point, false)
				ref.newest = max(ref.newest, e.bucket*s.steps[tier])
			}
		}
		s.logs[tier] = append(s.logs[tier], ref)
		s.sequence[tier] = max(s.sequence[tier], ref.sequence)
		return true, nil
	})
}

// encodeVM is the value of a VM's entry: newest sample, signals, name.
func encodeVM(m *vm) []byte {
	b := binary.AppendUvarint(nil, uint64(m.last))
	b = binary.AppendUvarint(b, uint64(m.signals()))
	return frame(frameVM, append(b, m.name...))
}

// decodeVM reads a VM's entry; unknown signals are dropped.
func decodeVM(value []byte, tiers int) (*vm, error) {
	payload, err := unframe(frameVM, value, maxName+32)
	if err != nil {
		return nil, err
	}
	r := &reader{b: payload}
	m := &vm{last: int64(r.uvarint(uint64(maxBucket))), heads: make([][]*head, tiers)}
	mask := r.uvarint(1<<32 - 1)
	if r.err == nil && (len(r.b) == 0 || len(r.b) > maxName) {
		r.fail("VM name of %d bytes", len(r.b))
	}
	if r.err != nil {
		return nil, r.err
	}
	m.name, m.saved = string(slices.Clone(r.b)), m.last
	for sig := range numSignals {
		if sig > 0 && mask&(1<<sig) != 0 {
			m.series[sig] = &series{open: make([]accumulator, tiers)}
		}
	}
	return m, nil
}
