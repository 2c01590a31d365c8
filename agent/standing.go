package agent

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"headroom/agent/handover"
	"headroom/planner"
)

const (
	standingKey     = "operator/orders"
	standingVersion = 1
	maxAnswers      = 64
	maxReason       = 200 // bytes of an operator's reason that are kept
	// maxPauseVersion is far above what operators can reach: a larger one is
	// nonsense, and taking it up would leave no room for the next order.
	maxPauseVersion = 1 << 48
)

// pauseOrder is the cluster's last word on whether moves may begin: a register
// of which the newest version wins. Two orders of the same version were given on
// two hosts at once; the one that stops wins, then the greater host id, so that
// all hosts end with the same one.
type pauseOrder struct {
	Version uint64         `json:"version"`
	Paused  bool           `json:"paused"`
	Host    planner.HostID `json:"host,omitempty"` // where it was given
	Reason  string         `json:"reason,omitempty"`
	At      time.Time      `json:"at,omitzero"`
	Until   time.Time      `json:"until,omitzero"` // zero: until somebody resumes
}

// newer says whether p replaces o.
func (p pauseOrder) newer(o pauseOrder) bool {
	switch {
	case p.Version > maxPauseVersion:
		return false
	case p.Version != o.Version:
		return p.Version > o.Version
	case p.Paused != o.Paused:
		return p.Paused
	}
	return p.Host > o.Host
}

// holds says whether p stops moves at now.
func (p pauseOrder) holds(now time.Time) bool {
	return p.Paused && (p.Until.IsZero() || now.Before(p.Until))
}

// hint is a pause of which gossip told and no host has told yet: it stops moves
// and is not kept.
type hint struct {
	version uint64
	host    planner.HostID
}

// drainOrder asks for this host to be emptied.
type drainOrder struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"`
}

// orders is what operators have ordered and nobody has taken back.
type orders struct {
	Version int             `json:"version"`
	Drain   *drainOrder     `json:"drain,omitempty"`
	Pause   pauseOrder      `json:"pause"`
	Answers []planner.Order `json:"answers,omitempty"`
}

// standing keeps the operators' orders. Each is on the disk before it counts:
// an agent that restarts goes on draining, and stays paused.
type standing struct {
	journal handover.Journal
	mu      sync.Mutex
	kept    orders // guarded by mu
	heard   hint   // guarded by mu
}

// newStanding reads what was ordered before a restart. Orders that cannot be
// read are an error: an agent must not move VMs because it forgot that it may not.
func newStanding(j handover.Journal) (*standing, error) {
	s := &standing{journal: j, kept: orders{Version: standingVersion}}
	err := j.Each(func(key string, value []byte) error {
		if key != standingKey {
			return nil
		}
		var o orders
		if err := json.Unmarshal(value, &o); err != nil {
			return fmt.Errorf("operators' orders are not readable: %w", err)
		}
		if o.Version != standingVersion {
			return fmt.Errorf("operators' orders are of version %d, this agent knows %d: start the agent that wrote them, and undrain and resume", o.Version, standingVersion)
		}
		s.kept = o
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read operators' orders: %w", err)
	}
	return s, nil
}

// keep writes the orders that change makes of the present ones, and takes them
// up once they are on the disk; s.mu is held.
func (s *standing) keep(change func(*orders)) error {
	next := s.kept
	next.Answers = slices.Clone(next.Answers)
	change(&next)
	b, err := json.Marshal(next)
	if err == nil {
		err = s.journal.Put(standingKey, b)
	}
	if err != nil {
		return fmt.Errorf("keep the order: %w", err)
	}
	s.kept = next
	return nil
}

// drain orders this host to be emptied; a second order changes nothing but the reason.
func (s *standing) drain(now time.Time, reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keep(func(o *orders) {
		d := drainOrder{At: now.UTC(), Reason: shortened(reason)}
		if o.Drain != nil {
			d.At = o.Drain.At
		}
		o.Drain = &d
	})
}

// undrain takes the order to drain back.
func (s *standing) undrain() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keep(func(o *orders) { o.Drain = nil })
}

func (s *standing) draining() (drainOrder, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept.Drain == nil {
		return drainOrder{}, false
	}
	return *s.kept.Drain, true
}

// order makes the operator's word the newest one that this host knows of.
func (s *standing) order(p pauseOrder) (pauseOrder, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.Version = max(s.kept.Pause.Version, s.heard.version) + 1
	p.Reason = shortened(p.Reason)
	err := s.keep(func(o *orders) { o.Pause = p })
	return p, err
}

// merge takes up a peer's order if it is newer, and returns the one that stands.
func (s *standing) merge(p pauseOrder) (now pauseOrder, changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !p.newer(s.kept.Pause) {
		return s.kept.Pause, false, nil
	}
	p.Reason = shortened(p.Reason)
	if err := s.keep(func(o *orders) { o.Pause = p }); err != nil {
		return s.kept.Pause, false, err
	}
	return s.kept.Pause, true, nil
}

// hear notes what gossip tells of a peer's order, and says whether the peer is
// worth asking. Gossip may stop moves at once; it never lets them begin again.
func (s *standing) hear(host planner.HostID, version uint64, paused bool) (ask bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.kept.Pause
	if !(pauseOrder{Version: version, Paused: paused, Host: own.Host}).newer(own) {
		return false
	}
	if paused && version >= s.heard.version {
		s.heard = hint{version, host}
	}
	return true
}

// held says why no move may begin now, or "".
func (s *standing) held(now time.Time, name func(planner.HostID) string) string {
	s.mu.Lock()
	p, h := s.kept.Pause, s.heard
	s.mu.Unlock()
	if h.version > p.Version || h.version == p.Version && h.version > 0 && !p.Paused {
		return fmt.Sprintf("paused: gossip tells of it, and %s has not confirmed it yet", name(h.host))
	}
	if !p.holds(now) {
		return ""
	}
	text := "paused on " + name(p.Host)
	if p.Reason != "" {
		text += " (" + p.Reason + ")"
	}
	if !p.Until.IsZero() {
		text += " until " + p.Until.UTC().Format(time.RFC3339)
	}
	return text
}

func (s *standing) pause() pauseOrder {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept.Pause
}

// answer keeps the operator's approval or rejection of moving a VM.
func (s *standing) answer(now time.Time, a planner.Order) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keep(func(o *orders) {
		o.Answers = slices.DeleteFunc(o.Answers, func(old planner.Order) bool { return old.VM == a.VM || !now.Before(old.Until) })
		o.Answers = append(o.Answers, a)
		if n := len(o.Answers) - maxAnswers; n > 0 {
			o.Answers = o.Answers[n:]
		}
	})
}

// used forgets the answer about a VM whose move has begun: another move needs
// another approval.
func (s *standing) used(vm planner.VMID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.ContainsFunc(s.kept.Answers, func(a planner.Order) bool { return a.VM == vm }) {
		return nil
	}
	return s.keep(func(o *orders) {
		o.Answers = slices.DeleteFunc(o.Answers, func(a planner.Order) bool { return a.VM == vm })
	})
}

// answers are those that still hold at now.
func (s *standing) answers(now time.Time) []planner.Order {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.kept.Answers), func(a planner.Order) bool { return !now.Before(a.Until) })
}

// shortened bounds what an operator or a peer says, in whole characters, without
// what could command a terminal.
func shortened(reason string) string {
	out := make([]rune, 0, len(reason))
	size := 0
	for _, r := range reason {
		if r < ' ' || r == 0x7f {
			r = ' '
		}
		if size += len(string(r)); size > maxReason {
			break
		}
		out = append(out, r)
	}
	return string(out)
}
