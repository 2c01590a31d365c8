package agent

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"headroom/agent/api"
	"headroom/agent/history"
	"headroom/agent/hypervisor"
	"headroom/mesh"
	"headroom/planner"
)

var _ api.Source = (*Agent)(nil)

// Status says whether the agent is well. It asks nobody.
func (a *Agent) Status() api.Status {
	v := a.view.Load()
	s := api.Status{
		Version: a.o.Version, HostID: string(a.o.ID), HostName: a.o.Name, Cluster: a.cfg.Mesh.Cluster,
		Started: a.started.UTC(), UptimeS: time.Since(a.started).Seconds(), Mode: string(a.policy.Mode), Simulated: a.o.Simulated,
		NotReady: a.notReady(v), Hypervisor: a.hypervisorStatus(), Sampler: a.samplerStatus(), Mesh: a.meshStatus(),
		History: a.historyStatus(), Self: v.self, Host: v.api, Drain: a.Drain(), Pause: a.Pause(),
	}
	s.Ready = len(s.NotReady) == 0
	s.Self.Goroutines = runtime.NumGoroutine()
	if s.Host.Forecast.Levels == nil {
		s.Host.Forecast = apiForecast(planner.HostForecast(planner.Host{}), signalCPU)
	}
	return s
}

// notReady lists why nothing is planned.
func (a *Agent) notReady(v *view) []string {
	out := append([]string{}, v.missing...)
	if f := v.api.Forecast; !f.Ready && f.Why != "" && len(out) == 0 {
		out = append(out, f.Why)
	}
	if st := v.host.View; !st.Stable && st.Why != "" {
		out = append(out, st.Why)
	}
	if why := a.held(); why != "" {
		out = append(out, why)
	}
	if v.host.HealthScore > 0 {
		out = append(out, fmt.Sprintf("this agent's own health score is %d", v.host.HealthScore))
	}
	return out
}

func (a *Agent) hypervisorStatus() api.HypervisorStatus {
	h := api.HypervisorStatus{Driver: a.o.DriverName, URI: a.cfg.Libvirt.URI}
	var err error
	if h.Connected, err = a.o.Driver.Connected(); err != nil {
		h.Error = err.Error()
	}
	return h
}

func (a *Agent) samplerStatus() api.SamplerStatus {
	c := a.o.Sampler.Cost()
	s := api.SamplerStatus{Tier: string(a.o.Sampler.Tier()), Refused: []string{}, WindowS: a.cfg.Sampling.Window.Seconds(),
		PassUS: float64(c.MeanCPU) / float64(time.Microsecond), Passes: c.Passes}
	for _, r := range a.o.Sampler.Refused() {
		s.Refused = append(s.Refused, fmt.Sprintf("%s: %v", r.Tier, r.Err))
	}
	if a.o.Links == nil {
		return s
	}
	s.Taps = string(a.o.Links.Tier())
	s.TapsUS = float64(a.o.Links.Cost().MeanCPU) / float64(time.Microsecond)
	for _, r := range a.o.Links.Refused() {
		s.Refused = append(s.Refused, fmt.Sprintf("taps by %s: %v", r.Tier, r.Err))
	}
	return s
}

func (a *Agent) meshStatus() api.MeshStatus {
	s := api.MeshStatus{Refused: map[string]uint64{}, Why: "this host stands alone"}
	if a.o.Mesh == nil {
		return s
	}
	for _, m := range a.o.Mesh.Members() {
		s.Members++
		if m.Status == mesh.StatusAlive {
			s.Alive++
		}
	}
	s.Stable, s.Why = a.o.Mesh.Stable()
	s.HealthScore = a.o.Mesh.HealthScore()
	st := a.o.Mesh.Stats()
	s.Refused, s.DigestsSent, s.DigestsHeld = st.Refused, st.DigestsSent, st.DigestsHeld
	s.DigestIntervalS = st.MinInterval.Seconds()
	s.BudgetPerS, s.DroppedEvents, s.QueueDepthPeak = st.BudgetPerSecond, st.DroppedEvents, st.QueueDepth
	return s
}

