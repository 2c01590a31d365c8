package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"headroom/agent/hypervisor"
)

// Timing is one undisturbed move. Durations are in milliseconds.
type Timing struct {
	Bare bool `json:"bare"`
	// TotalMS is from the order until it is over for whoever gave it: virsh has
	// returned, or the source's agent has the destination's acknowledgement. The
	// agent's probe and negotiation are in it.
	TotalMS float64 `json:"total_ms"`
	// BlackoutMS is from libvirt's word at the source that the CPUs stopped until
	// its word at the destination that they run.
	BlackoutMS float64 `json:"blackout_ms"`
	// NegotiateMS is from the order until the lease is granted, at most: what the
	// order's call took, with the probe and the journal, and the time from the first
	// message to the grant, which overlap a little.
	NegotiateMS float64 `json:"negotiate_ms,omitempty"`
	// Parts are where the blackout goes, of a hand-over by headroom.
	Parts Blackout `json:"parts,omitzero"`
}

// Measure makes one undisturbed move and times it.
func (r *Rig) Measure(ctx context.Context, bare bool) (Timing, error) {
	t := Timing{Bare: bare}
	m, err := r.prepare(ctx, bare)
	if err != nil {
		return t, err
	}
	begun := time.Now()
	if bare {
		_, err = m.from.host.Virsh(ctx, "migrate", "--live", "--p2p", "--persistent", "--undefinesource", guestName, m.to.host.URI())
	} else {
		err = r.orderAndFollow(ctx, m, &t)
	}
	if err != nil {
		return t, fmt.Errorf("move: %w", err)
	}
	t.TotalMS = milliseconds(time.Since(begun))
	suspended, ok1 := m.from.when(ctx, hypervisor.EventSuspended)
	stopped, ok2 := m.from.when(ctx, hypervisor.EventStopped)
	runs, ok3 := m.to.when(ctx, hypervisor.EventResumed)
	if !ok1 || !ok2 || !ok3 {
		return t, errors.New("libvirt told no stop and start of the guest")
	}
	t.BlackoutMS = milliseconds(runs.Sub(suspended))
	if bare {
		return t, nil
	}
	if t.Parts, err = r.blackout(m, suspended, stopped, runs); err != nil {
		return t, fmt.Errorf("take the blackout apart: %w", err)
	}
	return t, nil
}

// orderAndFollow asks the agent for the move and waits until it says that the move
// is over.
func (r *Rig) orderAndFollow(ctx context.Context, m *move, t *Timing) error {
	begun := time.Now()
	reply, err := m.from.node.Client.Migrate(ctx, guestName, m.to.host.Name())
	if err != nil {
		return err
	}
	t.NegotiateMS = milliseconds(time.Since(begun))
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		a, ok := last(ctx, m.from)
		if ok && a.Attempt == reply.Attempt && a.Ended != nil {
			if a.Outcome != "moved" || a.NegotiateMS == nil {
				return fmt.Errorf("the attempt ended as %q: %s", a.Outcome, a.Reason)
			}
			t.NegotiateMS += *a.NegotiateMS
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// when is the moment of the guest's next event of a kind, which has happened or is
// about to be told.
func (s *side) when(ctx context.Context, kind hypervisor.EventKind) (time.Time, bool) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for {
		select {
		case ev := <-s.events:
			if ev.Name == guestName && ev.Kind == kind {
				return ev.At, true
			}
		case <-ctx.Done():
			return time.Time{}, false
		}
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
