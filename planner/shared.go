package planner

import (
	"math"
	"slices"

	"headroom/predict"
)

// Cores are not all that VMs share. A host may run short of memory, where it
// overcommits it, and of what its disks and its networks carry. What is asked beyond
// such a limit, as a share of the limit, counts as that share of the host's cores: a
// host asked for a tenth more than its disks carry does a tenth of its work late. So
// all shortages add up in core-seconds, and one rule of gain and cost holds for all.

// resource is what VMs share beside cores.
type resource int

const (
	sharedMemory resource = iota
	sharedDisk
	sharedNetwork
	resources
)

// String is the resource's name in records and texts.
func (r resource) String() string {
	return [resources]string{"memory", "disk", "network"}[r]
}

// Traffic is a rate to and from storage and one over the VMs' networks, the busier
// direction; 0 as a limit means none.
type Traffic struct {
	Disk    BytesPerSecond `json:"disk_bytes_per_s,omitempty"`
	Network BytesPerSecond `json:"network_bytes_per_s,omitempty"`
}

// limits are what a host can serve of each resource, MiB and bytes/s; 0: it has no
// limit, or none that is known.
func limits(memory MiB, t Traffic) [resources]float64 {
	out := [resources]float64{float64(memory), float64(t.Disk), float64(t.Network)}
	for r, v := range out {
		if !(v > 0) || math.IsInf(v, 0) {
			out[r] = 0
		}
	}
	return out
}

func (h *Host) limits() [resources]float64 {
	memory := MiB(0) // VMs cannot run short of what each has for itself
	if h.overcommits() {
		memory = h.usable().Memory
	}
	return limits(memory, h.Carries)
}

func (vm *VM) forecast(r resource) *predict.Forecast {
	return [resources]*predict.Forecast{&vm.Mem, &vm.Disk, &vm.Network}[r]
}

// shared is what the VM is expected to ask for beside cores; nil: not forecast.
func (vm *VM) shared() (out [resources]*Demand) {
	for r := range resources {
		if f := vm.forecast(r); f.Ready && f.Peak.Known() {
			d := demandOf(f)
			out[r] = &d
		}
	}
	return out
}

