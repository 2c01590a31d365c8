package faults

import (
	"context"
	"sync"
	"time"

	"headroom/agent/hypervisor"
)

// sampleEvery is the pause between two looks at both libvirts.
const sampleEvery = 30 * time.Millisecond

// census counts running copies for the time of a trial.
type census struct {
	mu      sync.Mutex
	looks   int           // guarded by mu
	doubles int           // looks that found two running copies; guarded by mu
	first   time.Duration // of those, since the trial's start; guarded by mu
}

// count looks until ctx ends. A libvirtd that does not answer shows no copy: the
// guest's own numbers tell of one that runs meanwhile.
func (r *Rig) count(ctx context.Context, c *census) {
	begun := time.Now()
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		twice := r.runsTwice(ctx)
		c.mu.Lock()
		c.looks++
		if twice {
			if c.doubles == 0 {
				c.first = time.Since(begun)
			}
			c.doubles++
		}
		c.mu.Unlock()
	}
}

// runsTwice sees one copy running, then the other, then the one again: both ran at
// the second look.
func (r *Rig) runsTwice(ctx context.Context) bool {
	for _, s := range []*side{r.sides[0], r.sides[1], r.sides[0]} {
		if r.state(ctx, s) != hypervisor.Running {
			return false
		}
	}
	return true
}

// forks are the numbers that the guest printed twice since the given one. A line
// that a migration tore is no report.
func (r *Rig) forks(since uint64) ([]uint64, error) {
	reports, err := r.lab.Reports(guestName)
	if err != nil {
		return nil, err
	}
	var out []uint64
	for i := 1; i < len(reports); i++ {
		if n := reports[i].Seq; n == reports[i-1].Seq && n > since {
			out = append(out, n)
		}
	}
	return out, nil
}

// reached waits for the beginning of a phase; false when it did not come.
func (r *Rig) reached(ctx context.Context, p Phase, m *move) bool {
	if p == Finish {
		return r.replyLost(ctx, m)
	}
	return m.await(ctx, p, triggerLimit)
}

// await waits for what begins the phase, at most for limit; false when it did not
// come, as in a move that failed before.
func (m *move) await(ctx context.Context, p Phase, limit time.Duration) bool {
	var events <-chan hypervisor.Event
	var kind hypervisor.EventKind
	switch p {
	case Copy:
		events, kind = m.to.events, hypervisor.EventStarted
	case Switch:
		events, kind = m.from.events, hypervisor.EventSuspended
	case Commit:
		events, kind = m.from.events, hypervisor.EventStopped
	default:
		return true
	}
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for {
		select {
		case ev := <-events:
			if ev.Name == guestName && ev.Kind == kind {
				return true
			}
		case <-timeout.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}
