package history

import (
	"fmt"
	"slices"
	"time"
)

// maxRange bounds the points that one Range reads, before they are coarsened.
const maxRange = 300_000

// Range returns the points of a series with from <= At < to, oldest first. It reads
// the coarsest tier whose step is at most step and that still holds from; when none
// holds it, the one that reaches back furthest. Points are then coarsened to step,
// rounded up to a multiple of the tier's own (its own when step is 0); of coarsened
// points, P95 is the nearest rank among the tier's percentiles. Buckets without
// samples have no point; the newest may still be open. An unknown series has none.
func (s *Store) Range(k Key, from, to time.Time, step time.Duration) ([]Point, error) {
	if !k.Signal.Valid() || step < 0 {
		return nil, fmt.Errorf("range %v step %v: %w", k, step, ErrBadSample)
	}
	now := s.opt.Now()
	tier := s.pickTier(now, from, step)
	seconds := s.steps[tier]
	// Older points may be there until the next sweep, but nobody promised them.
	if oldest := now.Add(-s.opt.Tiers[tier].Keep); from.Before(oldest) {
		from = oldest
	}
	if from.Unix() < 0 {
		from = time.Unix(0, 0)
	}
	first, last := from.Unix()/seconds, (to.Unix()+seconds-1)/seconds
	if from.Unix()%seconds != 0 || from.Nanosecond() > 0 {
		first++
	}
	if first >= last || to.Unix() < 0 {
		return nil, nil
	}
	m, heads, err := s.headsOf(k, tier, first/chunkPoints, (last-1)/chunkPoints)
	if err != nil || m == nil {
		return nil, err
	}
	newest := max(heads.newest, m.last/seconds)
	if last = min(last, newest+1); last <= first {
		return nil, nil
	}
	if last-first > maxRange {
		return nil, fmt.Errorf("range of %d points, at most %d: %w; ask for less time or a larger step", last-first, maxRange, ErrTooLarge)
	}
	points, err := s.read(k.Signal, tier, m.id, first, last, heads.cols)
	if err != nil {
		return nil, err
	}
	return coarsen(points, seconds, int64((step+time.Second-1)/time.Second)), nil
}

func (s *Store) pickTier(now, from time.Time, step time.Duration) int {
	best := 0
	for t, tier := range s.opt.Tiers {
		covers := !from.Before(now.Add(-tier.Keep))
		bestCovers := !from.Before(now.Add(-s.opt.Tiers[best].Keep))
		if (covers && tier.Step <= step) || (!bestCovers && tier.Keep > s.opt.Tiers[best].Keep) {
			best = t
		}
	}
	return best
}

// unsealed is what memory holds of one signal.
type unsealed struct {
	cols   map[int64]*column // by chunk
	newest int64             // newest bucket
}

// headsOf copies the unsealed columns of a series with chunks in [first, last]. The
// vm is nil when the series is not known.
func (s *Store) headsOf(k Key, tier int, first, last int64) (*vm, unsealed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := unsealed{cols: map[int64]*column{}}
	if s.closed {
		return nil, u, ErrClosed
	}
	m := s.vms[k.VM]
	if m == nil || m.series[k.Signal] == nil {
		return nil, u, nil
	}
	m.snapshot(k.Signal)
	m.snapshotCoarse(s.steps, k.Signal)
	for _, h := range m.heads[tier] {
		c := h.cols[k.Signal]
		if c == nil {
			continue
		}
		u.newest = max(u.newest, h.chunk*chunkPoints+int64(c.slots[len(c.slots)-1]))
		if h.chunk >= first && h.chunk <= last {
			u.cols[h.chunk] = c.clone()
		}
	}
	// A copy, for use without the lock.
	return &vm{id: m.id, last: m.last}, u, nil
}

// read joins stored chunks and unsealed columns of buckets [first, last).
func (s *Store) read(sig Signal, tier int, id uint32, first, last int64, heads map[int64]*column) ([]Point, error) {
	var out []Point
	seconds := s.steps[tier]
	for c := first / chunkPoints; c <= (last-1)/chunkPoints; c++ {
		stored, err := s.chunk(chunkKey(seconds, c, id))
		if err != nil {
			return nil, err
		}
		col := mergeColumns(stored[sig], heads[c])
		if col == nil {
			continue
		}
		for i, slot := range col.slots {
			if b := c*chunkPoints + int64(slot); b >= first && b < last {
				out = append(out, export(sig, time.Unix(b*seconds, 0).UTC(), col.at(i)))
			}
		}
	}
	return out, nil
}

// coarsen joins neighbouring points into buckets of step seconds, rounded up to a
// multiple of native.
func coarsen(points []Point, native, step int64) []Point {
	if step <= native {
		return points
	}
	step = (step + native - 1) / native * native
	var out []Point
	for i := 0; i < len(points); {
		bucket := points[i].At.Unix() / step
		k := i + 1
		for k < len(points) && points[k].At.Unix()/step == bucket {
			k++
		}
		out = append(out, join(points[i:k], time.Unix(bucket*step, 0).UTC()))
		i = k
	}
	return out
}

func join(points []Point, at time.Time) Point {
	p := Point{At: at, Min: points[0].Min, Max: points[0].Max}
	ranks := make([]float64, len(points))
	for i, q := range points {
		p.Min, p.Max = min(p.Min, q.Min), max(p.Max, q.Max)
		p.Mean += q.Mean * float64(q.N)
		p.N += q.N
		ranks[i] = q.P95
	}
	p.Mean /= float64(p.N)
	slices.Sort(ranks)
	p.P95 = ranks[rank95(len(ranks))]
	return p
}
