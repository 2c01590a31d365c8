package planner

import (
	"fmt"
	"math"
	"slices"

	"headroom/predict"
)

// usable is what may be promised of the host: capacity less reserve, and for
// memory less the host's own use. CPU used beside the VMs is part of demand.
func (h *Host) usable() Capacity {
	return Capacity{
		CPU:    h.Capacity.CPU - h.Reserve.CPU,
		Memory: h.Capacity.Memory - h.Reserve.Memory - h.OverheadMem,
	}
}

// missing lists every input without which nothing may be planned on this host;
// it is empty when all is known.
func (h *Host) missing() []string {
	out := slices.Clone(h.Missing)
	if !h.Complete && len(out) == 0 {
		out = append(out, "the host's status is not complete")
	}
	u := h.usable()
	if !(u.CPU > 0) || !(u.Memory > 0) || math.IsInf(float64(u.CPU), 0) || math.IsInf(float64(u.Memory), 0) {
		out = append(out, fmt.Sprintf("usable capacity is %.2f cores and %.0f MiB: nothing can be planned without both", u.CPU, u.Memory))
	}
	if len(h.OverheadCPU.Steps) > 0 {
		d := demandOf(&h.OverheadCPU)
		if why := d.check(); why != "" || !h.OverheadCPU.Ready {
			out = append(out, "host overhead is not forecast: "+orElse(h.OverheadCPU.Why, why))
		}
	}
	for i := range h.VMs {
		vm := &h.VMs[i]
		if h.isTransient(vm.ID) {
			continue
		}
		if why := vm.unmeasured(); why != "" {
			out = append(out, fmt.Sprintf("VM %s: %s", vm.label(), why))
		} else if h.overcommits() && (!vm.Mem.Ready || !vm.Mem.Peak.Known()) {
			out = append(out, fmt.Sprintf("VM %s: memory demand is not forecast, and this host overcommits memory", vm.label()))
		} else {
			out = append(out, h.unforecast(vm)...)
		}
	}
	return out
}

// unforecast lists which of the resources that this host has limits for the VM's
// demand is not known of.
func (h *Host) unforecast(vm *VM) (out []string) {
	for r, limit := range h.limits() {
		if limit == 0 {
			continue
		}
		if why := vm.unforecast(resource(r)); why != "" {
			out = append(out, fmt.Sprintf("VM %s: %s demand %s", vm.label(), resource(r), why))
		}
	}
	return out
}

// isTransient says that the VM is counted as incoming and not by its own samples.
func (h *Host) isTransient(id VMID) bool {
	return slices.ContainsFunc(h.Incoming, func(in Incoming) bool { return in.Need.VM == id })
}

func (h *Host) overcommits() bool { return h.MemoryOvercommit > 1 }

func (h *Host) correlation() float64 {
	if h.Correlation == nil || math.IsNaN(*h.Correlation) {
		return DefaultCorrelation
	}
	return min(1, max(0, *h.Correlation))
}

// unmeasured says why the VM's demand is not known, or "".
func (vm *VM) unmeasured() string {
	if !vm.Measured {
		return orElse(vm.Why, "not measured")
	}
	if !vm.CPU.Ready {
		return "demand is not forecast: " + orElse(vm.CPU.Why, "no reason given")
	}
	d := demandOf(&vm.CPU)
	if why := d.check(); why != "" {
		return "forecast is malformed: " + why
	}
	return ""
}

// label is the VM's name, or its id when it has none.
func (vm *VM) label() string { return orElse(vm.Name, string(vm.ID)) }

func (h *Host) label() string { return orElse(h.Name, string(h.ID)) }

