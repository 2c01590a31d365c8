package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"headroom/agent/handover"
	"headroom/agent/history"
	"headroom/agent/hypervisor"
	"headroom/bpf"
	"headroom/mesh"
	"headroom/planner"
	"headroom/planner/negotiate"
	"headroom/predict"
)

// loop is the state that one goroutine owns: VMs, forecasters, the planner's
// memory.
type loop struct {
	a     *Agent
	vms   map[string]*vm
	inv   inventory
	known bool // an inventory has been taken
	// watching is true after the first inventory: a VM that appears now has
	// just started, or has just arrived.
	watching bool
	samples  []bpf.Sample
	err      error // why the last pass failed
	lastAt   time.Duration

	state   planner.State
	learned planner.Learned
	rng     *rand.Rand
	busy    bool    // a proposal is out
	wait    float64 // core-seconds waited by all VMs since the agent started
	judge   []verdictDue
	digest  uint32
	tags    mesh.Tags // as last told

	features featured // nil: the Sampler has none
	tail     tailPolicy
	switches counterRate
}

// modelEvery is how often the learned models are written.
const modelEvery = time.Minute

func (a *Agent) loop(ctx context.Context, inventories <-chan inventory) error {
	l := &loop{a: a, vms: map[string]*vm{}, rng: a.o.Random}
	if err := l.loadLearned(); err != nil {
		return err
	}
	l.enableFeatures()
	window := time.NewTicker(a.cfg.Sampling.Window.Duration)
	round := time.NewTicker(a.cfg.Planner.Round.Duration)
	models := time.NewTicker(modelEvery)
	defer window.Stop()
	defer round.Stop()
	defer models.Stop()
	for {
		select {
		case <-ctx.Done():
			return l.saveModels()
		case inv := <-inventories:
			l.take(inv)
		case <-window.C:
			l.sample()
			l.show()
		case <-round.C:
			l.round(ctx)
			l.show()
		case p := <-a.proposals:
			l.proposed(p)
		case u := <-a.finished:
			l.ended(u)
		case m := <-a.models:
			l.inherit(m)
		case d := <-a.dirty:
			l.dirtied(d)
		case <-models.C:
			if err := l.saveModels(); err != nil {
				l.a.log.Warn("learned models not saved", "err", err)
			}
		}
	}
}

// take brings the VMs in line with what libvirt says now.
func (l *loop) take(inv inventory) {
	l.inv = inv
	if inv.err != nil {
		return // what was known stays, and is not planned with
	}
	l.known = true
	seen := map[string]bool{}
	targets := make([]bpf.Target, 0, len(inv.domains))
	for _, dom := range inv.domains {
		if !dom.State.Live() {
			continue
		}
		seen[dom.ID] = true
		v := l.vms[dom.ID]
		if v == nil {
			var err error
			if v, err = l.newVM(dom); err != nil {
				l.a.log.Warn("VM taken up without its history", "vm", dom.Name, "err", err)
			}
			if v == nil {
				continue
			}
			l.vms[dom.ID] = v
			l.a.log.Info("VM taken up", "vm", dom.Name, "id", dom.ID, "pid", dom.PID)
		}
		if v.dom.State != hypervisor.Running && dom.State == hypervisor.Running {
			v.restUntil = time.Now().Add(restAfterMove)
		}
		v.dom = dom
		v.memory, v.hasMem = inv.memory[dom.ID]
		if v.cgroup == "" || v.cgroupPID != dom.PID {
			v.cgroup, v.cgroupPID = vmCgroup("/proc", "/sys/fs/cgroup", dom.PID), dom.PID
		}
		targets = append(targets, bpf.Target{ID: dom.ID, PID: dom.PID, CgroupPath: v.cgroup})
	}
	for id, v := range l.vms {
		if !seen[id] {
			delete(l.vms, id)
			l.a.log.Info("VM gone", "vm", v.dom.Name, "id", id)
		}
	}
	l.watching = true
	if err := l.a.o.Sampler.SetTargets(targets); err != nil {
		l.a.log.Warn("sampling not told of all VMs", "err", err)
	}
}

