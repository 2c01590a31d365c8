package planner

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// LearnedVersion is the version of the serialised form of Learned.
const LearnedVersion = 1

// ErrLearnedVersion is returned for a serialised Learned of another version;
// the caller starts from the zero value.
var ErrLearnedVersion = errors.New("learned state has another version: start afresh")

const (
	learnRate    = 0.3            // weight of the newest migration
	maxLinks     = 256            // peers remembered
	maxPastMoves = 256            // moves remembered
	keepMoves    = 24 * time.Hour // for past failures of the same move
	failWindow   = time.Hour      // for the freeze
	ratioFloor   = 0.25           // a prediction is never corrected by more than
	ratioCeil    = 8              // these factors
	minBandwidth = BytesPerSecond(1 << 16)
)

// LinkEstimate is what is known of the path to one peer.
type LinkEstimate struct {
	Peer      HostID         `json:"peer,omitempty"`
	Bandwidth BytesPerSecond `json:"bandwidth_bytes_per_s"`
	Samples   int            `json:"samples"` // 0: assumed, not learned
	LastAt    time.Time      `json:"last_at,omitzero"`
}

// PastMove is one finished move.
type PastMove struct {
	At  time.Time `json:"at"`
	VM  VMID      `json:"vm"`
	To  HostID    `json:"to"`
	OK  bool      `json:"ok"`
	Why string    `json:"why,omitempty"` // why not OK
}

// Learned is what the migrations from one host taught: factors by which copy
// time and blackout predictions were off, bandwidth per peer, and which moves
// failed. The zero value has learned nothing and corrects nothing. Its size is
// bounded: 256 peers, 256 moves of the last 24 h.
type Learned struct {
	// CopyRatio and BlackoutRatio are smoothed actual/predicted; 0 means 1.
	CopyRatio     float64        `json:"copy_ratio,omitempty"`
	BlackoutRatio float64        `json:"blackout_ratio,omitempty"`
	Migrations    int            `json:"migrations"`
	Links         []LinkEstimate `json:"links,omitempty"`
	Moves         []PastMove     `json:"moves,omitempty"`
}

// MigrationResult is what one finished migration measured. A failed one only
// needs At, VM, To and Why.
type MigrationResult struct {
	At                time.Time      `json:"at"`
	VM                VMID           `json:"vm"`
	To                HostID         `json:"to"`
	OK                bool           `json:"ok"`
	Why               string         `json:"why,omitempty"`
	Bytes             uint64         `json:"bytes"`
	CopyTime          time.Duration  `json:"copy_time_ns"`
	Blackout          time.Duration  `json:"blackout_ns"`
	PredictedCopyTime time.Duration  `json:"predicted_copy_time_ns"`
	PredictedBlackout time.Duration  `json:"predicted_blackout_ns"`
	DirtyRate         BytesPerSecond `json:"dirty_rate_bytes_per_s,omitempty"`
}

// Note returns l with one finished migration added.
func (l Learned) Note(m MigrationResult) Learned {
	l.Moves = append(recentMoves(l.Moves, m.At), PastMove{At: m.At, VM: m.VM, To: m.To, OK: m.OK, Why: m.Why})
	if n := len(l.Moves) - maxPastMoves; n > 0 {
		l.Moves = l.Moves[n:]
	}
	l.Links = slices.Clone(l.Links)
	if !m.OK {
		return l
	}
	l.Migrations++
	l.CopyRatio = corrected(l.CopyRatio, m.CopyTime, m.PredictedCopyTime)
	l.BlackoutRatio = corrected(l.BlackoutRatio, m.Blackout, m.PredictedBlackout)
	if m.Bytes > 0 && m.CopyTime > 0 {
		l.Links = noteLink(l.Links, m.To, BytesPerSecond(float64(m.Bytes)/m.CopyTime.Seconds()), m.At)
	}
	return l
}

// Forget returns l without the moves older than 24 h at now; the agent calls it
// when it builds a Host, so that old failures stop raising costs.
func (l Learned) Forget(now time.Time) Learned {
	l.Moves = recentMoves(l.Moves, now)
	return l
}

// corrected smooths a correction factor. The prediction already contained the
// old factor, so the target is old * actual/predicted.
func corrected(old float64, actual, predicted time.Duration) float64 {
	old = factor(old)
	if actual <= 0 || predicted <= 0 {
		return old
	}
	target := old * float64(actual) / float64(predicted)
	target = math.Min(ratioCeil, math.Max(ratioFloor, target))
	return old + learnRate*(target-old)
}

