package history

import (
	"fmt"
	"sync/atomic"
)

// counters are what Stats reports besides the state.
type counters struct {
	appended, corrupt, refused, lost atomic.Uint64
	sealedBytes, sealedPoints        atomic.Uint64
	quarantined                      atomic.Bool
}

// Stats tells what the store holds and what went wrong since it was opened.
type Stats struct {
	VMs, Series    int
	DiskBytes      int64   // disk blocks taken, preallocated logs included
	Appended       uint64  // samples accepted
	Refused        uint64  // samples of VMs beyond MaxVMs
	Lost           uint64  // points dropped from memory because they could not be written in time
	Corrupt        uint64  // stored values that were skipped
	SealedPoints   uint64  // points in chunks written
	SealedBytes    uint64  // size of those chunks
	BytesPerPoint  float64 // their quotient; 0 until a chunk was sealed
	Damaged        bool    // the database was damaged and begun afresh
	UnsealedPoints int     // points in memory
}

// Stats returns the store's figures.
func (s *Store) Stats() Stats {
	c := &s.counts
	st := Stats{
		DiskBytes: s.db.allocated(), Appended: c.appended.Load(), Refused: c.refused.Load(), Lost: c.lost.Load(),
		Corrupt: c.corrupt.Load(), SealedPoints: c.sealedPoints.Load(), SealedBytes: c.sealedBytes.Load(), Damaged: c.quarantined.Load(),
	}
	if st.SealedPoints > 0 {
		st.BytesPerPoint = float64(st.SealedBytes) / float64(st.SealedPoints)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.VMs = len(s.vms)
	for _, m := range s.vms {
		for _, ser := range m.series {
			if ser != nil {
				st.Series++
			}
		}
		for _, heads := range m.heads {
			for _, h := range heads {
				for _, c := range h.cols {
					if c != nil {
						st.UnsealedPoints += len(c.slots)
					}
				}
			}
		}
	}
	return st
}

// corrupt counts and reports a value that is skipped.
func (s *Store) corrupt(key []byte, err error) {
	// The log must not fill the disk that is failing.
	if s.counts.corrupt.Add(1) <= 100 {
		s.log.Warn("history: a stored value is skipped", "key", fmt.Sprintf("%q", key), "error", err)
	}
}
