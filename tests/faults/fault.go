package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// Fault is what breaks.
type Fault string

// The faults. Source and destination are those of the move that is under way.
const (
	KillSourceAgent   Fault = "kill -9 source agent"
	KillDestAgent     Fault = "kill -9 destination agent"
	KillBothAgents    Fault = "kill -9 both agents"
	KillSourceLibvirt Fault = "kill -9 source libvirtd"
	KillDestLibvirt   Fault = "kill -9 destination libvirtd"
	KillSourceQEMU    Fault = "kill -9 source QEMU"
	KillDestQEMU      Fault = "kill -9 destination QEMU"
	CutLink           Fault = "cut the link"
)

// Faults lists them all.
func Faults() []Fault {
	return []Fault{KillSourceAgent, KillDestAgent, KillBothAgents, KillSourceLibvirt, KillDestLibvirt, KillSourceQEMU, KillDestQEMU, CutLink}
}

// ofAgent says whether the fault means nothing to bare libvirt.
func (f Fault) ofAgent() bool {
	return f == KillSourceAgent || f == KillDestAgent || f == KillBothAgents
}

// Phase is when it breaks, seen from outside.
type Phase string

// The phases. A fault falls at a random moment of its phase.
const (
	Negotiate Phase = "negotiate" // 0..25 ms after the order: probe, reserve, grant
	Bind      Phase = "bind"      // 25..150 ms after: stamp, hook, libvirt's prepare
	Copy      Phase = "copy"      // 10..90 % of the copy's usual time, from the copy's start at the destination
	Switch    Phase = "switch"    // 0..200 ms after the VM's CPUs stopped at the source
	Commit    Phase = "commit"    // 0..60 ms after libvirt at the source let the VM go
)

// Phases lists them in order.
func Phases() []Phase { return []Phase{Negotiate, Bind, Copy, Switch, Commit} }

// Trial is one move with one fault.
type Trial struct {
	Fault Fault         `json:"fault"`
	Phase Phase         `json:"phase"`
	Bare  bool          `json:"bare"` // virsh migrate, without headroom
	After time.Duration `json:"after_ns"`
	Hold  time.Duration `json:"hold_ns"` // until what broke is back
}

// Plan draws n trials that go evenly through all faults and phases. Every sixth cut
// outlasts libvirt's keep-alive (30 s), the others do not.
func Plan(n int, bare bool, copyTime time.Duration, rng *rand.Rand) []Trial {
	var kinds []Trial
	for _, p := range Phases() {
		for _, f := range Faults() {
			if !bare || !f.ofAgent() && p != Negotiate {
				kinds = append(kinds, Trial{Fault: f, Phase: p, Bare: bare})
			}
		}
	}
	rng.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	out := make([]Trial, n)
	cuts := 0
	for i := range out {
		t := kinds[i%len(kinds)]
		t.After = t.Phase.moment(copyTime, rng)
		t.Hold = time.Duration(200+rng.IntN(1300)) * time.Millisecond
		if t.Fault == CutLink {
			if t.Hold = 3 * time.Second; cuts%6 == 5 {
				t.Hold = longCut
			}
			cuts++
		}
		out[i] = t
	}
	return out
}

// At is the trial with another phase, at a random moment of it.
func (t Trial) At(p Phase, copyTime time.Duration, rng *rand.Rand) Trial {
	t.Phase, t.After = p, p.moment(copyTime, rng)
	return t
}

// longCut outlasts libvirt's keep-alive of 5 times 5 s.
const longCut = 36 * time.Second

// moment is a random one of the phase, after what begins it.
func (p Phase) moment(copyTime time.Duration, rng *rand.Rand) time.Duration {
	between := func(low, high time.Duration) time.Duration { return low + time.Duration(rng.Int64N(int64(high-low))) }
	switch p {
	case Negotiate:
		return between(0, 25*time.Millisecond)
	case Bind:
		return between(25*time.Millisecond, 150*time.Millisecond)
	case Copy:
		return between(copyTime/10, copyTime*9/10)
	case Switch:
		return between(0, 200*time.Millisecond)
	}
	return between(0, 60*time.Millisecond)
}

// inject breaks something, and returns how to mend it.
func (r *Rig) inject(ctx context.Context, t Trial, m *move) (mend func(context.Context) error, err error) {
	if t.Phase == Finish {
		return r.injectFinish(ctx, t, m)
	}
	src, dst := m.from, m.to
	switch t.Fault {
	case KillSourceAgent:
		return r.killAgents(src)
	case KillDestAgent:
		return r.killAgents(dst)
	case KillBothAgents:
		return r.killAgents(src, dst)
	case KillSourceLibvirt:
		return src.host.StartLibvirtd, r.lab.KillLibvirtd(ctx, src.host)
	case KillDestLibvirt:
		return dst.host.StartLibvirtd, r.lab.KillLibvirtd(ctx, dst.host)
	case KillSourceQEMU:
		m.killedQEMU = true
		return nothing, r.lab.KillVM(ctx, src.host, guestName)
	case KillDestQEMU:
		m.killedQEMU = t.Phase == Switch || t.Phase == Commit // it may be the only copy by then
		return nothing, r.lab.KillVM(ctx, dst.host, guestName)
	case CutLink:
		return func(context.Context) error { return r.lab.HealLink(dst.host) }, r.lab.CutLink(dst.host)
	}
	return nil, fmt.Errorf("fault %q is not known", t.Fault)
}

func nothing(context.Context) error { return nil }

func (r *Rig) killAgents(sides ...*side) (func(context.Context) error, error) {
	for _, s := range sides {
		if err := s.node.Kill(); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context) error {
		for _, s := range sides {
			if err := s.node.Start(ctx); err != nil {
				return err
			}
		}
		return nil
	}, nil
}