// sample makes one pass over all VMs.
func (l *loop) sample() {
	now := time.Now()
	l.samples, l.err = l.a.o.Sampler.Sample(l.samples[:0])
	if l.err != nil {
		for _, v := range l.vms {
			v.now, v.demand, v.why = unknownRates(), math.NaN(), "sampling failed: "+l.err.Error()
			v.miss()
		}
		if l.lastAt > 0 { // this window is told as missing already
			l.lastAt += l.a.cfg.Sampling.Window.Duration
		}
		return
	}
	if l.a.o.Links != nil {
		if err := l.a.o.Links.Read(); err != nil {
			l.a.log.Debug("network counters not read", "err", err)
		}
	}
	l.observeAll(now)
	hostFull := full(l.used(), l.inv.host.CPU.Cores)
	for i := range l.samples {
		if v := l.vms[l.samples[i].ID]; v != nil {
			v.learn(now, hostFull)
		}
	}
	l.switchTail(now)
}

// observeAll hands the samples to their VMs.
func (l *loop) observeAll(now time.Time) {
	if len(l.samples) == 0 {
		return
	}
	at, steps := l.samples[0].At, 1
	if window := l.a.cfg.Sampling.Window.Duration; l.lastAt > 0 {
		steps = max(1, int((at-l.lastAt+window/2)/window))
	}
	l.lastAt = at
	outgoing := l.a.desk.Holdings().Outgoing
	for i := range l.samples {
		s := &l.samples[i]
		v := l.vms[s.ID]
		if v == nil {
			continue
		}
		v.moving = slices.Contains(outgoing, negotiate.VMID(s.ID))
		before := v.wait
		v.observe(s, steps)
		l.readFeatures(v)
		l.wait += v.wait - before
		if l.a.o.Links != nil {
			v.tap(l.a.o.Links, s.At)
		}
		l.keep(now, v)
	}
}

// used is the CPU that all VMs used in the last window, in cores.
func (l *loop) used() float64 {
	sum := 0.0
	for _, v := range l.vms {
		if !math.IsNaN(v.now.used) {
			sum += v.now.used
		}
	}
	return sum
}

// keep writes the VM's values to the history.
func (l *loop) keep(at time.Time, v *vm) {
	put := func(signal history.Signal, value float64) {
		if math.IsNaN(value) {
			return
		}
		if err := l.a.o.Store.Append(at, history.Key{VM: v.dom.ID, Signal: signal}, value); err != nil {
			l.a.log.Debug("sample not kept", "vm", v.dom.Name, "err", err)
		}
	}
	put(history.CPUUsed, v.now.used)
	put(history.CPUWait, v.now.waited)
	put(history.DiskRead, v.now.diskRead)
	put(history.DiskWrite, v.now.diskWrite)
	put(history.NetRx, v.now.network.rx)
	put(history.NetTx, v.now.network.tx)
	put(history.MajorFaults, v.now.majorFaults)
	put(history.Switches, v.now.switches)
	if v.sample.Has(bpf.SignalRSS) {
		put(history.RSS, float64(v.sample.RSS)/(1<<20))
	}
	if v.hasMem {
		put(history.Memory, v.memory.UsedMiB)
	}
}

// model is a forecaster's state on its way from the host that the VM leaves.
type model struct {
	vm     string
	signal signal
	state  []byte
}

