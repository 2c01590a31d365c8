package agent

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"headroom/agent/api"
	"headroom/agent/handover"
	"headroom/agent/hypervisor"
	"headroom/bpf"
	"headroom/planner"
	"headroom/planner/negotiate"
	"headroom/predict"
)

// view is what the loop last saw, never changed after it is published: probes
// are answered from it, and the local socket reads it.
type view struct {
	at      time.Time
	host    planner.Host // without leases and arrivals: the desk knows these
	missing []string
	api     api.Host
	self    api.SelfStatus
	vms     []api.VM
	byVM    map[string]api.VMForecast
	names   map[string]string // VM id -> name, and name -> id
	state   planner.State     // what the planner remembers
	known   bool              // the hypervisor has told its VMs
	wait    float64
	strays  []api.Orphan // stopped VMs under a stamp; the desk may know of them
}

// show publishes what the loop sees now.
func (l *loop) show() {
	v := &view{at: time.Now(), byVM: map[string]api.VMForecast{}, names: map[string]string{}, wait: l.wait, state: l.state,
		known: l.known && l.inv.err == nil}
	v.host = l.host()
	v.missing = v.host.Missing
	for _, m := range l.vms {
		v.vms = append(v.vms, l.a.apiVM(m))
		f := api.VMForecast{VM: m.dom.ID, Name: m.dom.Name, CPU: apiForecast(m.forecasts[signalCPU], signalCPU), HotSpots: hotTexts(m.hot)}
		for s, to := range map[signal]**api.Forecast{signalMemory: &f.Memory, signalDisk: &f.Disk, signalNetwork: &f.Network} {
			if m.models[s] != nil {
				shown := apiForecast(m.forecasts[s], s)
				*to = &shown
			}
		}
		v.byVM[m.dom.ID] = f
		v.names[m.dom.Name], v.names[m.dom.ID] = m.dom.ID, m.dom.Name
	}
	slices.SortFunc(v.vms, func(a, b api.VM) int { return strings.Compare(a.Name, b.Name) })
	v.api = l.a.apiHost(v, l)
	v.self, v.strays = l.self(v.at), l.strays()
	l.a.view.Store(v)
}

