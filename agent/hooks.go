package agent

import (
	"time"

	"headroom/agent/api"
	"headroom/bpf"
)

// featured is a Sampler with signals beyond the counters: bpf.Sampler.
type featured interface {
	Enable(bpf.Feature) error
	Disable(bpf.Feature) error
	Features() []bpf.FeatureStatus
	BlockIO(id string) (bpf.BlockIO, error)
	WaitTail(id string) (bpf.WaitTail, error)
	Exits(id string) (bpf.Exits, error)
}

// extra is what the features told of one VM at one pass. Nil is not known.
type extra struct {
	at    time.Duration
	block *bpf.BlockIO
	tail  *bpf.WaitTail
	exits *bpf.Exits
}

// enableFeatures turns on what the configuration asks for, if the Sampler has
// features. One that cannot be had is a signal that is absent, with its reason.
func (l *loop) enableFeatures() {
	cfg := l.a.cfg.Sampling
	l.tail = tailPolicy{when: cfg.WaitTail, budget: cfg.TailBudget}
	var ok bool
	if l.features, ok = l.a.o.Sampler.(featured); !ok {
		return
	}
	for feature, wanted := range map[bpf.Feature]bool{bpf.FeatureBlockIO: cfg.BlockIO, bpf.FeatureExits: cfg.KVMExits} {
		if !wanted {
			continue
		}
		if err := l.features.Enable(feature); err != nil {
			l.a.log.Info("signal absent", "signal", feature, "err", err)
		}
	}
}

// readFeatures reads what is on, for one VM, after a pass.
func (l *loop) readFeatures(v *vm) {
	f := l.features
	if f == nil {
		return
	}
	v.before = v.extra
	v.extra = extra{at: v.sample.At}
	if b, err := f.BlockIO(v.dom.ID); err == nil {
		v.extra.block, v.noBlock = &b, ""
	} else {
		v.noBlock = err.Error()
	}
	if w, err := f.WaitTail(v.dom.ID); err == nil {
		v.extra.tail = &w
	}
	if e, err := f.Exits(v.dom.ID); err == nil && e.VCPUs > 0 {
		v.extra.exits = &e
	}
}

// switchTail attaches and detaches the hook of the single waits.
func (l *loop) switchTail(now time.Time) {
	if l.features == nil || l.tail.when == "" || l.tail.when == tailOff {
		return
	}
	var waited float64
	for _, v := range l.vms {
		if v.now.waited > 0 {
			waited += v.now.waited
		}
	}
	contended := waited > contendedShare*l.inv.host.CPU.Cores
	var err error
	switch on := l.tail.on; {
	case l.tail.step(now, contended, l.switches.rate(l.inv.at, l.inv.host.Switches)) == on:
		return
	case on:
		err = l.features.Disable(bpf.FeatureWaitTail)
	default:
		err = l.features.Enable(bpf.FeatureWaitTail)
	}
	if err != nil {
		l.tail.failed(now)
		l.a.log.Info("single waits are not measured", "err", err)
	}
}

// contendedShare of the host's cores waited for counts as contention.
const contendedShare = 0.1

const (
	tailOff, tailOn = "off", "on"
	// tailSwitchCost is what the hook costs a context switch, in seconds: the
	// goal that docs/SAMPLER.md holds it to, not the lower figure measured.
	tailSwitchCost = 200e-9
	// tailLinger is how long the hook stays after contention was last seen.
	tailLinger = time.Minute
	// tailRest is how long it stays away after it was too dear or failed.
	tailRest = 10 * time.Minute
)

// tailPolicy decides when the hook of the single waits is attached.
type tailPolicy struct {
	when   string  // off, contention, on
	budget float64 // percent of one CPU

	on        bool
	contended time.Time // when last seen so
	restUntil time.Time
}

// step returns whether the hook is to be attached now, on a host with so many
// context switches a second; fewer than 0 are not known.
func (t *tailPolicy) step(now time.Time, contended bool, switches float64) bool {
	if contended {
		t.contended = now
	}
	wanted := t.when == tailOn || !t.contended.IsZero() && now.Sub(t.contended) < tailLinger
	if 100*switches*tailSwitchCost > t.budget {
		if t.on || wanted {
			t.restUntil = now.Add(tailRest)
		}
		wanted = false
	}
	t.on = wanted && !now.Before(t.restUntil)
	return t.on
}

func (t *tailPolicy) failed(now time.Time) {
	t.on, t.restUntil = false, now.Add(tailRest)
}

// counterRate is the rate of a counter that is read now and then.
type counterRate struct {
	at    time.Time
	count uint64
	last  float64
}

// rate returns events a second between the latest two readings, -1 before.
func (c *counterRate) rate(at time.Time, count uint64) float64 {
	switch {
	case c.at.IsZero() || count < c.count || count == 0:
		c.last = -1
	case !at.After(c.at):
		return c.last // the same reading once more
	default:
		c.last = float64(count-c.count) / at.Sub(c.at).Seconds()
	}
	c.at, c.count = at, count
	return c.last
}

// apiBlockIO is the VM's block I/O in the last window.
func (v *vm) apiBlockIO() *api.VMBlockIO {
	now, before := v.extra.block, v.before.block
	dt := (v.extra.at - v.before.at).Seconds()
	if now == nil || before == nil || !(dt > 0) || now.Read.Ops < before.Read.Ops || now.Write.Ops < before.Write.Ops {
		return nil
	}
	direction := func(a, b *bpf.BlockCounts) (opsPerS float64, p99 *float64) {
		since := b.Latency.Sub(&a.Latency)
		if since.Count() > 0 {
			p99 = known(float64(since.Quantile(0.99)) / float64(time.Microsecond))
		}
		return float64(b.Ops-a.Ops) / dt, p99
	}
	out := &api.VMBlockIO{Attribution: string(now.Attribution)}
	out.ReadOpsPerS, out.ReadP99US = direction(&before.Read, &now.Read)
	out.WriteOpsPerS, out.WriteP99US = direction(&before.Write, &now.Write)
	return out
}

// apiWaitTail is the single waits of the VM's vCPUs since the hook was attached.
func (v *vm) apiWaitTail() *api.VMWaitTail {
	t := v.extra.tail
	if t == nil {
		return nil
	}
	return &api.VMWaitTail{Waits: t.Waits, LongestUS: float64(t.Longest) / float64(time.Microsecond),
		P99US: float64(t.Histogram.Quantile(0.99)) / float64(time.Microsecond)}
}

// apiExits is what KVM counted in the last window.
func (v *vm) apiExits() *api.VMExits {
	now, before := v.extra.exits, v.before.exits
	dt := (v.extra.at - v.before.at).Seconds()
	if now == nil || before == nil || !(dt > 0) || now.All < before.All || now.Halt < before.Halt {
		return nil
	}
	return &api.VMExits{ExitsPerS: float64(now.All-before.All) / dt, HaltsPerS: float64(now.Halt-before.Halt) / dt}
}