// inherit takes up what the VM's last host had learned. It may come before the
// VM does, and is kept for it.
func (l *loop) inherit(m model) {
	if err := l.a.o.Store.PutBlob(modelBlob(m.vm, m.signal), m.state); err != nil {
		l.a.log.Warn("inherited model not kept", "vm", m.vm, "err", err)
	}
	v := l.vms[m.vm]
	if v == nil || v.models[m.signal] == nil {
		return
	}
	f, err := predict.New(l.a.shape())
	if err == nil {
		err = f.UnmarshalBinary(m.state)
	}
	if err != nil {
		l.a.log.Info("inherited model not used; the VM is learned anew", "vm", v.dom.Name, "err", err)
		return
	}
	v.models[m.signal], v.bootUntil, v.restUntil = f, time.Time{}, time.Now().Add(restAfterMove)
	l.a.log.Info("model inherited with the VM", "vm", v.dom.Name, "signal", m.signal.String(), "bytes", len(m.state))
}

// saveModels writes every forecaster's state, so that a restart forgets nothing.
func (l *loop) saveModels() error {
	var errs []error
	for id, v := range l.vms {
		for s, m := range v.models {
			if m == nil {
				continue
			}
			b, err := m.MarshalBinary()
			if err == nil {
				err = l.a.o.Store.PutBlob(modelBlob(id, signal(s)), b)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("model of %s (%s): %w", v.dom.Name, signal(s), err))
			}
		}
	}
	b, err := json.Marshal(l.learned)
	if err == nil {
		err = l.a.o.Store.PutBlob(blobLearned, b)
	}
	return errors.Join(append(errs, err)...)
}

func (l *loop) loadLearned() error {
	b, ok, err := l.a.o.Store.Blob(blobLearned)
	if err != nil || !ok {
		return err
	}
	if err := json.Unmarshal(b, &l.learned); err != nil {
		l.a.log.Warn("what earlier migrations taught is not readable; learning anew", "err", err)
		l.learned = planner.Learned{}
	}
	return nil
}

// ended notes how an attempt that this host began goes on and ends.
func (l *loop) ended(u handover.Update) {
	now := time.Now()
	if u.Done == nil && u.State == string(negotiate.SourceMigrating) {
		l.state = l.state.NoteStarted() // also when an operator began it
		if v := l.vms[string(u.VM)]; v != nil {
			l.bequeath(v, u) // while the VM is still here to speak for
		}
	}
	m, ok := l.a.moves.find(string(u.VM), uint64(u.Attempt))
	if !ok || u.Done == nil {
		return
	}
	l.a.lookAgain()
	r := planner.MigrationResult{
		At: now, VM: planner.VMID(u.VM), To: planner.HostID(u.Peer), OK: m.Outcome == string(outcomeMoved), Why: u.Reason,
		Bytes: u.Done.Bytes, CopyTime: u.Done.Copy, Blackout: u.Done.Blackout,
		PredictedCopyTime: m.PredictedCopy, PredictedBlackout: m.PredictedBlackout,
		DirtyRate: planner.BytesPerSecond(u.Done.DirtyRate),
	}
	switch u.Done.Outcome {
	case outcomeMoved:
		l.learned = l.learned.Note(r)
	case outcomeRefused:
		l.state = l.state.NoteRefused(now, r.VM, refusedHosts(u), l.a.policy)
	default:
		l.learned = l.learned.Note(r)
		l.state = l.state.NoteRefused(now, r.VM, []planner.RefusedDestination{{Host: r.To}}, l.a.policy)
	}
}

// lookAgain asks for an inventory now.
func (a *Agent) lookAgain() {
	select {
	case a.lookNow <- struct{}{}:
	default: // one is asked for already
	}
}

// refusedHosts are the hosts that refused a lease, with their reasons.
func refusedHosts(u handover.Update) []planner.RefusedDestination {
	var out []planner.RefusedDestination
	for _, c := range u.Done.Refused {
		out = append(out, planner.RefusedDestination{Host: planner.HostID(c.Host),
			RetryAfter: time.Duration(c.Refusal.RetryAfterMS) * time.Millisecond,
			Refusals:   []planner.Refusal{{Kind: planner.RefuseBackoff, Text: fmt.Sprintf("%s: %s", c.Refusal.Kind, c.Refusal.Text)}}})
	}
	return out
}