func (a *Agent) historyStatus() api.HistoryStatus {
	st := a.o.Store.Stats()
	s := api.HistoryStatus{Bytes: st.DiskBytes, Samples: st.Appended, BytesPerSample: st.BytesPerPoint, Corrupt: st.Corrupt}
	for _, err := range []error{a.o.Store.Err(), a.book.failed(), a.moves.failed()} {
		if err != nil {
			s.Error = err.Error()
		}
	}
	return s
}

// VMs are the host's VMs.
func (a *Agent) VMs() []api.VM { return a.view.Load().vms }

// Forecast is the forecast of one VM, by name or UUID.
func (a *Agent) Forecast(vm string) (api.VMForecast, error) {
	v := a.view.Load()
	f, ok := v.byVM[vm]
	if !ok {
		f, ok = v.byVM[v.names[vm]]
	}
	if !ok {
		return api.VMForecast{}, fmt.Errorf("VM %q: %w on this host; `headroom vms` lists them", vm, api.ErrNotFound)
	}
	return f, nil
}

// History is the CPU demand kept of one VM, by name or UUID: what it used and
// what it waited for. A moment of which either is unknown has no point.
func (a *Agent) History(vm string, back, step time.Duration) (api.History, error) {
	f, err := a.Forecast(vm)
	if err != nil {
		return api.History{}, err
	}
	now := time.Now()
	if step == 0 { // the finest that covers the time, and not too many of it
		step = max(time.Second, (back / maxHistoryPoints).Truncate(time.Second))
	}
	used, err1 := a.o.Store.Range(history.Key{VM: f.VM, Signal: history.CPUUsed}, now.Add(-back), now, step)
	waited, err2 := a.o.Store.Range(history.Key{VM: f.VM, Signal: history.CPUWait}, now.Add(-back), now, step)
	if err := errors.Join(err1, err2); err != nil {
		return api.History{}, fmt.Errorf("history of VM %s: %w", vm, err)
	}
	out := api.History{VM: f.VM, Name: f.Name, Points: demand(used, waited)}
	out.StepS = usualStep(out.Points, step).Seconds()
	return out, nil
}

// maxHistoryPoints is how many points an answer has at the most, when nobody
// asks for a step.
const maxHistoryPoints = 20_000

// demand adds up the points that both have.
func demand(used, waited []history.Point) []api.HistoryPoint {
	var out []api.HistoryPoint
	for _, u := range used {
		for len(waited) > 0 && waited[0].At.Before(u.At) {
			waited = waited[1:]
		}
		if len(waited) > 0 && waited[0].At.Equal(u.At) {
			out = append(out, api.HistoryPoint{At: u.At.UTC(), Cores: u.Mean + waited[0].Mean})
		}
	}
	return out
}

// usualStep is the smallest distance of two points; the store may keep longer
// steps than were asked for.
func usualStep(points []api.HistoryPoint, asked time.Duration) time.Duration {
	least := time.Duration(0)
	for i := 1; i < len(points); i++ {
		if d := points[i].At.Sub(points[i-1].At); least == 0 || d < least {
			least = d
		}
	}
	return max(asked, least)
}

// Slots are the host's shadow slots at this moment.
func (a *Agent) Slots() []api.Slot {
	host := a.withHoldings(a.view.Load(), a.desk.Holdings())
	var out []api.Slot
	for i, s := range planner.Slots(host, a.policy.Classes, a.policy.SlotProbability, time.Now()) {
		c := a.policy.Classes[i]
		out = append(out, api.Slot{Class: s.Class, VCPU: float64(c.VCPU), MemoryMiB: float64(c.Memory), Free: s.Free,
			Probability: s.Probability, Until: s.Until.UTC(), Why: s.Why})
	}
	return out
}

// Members are the hosts of the cluster.
func (a *Agent) Members() []api.Member {
	if a.o.Mesh == nil {
		return []api.Member{{ID: string(a.o.ID), Name: a.o.Name, Self: true, Status: "alone", Free: map[string]int{}}}
	}
	var out []api.Member
	for _, m := range a.o.Mesh.Members() {
		n := api.Member{ID: string(m.ID), Name: m.Name, Addr: m.Addr, RPCAddr: m.Tags.RPCAddr, Status: string(m.Status),
			Self: m.ID == a.o.Mesh.Self(), Draining: m.Tags.Draining, Zone: m.Tags.Zone, Free: map[string]int{}}
		if m.HasDigest {
			for i, c := range a.policy.Classes {
				n.Free[c.Name] = int(m.Digest.Free[i])
			}
			n.Incoming = int(m.Digest.Incoming)
			n.Pressure, n.DigestAgeS = known(float64(m.Digest.Pressure)/100), seconds(m.DigestAge)
		}
		if m.RTTKnown {
			n.RTTMS = millis(m.RTT)
		}
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b api.Member) int { return strings.Compare(a.Name+a.ID, b.Name+b.ID) })
	return out
}

