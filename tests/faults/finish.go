package faults

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Finish is the phase that the guards are for, and that chance does not hit: the
// destination's copy is whole, libvirt there has said so, and its word, the reply to
// the call «Finish», does not reach the source. It begins when that reply has been
// lost the first time.
const Finish Phase = "finish"

// The faults of the phase Finish. The reply is lost in each; libvirt at the source
// learns that it will not come.
const (
	LoseReply  Fault = "lose the reply"                        // by its keep-alive
	ResetReply Fault = "lose the reply, reset the connection"  // at once
	CutReply   Fault = "lose the reply, cut the link"          // by its keep-alive; nor do the agents hear of each other
	KillReply  Fault = "lose the reply, reset, kill -9 agents" // at once, when no agent lives
)

// FinishFaults lists them; bare libvirt is spared the one of agents.
func FinishFaults(bare bool) []Fault {
	if bare {
		return []Fault{LoseReply, ResetReply, CutReply}
	}
	return []Fault{LoseReply, ResetReply, CutReply, KillReply}
}

// PlanFinish goes n times through the faults of the phase Finish, one after the other.
func PlanFinish(n int, bare bool) []Trial {
	kinds := FinishFaults(bare)
	out := make([]Trial, n)
	for i := range out {
		t := Trial{Fault: kinds[i%len(kinds)], Phase: Finish, Bare: bare, Hold: longCut}
		if t.Fault == ResetReply || t.Fault == KillReply {
			t.Hold = 2 * time.Second
		}
		out[i] = t
	}
	return out
}

// replyLost waits until the reply to Finish has been lost.
func (r *Rig) replyLost(ctx context.Context, m *move) bool {
	return until(ctx, 3*triggerLimit, func() bool { // the order may have to be given again
		n, err := r.lab.FinishesLost(ctx, m.to.host)
		return err == nil && n > 0
	})
}

// injectFinish does what a fault of the phase Finish does beside losing the reply;
// mending it lets replies through again.
func (r *Rig) injectFinish(ctx context.Context, t Trial, m *move) (mend func(context.Context) error, err error) {
	also := nothing
	switch t.Fault {
	case LoseReply:
	case ResetReply:
		err = r.lab.ResetLibvirt(ctx, m.from.host)
	case CutReply:
		also, err = func(context.Context) error { return r.lab.HealLink(m.to.host) }, r.lab.CutLink(m.to.host)
	case KillReply:
		if also, err = r.killAgents(m.from, m.to); err == nil {
			err = r.lab.ResetLibvirt(ctx, m.from.host)
		}
	default:
		err = fmt.Errorf("fault %q does not lose the reply to Finish", t.Fault)
	}
	return func(ctx context.Context) error {
		return errors.Join(r.lab.FindFinish(ctx, m.to.host), also(ctx))
	}, err
}
