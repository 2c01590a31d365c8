package planner

import (
	"math"
	"time"
)

// MaxSlots is the most slots of one class that are ever published; a digest
// carries them in one byte.
const MaxSlots = 255

// Slot is a promise in metadata, nothing instantiated: Free more VMs of the
// class fit on the host until Until with at least the asked probability.
type Slot struct {
	Class   string        `json:"class"`
	Until   time.Time     `json:"until"`
	Horizon time.Duration `json:"horizon_ns"`
	Free    int           `json:"free"`
	// Probability that all Free slots fit; with Free 0 the probability that a
	// single one would, which is then below the asked one (or memory is full: 0).
	Probability float64 `json:"probability"`
	// Why says what stands against a (further) slot: cpu, memory, disk, network,
	// missing data...
	Why string `json:"why,omitempty"`
}

// Slots returns, per class in the given order, how many more VMs of that class
// fit with probability p (0..1): after what the host's VMs may grow to within
// the horizon of their forecasts, after held leases and after incoming VMs. A
// new VM is taken to use all of its class. A draining or incomplete host has
// none, nor has one whose disks or networks are spoken for. Classes are alternatives: each count stands for itself.
func Slots(h Host, classes []Class, p float64, now time.Time) []Slot {
	g := h.grid()
	horizon := h.horizon(g)
	out := make([]Slot, len(classes))
	for i, c := range classes {
		out[i] = Slot{Class: c.Name, Until: now.Add(horizon), Horizon: horizon}
	}
	if why := h.noSlots(); why != "" {
		for i := range out {
			out[i].Why = why
		}
		return out
	}
	shared := h.shares(g)
	if r, full := shared.full(p); full {
		for i := range out {
			out[i].Why = r.String()
		}
		return out
	}
	peak := h.cpuLoad(g).peakQuantiles()
	usable := h.usable()
	cpuFree := float64(usable.CPU) - quantileAt(peak, p)
	memFree := float64(h.memoryFree(p))
	for i, c := range classes {
		byCPU, byMem := count(cpuFree, float64(c.VCPU)), count(memFree, float64(c.Memory))
		s := &out[i]
		s.Free, s.Why = byCPU, "cpu"
		if byMem < byCPU {
			s.Free, s.Why = byMem, "memory"
		}
		if s.Free > 0 || byMem > 0 {
			left := float64(usable.CPU) - float64(max(1, s.Free))*float64(c.VCPU)
			s.Probability = 1 - exceedProbability(peak, left)
		}
	}
	return out
}

// horizon is the time that the host's forecasts cover.
func (h *Host) horizon(g grid) time.Duration {
	switch {
	case g.n > 0:
		return g.step * time.Duration(g.n)
	case h.Horizon > 0:
		return h.Horizon
	}
	return time.Minute
}

// noSlots says why the host may promise nothing at all, or "".
func (h *Host) noSlots() string {
	switch {
	case h.Draining:
		return "the host is being drained"
	case h.HealthScore > 0:
		return "the agent's own health is in doubt"
	}
	if missing := h.missing(); len(missing) > 0 {
		return "missing data: " + missing[0]
	}
	return ""
}

// count is how many times size goes into free. The tolerance keeps a slot that
// fits exactly from being lost to rounding.
func count(free, size float64) int {
	if !(free > 0) || !(size > 0) {
		return 0
	}
	return int(math.Min(MaxSlots, math.Floor(free/size+1e-9)))
}