// host is this host as the planner sees it.
func (l *loop) host() planner.Host {
	now := time.Now()
	l.learned = l.learned.Forget(now)
	h := planner.Host{
		ID: l.a.o.ID, Name: l.a.o.Name, Learned: l.learned, CPUModel: l.inv.info.CPUModel,
		Capacity: planner.Capacity{CPU: planner.Cores(l.inv.host.CPU.Cores), Memory: planner.MiB(l.inv.host.Memory.CapacityMiB)},
		Reserve: planner.Capacity{
			CPU:    planner.Cores(l.a.cfg.Planner.ReserveCores),
			Memory: planner.MiB(l.a.cfg.Planner.ReserveMemoryMiB),
		},
		MemoryOvercommit: l.a.cfg.Planner.MemoryOvercommit,
		Carries: planner.Traffic{
			Disk:    planner.BytesPerSecond(l.a.cfg.Planner.DiskBandwidth),
			Network: planner.BytesPerSecond(l.a.cfg.Planner.NetworkBandwidth),
		},
		Heard: l.a.heard.lastHour(now),
		View:  planner.View{Stable: true},
	}
	if m := l.a.o.Mesh; m != nil {
		h.HealthScore = m.HealthScore()
		h.View.Stable, h.View.Why = m.Stable()
	} else {
		h.View = planner.View{Why: "this host stands alone: set mesh.bind and mesh.join"}
	}
	h.Missing = l.missing()
	h.Complete = len(h.Missing) == 0
	for _, v := range l.vms {
		h.VMs = append(h.VMs, l.a.plannerVM(v))
		h.Networks = appendNew(h.Networks, v.dom.Networks...)
		for _, d := range v.dom.Disks {
			h.Pools = appendNew(h.Pools, d.Pool)
		}
	}
	h.Networks = appendNew(h.Networks, l.inv.info.Networks...)
	h.Nodes = numaNodes(l.inv.info.Nodes)
	h.Pools = appendNew(h.Pools, l.inv.info.Pools...)
	slices.SortFunc(h.VMs, func(a, b planner.VM) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return h
}

// missing lists what is not known beside the VMs themselves.
func (l *loop) missing() []string {
	var out []string
	if !l.known {
		out = append(out, "no inventory of VMs yet")
	}
	if age := time.Since(l.inv.at); l.known && age > staleInventory {
		out = append(out, fmt.Sprintf("the hypervisor has not told its VMs for %s", age.Round(time.Second)))
	}
	if l.inv.err != nil {
		out = append(out, l.inv.err.Error())
	}
	if l.inv.hostErr != nil {
		out = append(out, "capacity: "+l.inv.hostErr.Error())
	}
	if err := l.a.o.Store.Err(); err != nil { // a move must leave its record
		out = append(out, "history: "+err.Error())
	}
	if l.err != nil {
		out = append(out, "sampling failed: "+l.err.Error())
	}
	return out
}

func appendNew(list []string, more ...string) []string {
	for _, s := range more {
		if s != "" && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// plannerVM is one VM as the planner sees it.
func (a *Agent) plannerVM(v *vm) planner.VM {
	p := planner.VM{
		ID: planner.VMID(v.dom.ID), Name: v.dom.Name, VCPUs: v.dom.VCPUs, Memory: planner.MiB(v.dom.MaxMemoryMiB),
		Measured: v.why == "", Why: v.why,
		CPU: v.forecasts[signalCPU], Mem: v.forecasts[signalMemory], Disk: v.forecasts[signalDisk],
		Policy: planner.VMPolicy{
			Mode: planner.Mode(v.dom.Metadata.Mode), Pin: v.dom.Metadata.Pin,
			Affinity: v.dom.Metadata.Affinity, AntiAffinity: v.dom.Metadata.AntiAffinity,
			Near: v.dom.Metadata.Near, Apart: v.dom.Metadata.Apart, Hosts: hostRules(v.dom.Metadata.Hosts), Partners: v.dom.Metadata.Partners,
		},
		History: planner.MoveHistory{
			Attempt: planner.Attempt(v.dom.Metadata.Attempt), LastMoved: v.dom.Metadata.MovedAt,
			LastFrom: planner.HostID(v.dom.Metadata.LastFrom), Moves: v.dom.Metadata.Moves,
		},
		Busy: v.dom.Job, CPUModel: v.dom.CPUModel, Networks: v.dom.Networks,
		Placement: placement(&v.dom),
	}
	if m := v.dom.Metadata; p.Busy == "" && m.ArrivedAt(string(a.o.ID)) {
		// The planner would not know of its rest. What it is shown may be older
		// than what the lease book knows, so that asking the book is not enough.
		p.Busy = "the note of its arrival in its metadata"
	}
	if len(v.dom.Taps) > 0 { // else it has no traffic that this host could count
		p.Network = v.forecasts[signalNetwork]
	}
	guard, _ := a.guard(&v.dom)
	p.Guarded = guard != noGuard
	if !v.dom.Migratable {
		p.Unmovable = v.dom.Why
	}
	if p.Measured {
		p.NowCPU, p.NowWait = planner.Cores(v.demand), planner.Cores(v.now.waited)
	}
	if v.sample.RSS > 0 {
		p.Resident = min(p.Memory, planner.MiB(float64(v.sample.RSS)/(1<<20)))
	}
	if !math.IsNaN(v.dirty) {
		p.DirtyRate, p.HasDirtyRate = planner.BytesPerSecond(v.dirty), true
	}
	for _, d := range v.dom.Disks {
		p.Pools = appendNew(p.Pools, d.Pool)
	}
	return p
}

func placement(dom *hypervisor.Domain) planner.Placement {
	out := planner.Placement{CPUs: dom.Pinned}
	for _, b := range dom.Bound {
		out.Bindings = append(out.Bindings, planner.Binding{Nodes: b.Nodes, Memory: planner.MiB(b.MemoryMiB)})
	}
	return out
}

func numaNodes(nodes []hypervisor.Node) (out []planner.Node) {
	for _, n := range nodes {
		out = append(out, planner.Node{ID: n.ID, Memory: planner.MiB(n.MemoryMiB), CPUs: n.CPUs})
	}
	return out
}

func hostRules(rules []hypervisor.HostRule) (out []planner.HostRule) {
	for _, r := range rules {
		out = append(out, planner.HostRule{Host: r.Host, Word: planner.HostWord(r.Word)})
	}
	return out
}

// guard is what keeps the VM from running twice in a move, and why there is none:
// no guard, no automatic move.
func (a *Agent) guard(dom *hypervisor.Domain) (negotiate.Guard, string) {
	switch g := negotiate.Guard(a.cfg.Handover.Guard); {
	case g == negotiate.GuardPlain:
		return noGuard, "handover.guard is \"plain\""
	case g == negotiate.GuardLock && !dom.Locked:
		return noGuard, "no disk lock is proven: " + dom.LockWhy
	default:
		return g, ""
	}
}

// noGuard is shown for a VM that nothing would keep from running twice.
const noGuard negotiate.Guard = "none"

// guardFor is the guard of a move that starts now. An operator's move without a
// proven lock goes the way that needs none; one without any guard is as configured.
func (a *Agent) guardFor(dom hypervisor.Domain, operator string) negotiate.Guard {
	g, _ := a.guard(&dom)
	switch {
	case g != noGuard:
		return g
	case operator != "" && a.cfg.Handover.Guard == string(negotiate.GuardLock):
		return negotiate.GuardPaused
	}
	return negotiate.GuardPlain
}

// withHoldings is the host of the view with what the desk holds at this moment.
func (a *Agent) withHoldings(v *view, h handover.Holdings) planner.Host {
	host := v.host
	_, host.Draining = a.standing.draining()
	host.Paused = a.held()
	host.Wanted = a.needs.unmet(time.Now(), a.policy)
	for _, l := range h.Leases {
		need := a.needs.of(l, time.Now())
		if l.State != negotiate.DestHeld {
			host.Incoming = append(host.Incoming, planner.Incoming{Lease: planner.LeaseID(l.Lease), Attempt: planner.Attempt(l.Attempt), Need: need})
		} else {
			host.Held = append(host.Held, planner.Lease{ID: planner.LeaseID(l.Lease), Attempt: planner.Attempt(l.Attempt), Need: need})
		}
	}
	for _, id := range h.Outgoing {
		host.Outgoing = append(host.Outgoing, planner.VMID(id))
	}
	return host
}

// apiHost is the host for people, with the leases of this moment.
func (a *Agent) apiHost(v *view, l *loop) api.Host {
	holdings := a.desk.Holdings()
	host := a.withHoldings(v, holdings)
	f := planner.HostForecast(host)
	usable := float64(host.Capacity.CPU - host.Reserve.CPU)
	out := api.Host{
		ID: string(host.ID), Name: host.Name, CPUCores: float64(host.Capacity.CPU), MemoryMiB: float64(host.Capacity.Memory),
		MemoryFree: l.inv.host.Memory.AvailableMiB, WaitSeconds: l.wait, VMs: len(host.VMs),
		HighCores: usable * a.policy.High, LowCores: usable * a.policy.Low, Draining: host.Draining,
		Forecast: apiForecast(f, signalCPU), Held: len(host.Held), Incoming: len(host.Incoming), Outgoing: len(host.Outgoing),
	}
	if p := l.inv.host.CPUPressure; p != nil {
		out.PSICPUSome10 = 100 * p.Some10
	}
	for i := range host.VMs {
		out.DemandCores += float64(host.VMs[i].NowCPU)
		out.WaitCores += float64(host.VMs[i].NowWait)
	}
	if f.Ready && usable > 0 && f.Peak.Known() {
		out.PressureProbability = f.ExceedProbability(usable)
		out.ContentionInS = contentionIn(f, usable, a.policy.ContentionProbability)
	}
	return out
}

// contentionIn is the time until the demand exceeds usable with probability p
// or more, in seconds; nil when it does not within the horizon.
func contentionIn(f predict.Forecast, usable, p float64) *float64 {
	for i, q := range f.Steps {
		step := predict.Forecast{Peak: q}
		if q.Known() && step.ExceedProbability(usable) >= p {
			s := (f.Step * time.Duration(i)).Seconds()
			return &s
		}
	}
	return nil
}

func (a *Agent) apiVM(v *vm) api.VM {
	guard, unguarded := a.guard(&v.dom)
	out := api.VM{
		ID: v.dom.ID, Name: v.dom.Name, State: string(v.dom.State), VCPUs: v.dom.VCPUs, MemoryMiB: v.dom.MaxMemoryMiB,
		Measured: v.why == "", Why: v.why, WaitSeconds: v.wait, Method: v.forecasts[signalCPU].Method, Mode: string(a.policy.Mode),
		Guard: string(guard), GuardWhy: unguarded, Busy: v.dom.Job, LastFrom: v.dom.Metadata.LastFrom, HotSpots: hotTexts(v.hot),
		DiskReadBps: known(v.now.diskRead), DiskWriteBps: known(v.now.diskWrite),
		NetRxBps: known(v.now.network.rx), NetTxBps: known(v.now.network.tx),
		NetRxPps: known(v.now.network.rxPackets), NetTxPps: known(v.now.network.txPackets),
		NetRxDropsPerS: known(v.now.network.rxDrops), NetTxDropsPerS: known(v.now.network.txDrops),
		MajorFaultsPerS: known(v.now.majorFaults), SwitchesPerS: known(v.now.switches),
		DirtyBps: known(v.dirty), Job: v.dom.Job, Absent: a.absent(v),
		BlockIO: v.apiBlockIO(), WaitTail: v.apiWaitTail(), KVM: v.apiExits(),
	}
	if m := v.dom.Metadata.Mode; m != "" {
		out.Mode = m
	}
	if out.Measured {
		out.UsedCores, out.WaitCores = v.now.used, v.now.waited
	}
	if at := v.dom.Metadata.MovedAt; !at.IsZero() {
		out.LastMoved = &at
	}
	if v.sample.Has(bpf.SignalRSS) {
		out.RSSMiB = known(float64(v.sample.RSS) / (1 << 20))
	}
	if v.hasMem {
		out.MemoryAvailableMiB, out.MemoryUsedMiB = known(v.memory.AvailableMiB), known(v.memory.UsedMiB)
		out.MemoryUnusedMiB = known(v.memory.UnusedMiB)
	}
	if f := &v.forecasts[signalCPU]; f.Ready && f.Peak.Known() {
		out.PeakP50Cores, out.PeakP90Cores = known(f.Peak[0]), known(f.Peak[2])
	}
	if !v.dom.Migratable {
		out.Busy = strings.TrimPrefix(out.Busy+"; cannot be moved: "+v.dom.Why, "; ")
	}
	return out
}

func hotTexts(spots []predict.HotSpot) []string {
	out := make([]string, 0, len(spots))
	for _, s := range spots {
		out = append(out, fmt.Sprintf("%s: %s", s.Kind, s.Explanation))
	}
	return out
}

// apiForecast is a forecast of a signal for the local socket.
func apiForecast(f predict.Forecast, s signal) api.Forecast {
	out := api.Forecast{
		Unit: s.unit(), Ready: f.Ready, Why: f.Why, Method: f.Method, StepS: f.Step.Seconds(), Levels: predict.Levels[:],
		Steps: [][]float64{}, Peak: []float64{}, Skill: known(f.Skill), Coverage: known(f.Coverage),
		Observed: f.Observed, Missing: f.Missing, Members: []api.ForecasterMember{},
	}
	for _, q := range f.Steps {
		if q.Known() {
			out.Steps = append(out.Steps, slices.Clone(q[:]))
		}
	}
	if f.Peak.Known() {
		out.Peak = slices.Clone(f.Peak[:])
	}
	for _, m := range f.Members {
		out.Members = append(out.Members, api.ForecasterMember{Name: m.Name, Loss: known(m.Loss), Off: m.Off, Why: m.Why})
	}
	return out
}

// self is what the agent costs, from the host's last status.
func (l *loop) self(now time.Time) api.SelfStatus {
	own := l.inv.host.Own
	if own == nil {
		return api.SelfStatus{}
	}
	up := now.Sub(l.a.started).Seconds()
	return api.SelfStatus{CPUPercent: 100 * own.CPU.Seconds() / max(1, up), CPUSeconds: own.CPU.Seconds(), RSSMiB: own.RSSMiB}
}
