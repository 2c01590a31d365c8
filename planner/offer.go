package planner

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Offer is a destination's answer to a probe: live and not binding. It counts
// held leases and incoming VMs as present.
type Offer struct {
	Host HostID `json:"host"`
	Name string `json:"name"`
	// At is the destination's clock, for records only; nothing compares it.
	At time.Time `json:"at"`
	// Age is set by the receiver, on its own clock, before each use.
	Age time.Duration `json:"age_ns"`
	// RTT is set by the receiver when known.
	RTT      time.Duration `json:"rtt_ns"`
	RTTKnown bool          `json:"rtt_known"`

	Usable     Capacity `json:"usable"`
	MemoryFree MiB      `json:"memory_free_mib"`
	// CPU is the joint demand at the destination now, without the asked VM.
	CPU         Demand  `json:"cpu"`
	Correlation float64 `json:"correlation"`
	// Carries, Disk and Network are the destination's limits of traffic and the joint
	// traffic there, Mem the demand for memory where it overcommits it.
	Carries Traffic `json:"carries,omitzero"`
	Mem     *Demand `json:"mem,omitempty"`
	Disk    *Demand `json:"disk,omitempty"`
	Network *Demand `json:"network,omitempty"`
	// P90After is the forecast p90 of the peak with the VM, as a share of Usable.
	P90After float64 `json:"p90_after"`
	Held     int     `json:"held"`
	Incoming int     `json:"incoming"`
	// Partners are those of the VM's traffic partners that run here.
	Partners []string `json:"partners,omitempty"`
	// Company counts the VMs here near which the VM should run, less those that it
	// should keep apart from.
	Company int `json:"company,omitempty"`
	// Refusals are empty when the destination would take the VM.
	Refusals []Refusal `json:"refusals,omitempty"`
}

// NeedOf describes a VM to destinations. An unmeasured VM, which only a drain
// may move, needs all of its virtual CPUs.
func NeedOf(vm VM, src Host) Need {
	n := Need{
		VM: vm.ID, Name: vm.Name, From: src.ID, Memory: vm.Memory,
		CPUModel: vm.CPUModel, Pools: vm.Pools, Networks: vm.Networks, Placement: vm.Placement,
		Pin: vm.Policy.Pin, AntiAffinity: vm.Policy.AntiAffinity, Partners: vm.Policy.Partners,
		Near: vm.Policy.Near, Apart: vm.Policy.Apart, Hosts: vm.Policy.Hosts,
		Drain: src.Draining,
	}
	n.CPU, _ = vm.need()
	shared := vm.shared()
	n.Mem, n.Disk, n.Network = shared[sharedMemory], shared[sharedDisk], shared[sharedNetwork]
	return n
}

// need is the CPU demand that a destination must serve, and whether it was measured.
func (vm *VM) need() (Demand, bool) {
	if vm.unmeasured() != "" {
		return constantDemand(float64(vm.VCPUs)), false
	}
	return vm.demand(), true
}

// MakeOffer answers a probe for need on host h: headroom less leases less
// incoming VMs, and every reason against. The same call, with the lease book
// as it is then, decides whether a lease may be granted: it may if and only if
// Refusals is empty. A lease or copy of the same VM from the same source does
// not count against itself, so a repeated probe gets the same answer.
func MakeOffer(now time.Time, h Host, need Need, p Policy) Offer {
	h = h.withoutNeed(need)
	o := Offer{
		Host: h.ID, Name: h.Name, At: now, Usable: h.usable(), Correlation: h.correlation(),
		Held: len(h.Held), Incoming: len(h.Incoming), Partners: h.residents(need.Partners),
		Company: h.company(need.VM, need.Name, need.Near, need.Apart),
	}
	o.Refusals = h.constraints(&need, p)
	if missing := h.missing(); len(missing) > 0 {
		o.Refusals = append(o.Refusals, refuse(RefuseMissingData, "%s: %s", h.label(), missing[0]))
		return o
	}
	if why := need.malformed(); why != "" || !(need.Memory > 0) {
		o.Refusals = append(o.Refusals, refuse(RefuseMissingData, "the probe's demand is malformed: %s", orElse(why, "no memory size")))
		return o
	}
	memory := h.memoryFree(p.SlotProbability)
	h = h.without(need.For)
	g := h.grid()
	if g.n == 0 {
		g = grid{need.CPU.Step, len(need.CPU.Steps)}
	}
	l := h.cpuLoad(g)
	o.CPU = l.demand()
	o.Carries = h.Carries
	s := h.shares(g)
	o.Mem, o.Disk, o.Network = s.demand(sharedMemory), s.demand(sharedDisk), s.demand(sharedNetwork)
	o.MemoryFree = memory
	o.P90After = shareAfter(&o, &need.CPU)
	l.add(&need.CPU) // exact, as no joint quantiles are
	o.Refusals = append(o.Refusals, fits(&o, &need, p, l.level()/float64(o.Usable.CPU))...)
	return o
}

