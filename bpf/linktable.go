package bpf

import "fmt"

// linkTable keeps interfaces in the order in which the kernel lists them, so
// that the next one listed is nearly always the one under the cursor.
type linkTable struct {
	links []linkEntry
	// links before cursor have been listed by the dump under way.
	cursor  int
	changed bool
}

type linkEntry struct {
	index uint32
	name  string
	stats LinkStats
}

func (t *linkTable) begin() { t.cursor = 0 }

// next returns the entry of the interface listed next, nil if there are too many.
func (t *linkTable) next(index uint32) *linkEntry {
	if t.cursor >= len(t.links) || t.links[t.cursor].index != index {
		if !t.place(index) {
			return nil
		}
	}
	e := &t.links[t.cursor]
	t.cursor++
	return e
}

// place puts the entry of an interface that is not under the cursor there.
func (t *linkTable) place(index uint32) bool {
	at := len(t.links)
	for i := t.cursor; i < len(t.links); i++ {
		if t.links[i].index == index {
			at = i
			break
		}
	}
	if at == len(t.links) {
		if at >= maxLinks {
			return false
		}
		t.links = append(t.links, linkEntry{index: index})
	}
	t.changed = true
	t.links[at], t.links[t.cursor] = t.links[t.cursor], t.links[at]
	return true
}

// end drops what the dump did not list, and tells whether entries came, went or
// moved since the dump before.
func (t *linkTable) end() bool {
	changed := t.changed || t.cursor < len(t.links)
	t.links = t.links[:t.cursor]
	t.changed = false
	return changed
}

func (t *linkTable) forget() {
	t.links, t.cursor, t.changed = t.links[:0], 0, false
}

// vouch holds taps, as the program read them before and after the dump, against
// it: counters never fall, so the dump's must lie between.
func (t *linkTable) vouch(before, after []tapRecord) error {
	at := 0
	for i := range before {
		e := t.find(before[i].Index, &at)
		if e == nil {
			if len(t.links) == maxLinks {
				continue // the dump kept no more
			}
			return fmt.Errorf("%w: tap %s is not among the interfaces that netlink lists", ErrNotSupported, tapName(&before[i]))
		}
		low, high := tapStats(&before[i]), tapStats(&after[i])
		if !low.within(&e.stats) || !e.stats.within(&high) {
			return fmt.Errorf("%w: of tap %s the program read %+v, then %+v, and netlink tells %+v between",
				ErrNotSupported, tapName(&before[i]), low, high, e.stats)
		}
	}
	return nil
}

// find returns the entry of an interface, nil for none, looking behind at first.
func (t *linkTable) find(index uint32, at *int) *linkEntry {
	for range t.links {
		if *at >= len(t.links) {
			*at = 0
		}
		e := &t.links[*at]
		*at++
		if e.index == index {
			return e
		}
	}
	return nil
}

// within tells whether no counter is above its limit.
func (s *LinkStats) within(limit *LinkStats) bool {
	return s.RxBytes <= limit.RxBytes && s.TxBytes <= limit.TxBytes &&
		s.RxPackets <= limit.RxPackets && s.TxPackets <= limit.TxPackets &&
		s.RxDropped <= limit.RxDropped && s.TxDropped <= limit.TxDropped
}