// unforecast says why nothing is known of the VM's demand for a resource, or "". A
// forecast of which nothing is said is that of a VM that asks for none.
func (vm *VM) unforecast(r resource) string {
	f := vm.forecast(r)
	switch {
	case !f.Ready && f.Why == "" && r != sharedMemory:
		return ""
	case !f.Ready || !f.Peak.Known():
		return "is not forecast" + prefixed(": ", f.Why)
	}
	d := demandOf(f)
	return prefixed("is forecast, and malformed: ", d.check())
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

func (n *Need) shared() [resources]*Demand { return [resources]*Demand{n.Mem, n.Disk, n.Network} }

// fill is how full the source is of a kind of traffic.
func (n *Need) fill(r resource) float64 {
	if r == sharedDisk {
		return n.FillDisk
	}
	return n.FillNetwork
}

func (o *Offer) shared() [resources]*Demand { return [resources]*Demand{o.Mem, o.Disk, o.Network} }

// shares are the joint demands for those resources of which a host has a limit.
type shares struct {
	grid  grid
	cores float64 // usable: what a whole limit is worth
	limit [resources]float64
	loads [resources]*load // nil: no limit
}

func newShares(g grid, usable Cores, rho float64, limit [resources]float64) shares {
	s := shares{grid: g, cores: float64(usable), limit: limit}
	for r, v := range limit {
		if v > 0 {
			s.loads[r] = newLoad(g, rho)
		}
	}
	return s
}

// shares is what the host's VMs, held leases and incoming VMs ask for beside cores.
func (h *Host) shares(g grid) shares {
	s := newShares(g, h.usable().CPU, h.correlation(), h.limits())
	if !s.any() {
		return s
	}
	for i := range h.VMs {
		if vm := &h.VMs[i]; !h.isTransient(vm.ID) {
			s.take(vm.shared())
		}
	}
	for _, n := range h.pending() {
		d := n.shared()
		if d[sharedMemory] == nil { // at most all of it
			all := constantDemand(float64(n.Memory))
			d[sharedMemory] = &all
		}
		s.take(d)
	}
	return s
}

// shares is what is asked of the offer's host without the VM, on the VM's time base.
func (o *Offer) shares(g grid) shares {
	memory := MiB(0)
	if o.Mem != nil { // it overcommits
		memory = o.Usable.Memory
	}
	s := newShares(g, o.Usable.CPU, min(1, max(0, o.Correlation)), limits(memory, o.Carries))
	s.add(o.shared())
	return s
}

// plannedShares are the shares once the moves under way are over.
func (h *Host) plannedShares(g grid) shares {
	s := h.shares(g)
	for i := range h.VMs {
		if vm := &h.VMs[i]; s.any() && slices.Contains(h.Outgoing, vm.ID) && !h.isTransient(vm.ID) {
			s.drop(vm.shared())
		}
	}
	return s
}

func (s *shares) any() bool { return s.loads != [resources]*load{} }

// add adds what several VMs ask for together; take and drop are for one VM.
func (s *shares) add(d [resources]*Demand)  { s.apply(d, 1) }
func (s *shares) take(d [resources]*Demand) { s.apply(s.alone(d), 1) }
func (s *shares) drop(d [resources]*Demand) { s.apply(s.alone(d), -1) }

// alone cuts what one VM asks for at the whole limit. Beyond that no host could serve
// it, and what such a VM is short of is no reason to move it, nor anybody's fault.
func (s *shares) alone(d [resources]*Demand) [resources]*Demand {
	for r, l := range s.loads {
		if l != nil && d[r] != nil {
			cut := d[r].upTo(s.limit[r])
			d[r] = &cut
		}
	}
	return d
}

func (s *shares) apply(d [resources]*Demand, sign float64) {
	for r, l := range s.loads {
		if l != nil && d[r] != nil {
			l.apply(d[r], sign)
		}
	}
}

// demand is the joint demand for a resource; nil without a limit.
func (s *shares) demand(r resource) *Demand {
	if s.loads[r] == nil {
		return nil
	}
	d := s.loads[r].demand()
	return &d
}

// level is the highest demand for a resource that is expected in any step, as a share
// of its limit; 0 without one.
func (s *shares) level(r resource) float64 {
	if s.loads[r] == nil {
		return 0
	}
	return s.loads[r].level() / s.limit[r]
}

// set makes s a copy of o, which has the same limits on the same grid.
func (s *shares) set(o *shares) {
	for r, l := range o.loads {
		if l != nil {
			s.loads[r].set(l)
		}
	}
}

// unserved adds what is expected beyond the limits to each step of dst, core-seconds,
// and returns its sum.
func (s *shares) unserved(dst []float64) float64 {
	sum := 0.0
	for r, l := range s.loads {
		if l == nil {
			continue
		}
		worth := s.cores * s.grid.step.Seconds() / s.limit[r]
		for h := range l.steps {
			v := worth * expectedExcess(l.steps[h].quantiles(l.rho), s.limit[r])
			dst[h] += v
			sum += v
		}
	}
	return sum
}

// full says whether the demand for some resource reaches its limit with a probability
// above 1-p, and of which.
func (s *shares) full(p float64) (resource, bool) {
	for r, l := range s.loads {
		if l != nil && quantileAt(l.peakQuantiles(), p) >= s.limit[r] {
			return resource(r), true
		}
	}
	return 0, false
}

// tightest is the resource whose forecast p90 takes the largest share of its limit,
// and that share.
func (s *shares) tightest() (which resource, pressure float64) {
	for r, l := range s.loads {
		if l == nil {
			continue
		}
		if p := p90(l.peakQuantiles()) / s.limit[r]; p > pressure {
			which, pressure = resource(r), p
		}
	}
	return which, pressure
}

// HostPressure is the forecast p90 of the host's peak demand as a share of what may
// be used, of cores or of that resource which is shorter. It is NaN while anything is
// missing.
func HostPressure(h Host) float64 {
	if len(h.missing()) > 0 {
		return math.NaN()
	}
	g := h.grid()
	s := h.shares(g)
	_, pressure := s.tightest()
	return math.Max(pressure, p90(h.cpuLoad(g).peakQuantiles())/float64(h.usable().CPU))
}

// trafficRefusals are the reasons against a VM whose traffic the destination's disks
// or networks would not carry. The limit is HIGH, of what is expected, or how full the
// source is: below that the shortage that could still come is weighed, as all
// shortage is.
func trafficRefusals(o *Offer, need *Need, p *Policy) []Refusal {
	var out []Refusal
	limit, there, vm := limits(0, o.Carries), o.shared(), need.shared()
	for r := sharedDisk; r <= sharedNetwork; r++ {
		if limit[r] == 0 || vm[r] == nil || expected(vm[r]) <= slightTraffic*limit[r] {
			continue
		}
		l := newLoad(grid{vm[r].Step, len(vm[r].Steps)}, min(1, max(0, o.Correlation)))
		cut := vm[r].upTo(limit[r])
		l.add(&cut)
		if there[r] != nil {
			l.add(there[r])
		}
		most, word := p.High, "HIGH"
		if fill := need.fill(r); fill > most && !math.IsInf(fill, 0) {
			most, word = fill, "the source's"
		}
		// The negation refuses a NaN too.
		if level := l.level() / limit[r]; !(level <= most) {
			out = append(out, refuse(RefuseTraffic, "expected %s traffic after the add is %.0f %% of %.0f MB/s, above %s %.0f %%",
				r, 100*level, limit[r]/1e6, word, 100*most))
		}
	}
	return out
}

// slightTraffic is the share of a limit below which a VM's traffic is not what fills
// a disk or a network.
const slightTraffic = 0.01

// expected is the highest mean of any step.
func expected(d *Demand) float64 {
	l := newLoad(grid{d.Step, len(d.Steps)}, 0)
	l.add(d)
	return l.level()
}