// malformed says what in a need received from outside cannot be used, or "".
func (n *Need) malformed() string {
	for r, d := range n.shared() {
		if d == nil {
			continue
		}
		if why := d.check(); why != "" {
			return resource(r).String() + ": " + why
		}
	}
	return n.CPU.check()
}

// without is the host once a VM has left it.
func (h Host) without(vm VMID) Host {
	if vm != "" {
		h.VMs = slices.DeleteFunc(slices.Clone(h.VMs), func(x VM) bool { return x.ID == vm })
	}
	return h
}

// withoutNeed removes what the host already holds for the very VM asked about.
func (h Host) withoutNeed(need Need) Host {
	same := func(n *Need) bool { return n.VM == need.VM && n.From == need.From }
	h.Held = slices.DeleteFunc(slices.Clone(h.Held), func(l Lease) bool { return same(&l.Need) })
	h.Incoming = slices.DeleteFunc(slices.Clone(h.Incoming), func(in Incoming) bool { return same(&in.Need) })
	return h.without(need.VM)
}

// malformed says what in an offer received from outside cannot be used, or "".
func (o *Offer) malformed() string {
	switch {
	case o.Host == "":
		return "it names no host"
	case !(o.Usable.CPU > 0) || math.IsInf(float64(o.Usable.CPU), 0):
		return "it shows no CPU capacity"
	case math.IsNaN(o.Correlation):
		return "correlation is not a number"
	}
	for r, d := range o.shared() {
		if d == nil {
			continue
		}
		if why := d.check(); why != "" {
			return resource(r).String() + ": " + why
		}
	}
	return o.CPU.check()
}

// shareAfter is the p90 of the destination's peak with the VM added, as a
// share of what is usable there.
func shareAfter(o *Offer, vm *Demand) float64 {
	after := joined(o, vm)
	return p90(after.peakQuantiles()) / float64(o.Usable.CPU)
}

// levelAfter is the highest demand that is expected (the mean) in any step at the
// destination with the VM added, as a share of what is usable there.
func levelAfter(o *Offer, vm *Demand) float64 {
	return joined(o, vm).level() / float64(o.Usable.CPU)
}

// level is the highest mean of any step, cores.
func (l *load) level() float64 {
	if l.grid.n == 0 {
		q := l.peakQuantiles()
		return mean(&q)
	}
	top := 0.0
	for h := range l.steps {
		q := l.steps[h].quantiles(l.rho)
		top = max(top, mean(&q))
	}
	return top
}

// joined is the load of an offer's host with the VM added.
func joined(o *Offer, vm *Demand) *load {
	l := offerLoad(o, vm)
	l.add(vm)
	return l
}

// offerLoad is the offer's own load on the VM's time base, if it has one.
func offerLoad(o *Offer, vm *Demand) *load {
	g := grid{vm.Step, len(vm.Steps)}
	if g.n == 0 {
		g = grid{o.CPU.Step, len(o.CPU.Steps)}
	}
	l := newLoad(g, min(1, max(0, o.Correlation)))
	l.add(&o.CPU)
	return l
}

// fits checks every dimension of an offer; level is the share of its usable cores that
// is expected to be asked for once the VM is there.
func fits(o *Offer, need *Need, p Policy, level float64) []Refusal {
	var out []Refusal
	limit, word := fillLimit(need, &p)
	// The negation refuses a NaN too.
	if !(level <= limit) {
		out = append(out, refuse(RefuseCPU, "expected demand after the add is %.0f %% of %.2f cores, above %s %.0f %%",
			100*level, o.Usable.CPU, word, 100*limit))
	}
	if !(need.Memory <= o.MemoryFree) {
		out = append(out, refuse(RefuseMemory, "needs %.0f MiB, %.0f MiB are free", need.Memory, max(0, o.MemoryFree)))
	}
	return append(out, trafficRefusals(o, need, &p)...)
}

// fillLimit is how full a destination may be expected to get: up to LOW, or HIGH
// for a drain. Where the source is expected to be fuller still, up to that: on a
// cluster without room, half of a shortage is better than all of it, and
// EvaluateMigration sees to it that it is no more than half.
func fillLimit(need *Need, p *Policy) (limit float64, word string) {
	limit, word = p.Low, "LOW"
	if need.Drain {
		limit, word = p.High, "HIGH"
	}
	if need.Fill > limit && !math.IsInf(need.Fill, 0) {
		limit, word = need.Fill, "the source's"
	}
	return limit, word
}