func orElse(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// grid is the time base that most of the host's forecasts share: the first
// VM's; an empty host has none.
func (h *Host) grid() grid {
	for i := range h.VMs {
		if f := &h.VMs[i].CPU; f.Step > 0 && len(f.Steps) > 0 {
			return grid{f.Step, len(f.Steps)}
		}
	}
	if f := &h.OverheadCPU; f.Step > 0 && len(f.Steps) > 0 {
		return grid{f.Step, len(f.Steps)}
	}
	for _, n := range h.pending() {
		if n.CPU.Step > 0 && len(n.CPU.Steps) > 0 {
			return grid{n.CPU.Step, len(n.CPU.Steps)}
		}
	}
	return grid{}
}

// pending returns the needs of incoming VMs and held leases, each VM once: a
// lease turns into an incoming VM, and both may be seen for a moment.
func (h *Host) pending() []Need {
	out := make([]Need, 0, len(h.Incoming)+len(h.Held))
	seen := func(id VMID) bool {
		return slices.ContainsFunc(out, func(n Need) bool { return n.VM == id })
	}
	for i := range h.Incoming {
		if !seen(h.Incoming[i].Need.VM) {
			out = append(out, h.Incoming[i].Need)
		}
	}
	for i := range h.Held {
		if !seen(h.Held[i].Need.VM) {
			out = append(out, h.Held[i].Need)
		}
	}
	return out
}

// cpuLoad is the joint CPU demand of the host's VMs, its overhead, held leases
// and incoming VMs on the given time base. VMs without a usable forecast are
// left out: callers refuse incomplete hosts first.
func (h *Host) cpuLoad(g grid) *load {
	l := newLoad(g, h.correlation())
	for i := range h.VMs {
		vm := &h.VMs[i]
		if h.isTransient(vm.ID) || vm.unmeasured() != "" {
			continue
		}
		d := vm.demand()
		l.add(&d)
	}
	if len(h.OverheadCPU.Steps) > 0 {
		d := demandOf(&h.OverheadCPU)
		l.add(&d)
	}
	for _, n := range h.pending() {
		l.add(&n.CPU)
	}
	return l
}

// memoryFree is how much may still be allocated: usable memory less the
// allocations of VMs, leases and incoming VMs; where memory is overcommitted,
// also less the demand forecast with probability p.
func (h *Host) memoryFree(p float64) MiB {
	usable := h.usable().Memory
	allocated := MiB(0)
	demand := newLoad(grid{}, h.correlation())
	for i := range h.VMs {
		vm := &h.VMs[i]
		if h.isTransient(vm.ID) {
			continue
		}
		allocated += vm.Memory
		if h.overcommits() && vm.Mem.Peak.Known() {
			demand.add(&Demand{Peak: vm.Mem.Peak})
		}
	}
	for _, n := range h.pending() {
		allocated += n.Memory
		d := constantDemand(float64(n.Memory))
		if n.Mem != nil {
			d = Demand{Peak: n.Mem.Peak}
		}
		demand.add(&d)
	}
	if !h.overcommits() {
		return usable - allocated
	}
	byAllocation := usable*MiB(h.MemoryOvercommit) - allocated
	byDemand := usable - MiB(quantileAt(demand.peakQuantiles(), p))
	return min(byAllocation, byDemand)
}

// HostForecast is the distribution of the host's CPU demand in cores: its VMs,
// its overhead, held leases and incoming VMs together, with the correlation of
// their residuals. It is not Ready, and says why, while anything is missing.
func HostForecast(h Host) predict.Forecast {
	f := predict.Forecast{Method: "sum", Skill: math.NaN(), Coverage: math.NaN(), PeakCoverage: math.NaN()}
	if missing := h.missing(); len(missing) > 0 {
		f.Why = missing[0]
		if n := len(missing) - 1; n > 0 {
			f.Why += fmt.Sprintf(" (and %d more)", n)
		}
		return f
	}
	d := h.cpuLoad(h.grid()).demand()
	f.Step, f.Steps, f.Peak, f.Ready = d.Step, d.Steps, d.Peak, true
	f.Observed = fewest(h.VMs)
	return f
}

// fewest is the length of the shortest history behind a sum.
func fewest(vms []VM) int {
	n := 0
	for i := range vms {
		if o := vms[i].CPU.Observed; i == 0 || o < n {
			n = o
		}
	}
	return n
}