// factor reads a stored correction factor: 0 and nonsense mean no correction.
func factor(f float64) float64 {
	if !(f > 0) || math.IsInf(f, 0) {
		return 1
	}
	return math.Min(ratioCeil, math.Max(ratioFloor, f))
}

func noteLink(links []LinkEstimate, to HostID, rate BytesPerSecond, at time.Time) []LinkEstimate {
	i := slices.IndexFunc(links, func(e LinkEstimate) bool { return e.Peer == to })
	if i < 0 {
		if len(links) >= maxLinks {
			links = slices.Delete(links, oldestLink(links), oldestLink(links)+1)
		}
		return append(links, LinkEstimate{Peer: to, Bandwidth: max(minBandwidth, rate), Samples: 1, LastAt: at})
	}
	e := &links[i]
	e.Bandwidth = max(minBandwidth, e.Bandwidth+learnRate*(rate-e.Bandwidth))
	e.Samples, e.LastAt = e.Samples+1, at
	return links
}

func oldestLink(links []LinkEstimate) int {
	oldest := 0
	for i := range links {
		if links[i].LastAt.Before(links[oldest].LastAt) {
			oldest = i
		}
	}
	return oldest
}

// recentMoves copies the moves not older than keepMoves at now.
func recentMoves(moves []PastMove, now time.Time) []PastMove {
	out := make([]PastMove, 0, len(moves)+1)
	for _, m := range moves {
		if now.Sub(m.At) <= keepMoves {
			out = append(out, m)
		}
	}
	return out
}

// Link is the estimate for the path to a peer: its own if one was learned,
// else the median of the learned ones, else the policy's assumption. An empty
// peer asks for a path whose end is not chosen yet.
func (l Learned) Link(to HostID, p Policy) LinkEstimate {
	for _, e := range l.Links {
		if e.Peer == to && to != "" {
			return e
		}
	}
	if n := len(l.Links); n > 0 {
		all := slices.Clone(l.Links)
		slices.SortFunc(all, func(a, b LinkEstimate) int { return cmp.Compare(a.Bandwidth, b.Bandwidth) })
		return LinkEstimate{Peer: to, Bandwidth: all[n/2].Bandwidth}
	}
	return LinkEstimate{Peer: to, Bandwidth: p.Bandwidth}
}

// failures counts the failed moves of vm to a host within 24 h before now; an
// empty host asks for any destination.
func (l Learned) failures(vm VMID, to HostID) int {
	n := 0
	for _, m := range l.Moves {
		if !m.OK && m.VM == vm && (to == "" || m.To == to) {
			n++
		}
	}
	return n
}

// lastHour counts this host's own moves of the last hour.
func (l Learned) lastHour(now time.Time) MoveCount {
	var c MoveCount
	for _, m := range l.Moves {
		if now.Sub(m.At) > failWindow {
			continue
		}
		c.Moves++
		if !m.OK {
			c.Failed++
		}
	}
	return c
}

// learnedWire keeps the version in the serialised form alone.
type learnedWire struct {
	Version int `json:"version"`
	learnedFields
}

type learnedFields Learned

// MarshalJSON writes the versioned form.
func (l Learned) MarshalJSON() ([]byte, error) {
	return json.Marshal(learnedWire{LearnedVersion, learnedFields(l)})
}

// UnmarshalJSON reads the versioned form; another version is ErrLearnedVersion.
// Values outside their bounds are dropped: a damaged file must not steer moves.
func (l *Learned) UnmarshalJSON(b []byte) error {
	var w learnedWire
	if err := json.Unmarshal(b, &w); err != nil {
		return fmt.Errorf("learned state: %w", err)
	}
	if w.Version != LearnedVersion {
		return fmt.Errorf("%w (found %d, want %d)", ErrLearnedVersion, w.Version, LearnedVersion)
	}
	*l = Learned(w.learnedFields)
	l.Links = slices.DeleteFunc(l.Links, func(e LinkEstimate) bool { return !(e.Bandwidth >= minBandwidth) })
	if len(l.Links) > maxLinks {
		l.Links = l.Links[:maxLinks]
	}
	if n := len(l.Moves) - maxPastMoves; n > 0 {
		l.Moves = l.Moves[n:]
	}
	return nil
}