// Offers are the latest offers given and received.
func (a *Agent) Offers(q api.Query) []api.Offer {
	list := a.offers.latest(q)
	for i := range list {
		list[i].Peer = a.hostName(planner.HostID(list[i].Peer))
	}
	return list
}

// Decisions are the latest decisions.
func (a *Agent) Decisions(q api.Query) ([]api.Decision, error) {
	return a.book.latest(q, func(e entry) api.Decision { return a.apiDecision(e, false) }), nil
}

// Decision is one decision with its whole record.
func (a *Agent) Decision(id string) (api.Decision, error) {
	e, ok := a.book.find(id)
	if !ok {
		return api.Decision{}, fmt.Errorf("decision %q: %w among the latest %d; `headroom decisions` lists them", id, api.ErrNotFound, maxDecisions)
	}
	return a.apiDecision(e, true), nil
}

// Migrations are the latest attempts that this host took part in.
func (a *Agent) Migrations(q api.Query) ([]api.Migration, error) { return a.moves.latest(q), nil }

// Subscribe returns the events from now on.
func (a *Agent) Subscribe(buffer int) (<-chan api.Event, func()) { return a.hub.subscribe(buffer) }

func (a *Agent) apiDecision(e entry, whole bool) api.Decision {
	d := &e.Decision
	out := api.Decision{
		ID: shortID(d.ID), At: d.At.UTC(), LastAt: e.LastAt.UTC(), Repeats: e.Repeats, Verdict: string(d.Action),
		VM: string(d.VM), VMName: d.VMName, From: a.o.Name, Reason: d.Reason, Counterfactual: d.Counterfactual, Considered: []api.Considered{},
	}
	if d.To != "" {
		out.To = a.hostName(d.To)
	}
	if d.Action == planner.ActionStuck {
		out.Reason += refusedSummary(d)
	}
	if d.ContentionAt >= 0 {
		at := d.At.Add(d.ContentionAt).UTC()
		out.ContentionAt = &at
	}
	if ev := d.Evaluation; ev != nil {
		out.GainCS, out.CostCS = known(float64(ev.Gain)), known(float64(ev.Cost.Total))
	}
	if e.Verdict != nil {
		out.Outcome = e.Verdict.Text
	}
	if out.Answer = e.Answer; d.Action == planner.ActionApprove {
		at := a.expiry(e)
		out.ExpiresAt = &at
	}
	if whole {
		out.Considered, out.Record = a.considered(d), e
	}
	return out
}