// constraints lists the hard constraints that stand against need on h.
func (h *Host) constraints(need *Need, p Policy) []Refusal {
	var out []Refusal
	if need.From == h.ID {
		out = append(out, refuse(RefuseSameHost, "%s runs here already", need.label()))
	}
	if h.Draining {
		out = append(out, refuse(RefuseDraining, "%s is being drained", h.label()))
	}
	if h.Paused != "" && !need.Operator {
		out = append(out, refuse(RefusePaused, "%s lets no move begin: %s", h.label(), h.Paused))
	}
	if h.HealthScore > 0 {
		out = append(out, refuse(RefuseUnhealthy, "%s doubts its own health (score %d)", h.label(), h.HealthScore))
	}
	out = append(out, provides(need.CPUModel, h.CPUModel, need.Pools, h.Pools, need.Networks, h.Networks, true)...)
	out = append(out, h.place(need)...)
	if r := pinRefusal(need.Pin, h.ID, h.Name); r != nil {
		out = append(out, *r)
	}
	if r := hostRefusal(need.Hosts, h.ID, h.Name); r != nil {
		out = append(out, *r)
	}
	if other := h.avoids(need); other != "" {
		out = append(out, refuse(RefuseAntiAffinity, "must not share a host with %s", other))
	}
	if n := len(h.pending()); n >= p.MaxIncoming {
		out = append(out, refuse(RefuseConcurrency, "%d of %d incoming moves are held or under way", n, p.MaxIncoming))
	}
	return out
}

func (n *Need) label() string { return orElse(n.Name, string(n.VM)) }

// provides compares what a VM needs with what a host has. Not strict: what
// the host does not advertise is left to the probe.
func provides(model, hostModel string, pools, hostPools, nets, hostNets []string, strict bool) []Refusal {
	var out []Refusal
	if model != "" && model != hostModel && (strict || hostModel != "") {
		out = append(out, refuse(RefuseCPUModel, "needs CPU model %s, has %s", model, orElse(hostModel, "none known")))
	}
	if strict || len(hostPools) > 0 {
		for _, pool := range pools {
			if !slices.Contains(hostPools, pool) {
				out = append(out, refuse(RefusePool, "storage pool %s is not there", pool))
			}
		}
	}
	if strict || len(hostNets) > 0 {
		for _, net := range nets {
			if !slices.Contains(hostNets, net) {
				out = append(out, refuse(RefuseNetwork, "network %s is not there", net))
			}
		}
	}
	return out
}

// pinRefusal says whether a pin forbids a destination.
func pinRefusal(pin string, id HostID, name string) *Refusal {
	if pin == "" || pin == string(id) || (name != "" && pin == name) {
		return nil
	}
	r := refuse(RefusePinned, "pinned to %s", pin)
	if pin == PinHere {
		r.Text = "pinned where it is"
	}
	return &r
}

// avoids names a VM of the host, running or on its way, that must not share a
// host with need; "" if there is none.
func (h *Host) avoids(need *Need) string {
	for i := range h.VMs {
		vm := &h.VMs[i]
		if excludes(need.AntiAffinity, vm.Policy.AntiAffinity, need.VM, need.Name, vm.ID, vm.Name) {
			return vm.label()
		}
	}
	for _, n := range h.pending() {
		if excludes(need.AntiAffinity, n.AntiAffinity, need.VM, need.Name, n.VM, n.Name) {
			return fmt.Sprintf("%s, which is on its way here", n.label())
		}
	}
	return ""
}

// groupPrefix marks an anti-affinity entry that names a group, not a VM.
const groupPrefix = "group:"

func excludes(a, b []string, aID VMID, aName string, bID VMID, bName string) bool {
	if names(a, bID, bName) || names(b, aID, aName) {
		return true
	}
	return slices.ContainsFunc(a, func(g string) bool {
		return len(g) > len(groupPrefix) && g[:len(groupPrefix)] == groupPrefix && slices.Contains(b, g)
	})
}

// names says whether a list names a VM by id or by name.
func names(list []string, id VMID, name string) bool {
	return slices.Contains(list, string(id)) || (name != "" && slices.Contains(list, name))
}

// residents returns those entries of list that name a VM of this host.
func (h *Host) residents(list []string) []string {
	var out []string
	for _, want := range list {
		if slices.ContainsFunc(h.VMs, func(vm VM) bool { return names([]string{want}, vm.ID, vm.Name) }) {
			out = append(out, want)
		}
	}
	return out
}