// refusedSummary counts the hosts that were refused by their first reason.
func refusedSummary(d *planner.Decision) string {
	var parts []string
	for _, kind := range planner.Kinds() {
		if n := d.RefusedKinds[kind]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d for %s", n, kind))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " (hosts refused: " + strings.Join(parts, ", ") + ")"
}

// considered lists the VMs and hosts that a decision looked at.
func (a *Agent) considered(d *planner.Decision) []api.Considered {
	out := []api.Considered{}
	for i := range d.Considered {
		o := &d.Considered[i]
		c := apiEvaluation(&o.Evaluation, o.Refusals)
		c.VM, c.Chosen = o.Name, o.VM == d.VM && d.VM != ""
		out = append(out, c)
	}
	if d.Evaluation != nil {
		c := apiEvaluation(d.Evaluation, nil)
		c.VM, c.Host, c.Chosen = d.VMName, a.hostName(d.To), true
		out = append(out, c)
	}
	for _, r := range d.Refused {
		c := api.Considered{VM: d.VMName, Host: r.Name, Reason: reasons(r.Refusals), Terms: []api.CostTerm{}}
		if len(r.Refusals) > 0 {
			c.Kind = string(r.Refusals[0].Kind)
		}
		if c.Host == "" {
			c.Host = a.hostName(r.Host)
		}
		out = append(out, c)
	}
	return out
}

func apiEvaluation(e *planner.Evaluation, refusals []planner.Refusal) api.Considered {
	c := api.Considered{Reason: "allowed", GainCS: known(float64(e.Gain)), CostCS: known(float64(e.Cost.Total)), Terms: []api.CostTerm{}}
	if len(refusals) > 0 {
		c.Kind, c.Reason = string(refusals[0].Kind), reasons(refusals)
	}
	for _, t := range e.Cost.Terms {
		c.Terms = append(c.Terms, api.CostTerm{Name: t.Group + "/" + t.Name, CoreSeconds: float64(t.Value), Detail: t.Text})
	}
	return c
}

// Migrate moves a VM on the operator's word: the peers are asked, hard
// constraints hold, thresholds of gain and cool-down do not.
func (a *Agent) Migrate(ctx context.Context, name, to string) (api.MigrateReply, error) {
	v := a.view.Load()
	vm, ok := findVM(&v.host, name)
	if !ok {
		return api.MigrateReply{}, fmt.Errorf("VM %q: %w on this host; `headroom vms` lists them", name, api.ErrNotFound)
	}
	candidates, err := a.operatorCandidates(to)
	if err != nil {
		return api.MigrateReply{}, err
	}
	dom, found, err := a.o.Driver.Lookup(ctx, string(vm.ID))
	if err != nil || !found {
		return api.MigrateReply{}, fmt.Errorf("VM %s: %w: libvirt does not show it now: %v", vm.Name, api.ErrConflict, err)
	}
	if err := movable(vm, dom); err != nil {
		return api.MigrateReply{}, err
	}
	need := planner.NeedOf(vm, v.host)
	need.Drain, need.Operator = true, true // room up to HIGH, pause or not: the operator has decided
	var order []planner.HostID
	var why []string
	for _, o := range a.probe(ctx, need, candidates) {
		if len(o.Refusals) == 0 {
			order = append(order, o.Host)
		} else {
			why = append(why, a.hostName(o.Host)+": "+reasons(o.Refusals))
		}
	}
	if len(order) == 0 {
		return api.MigrateReply{}, fmt.Errorf("VM %s: %w: no host takes it: %s", vm.Name, api.ErrConflict, strings.Join(why, "; "))
	}
	d := planner.Decision{ContentionAt: -1}
	if err := a.start(ctx, vm, dom, order, d, operatorName); err != nil {
		return api.MigrateReply{}, fmt.Errorf("%w: %w", api.ErrConflict, err)
	}
	m, _ := a.moves.findLatest(string(vm.ID))
	return api.MigrateReply{VM: string(vm.ID), Attempt: m.Attempt, To: a.hostName(order[0])}, nil
}

// movable says why not even an operator can move the VM now. That its arrival is not
// noted yet is not among the reasons: the note tells the planner of a rest, which does
// not hold an operator up.
func movable(vm planner.VM, dom hypervisor.Domain) error {
	if vm.Unmovable == "" && dom.Job == "" {
		return nil
	}
	return fmt.Errorf("VM %s: %w: %s", vm.Name, api.ErrConflict, strings.Trim(vm.Unmovable+" "+dom.Job, " "))
}

// operatorName stands in the journal for a move that came over the socket.
const operatorName = "operator on the local socket"

// operatorCandidates are the host that was named, or up to eight alive peers.
func (a *Agent) operatorCandidates(to string) ([]planner.HostID, error) {
	const most = 8
	var out []planner.HostID
	for _, p := range a.peers() {
		if !p.Alive || (to != "" && p.Name != to && string(p.ID) != to) {
			continue
		}
		if out = append(out, p.ID); len(out) == most {
			break
		}
	}
	switch {
	case len(out) == 0 && to == "":
		return nil, fmt.Errorf("%w: no other host of the cluster is alive", api.ErrConflict)
	case len(out) == 0:
		return nil, fmt.Errorf("host %q: %w among the live members; `headroom members` lists them", to, api.ErrNotFound)
	}
	return out, nil
}

func findVM(h *planner.Host, name string) (planner.VM, bool) {
	for _, vm := range h.VMs {
		if vm.Name == name || string(vm.ID) == name {
			return vm, true
		}
	}
	return planner.VM{}, false
}
