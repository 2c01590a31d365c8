package simulate

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
)

// VM is one recorded VM. Its CPU is given in MIPS, CloudSim's word for the MHz
// that it may use.
type VM struct {
	ID     string
	VCPUs  int
	MIPS   float64   // of all its virtual CPUs
	Memory float64   // allocated, MiB
	Demand []float32 // share of MIPS wanted, one value per step; NaN: not recorded
	// Resident is the memory in use per step in MiB: what a copy sends. Nil
	// means all of Memory.
	Resident []float32
	// Disk and Network are the traffic per step in MB/s (10^6 bytes), the busier
	// direction of the network. Nil: none is recorded.
	Disk, Network []float32
}

// Host is one hypervisor.
type Host struct {
	ID        string
	PEs       int     // processing elements (cores)
	MIPS      float64 // of one processing element
	Memory    float64 // MiB
	Bandwidth float64 // for migrations, MiB/s
	// Disk and Network are the traffic that the host carries for its VMs, MB/s; 0: no
	// limit.
	Disk, Network float64
	Power         *Power
}

// Setup is everything that a run starts from.
type Setup struct {
	Name  string
	VMs   []VM
	Hosts []Host
	// Step is the time between two values of demand in s; Steps how many there are.
	Step  float64
	Steps int
	// CoreMIPS is how many MIPS one core is, for figures in core-seconds.
	CoreMIPS float64
	// EnforceMemory holds every host to its memory at all times, not only at
	// the start. KeepIdle keeps a VM that wants nothing. CloudSim does neither.
	EnforceMemory, KeepIdle bool
	// DirtyShare of its memory is what a VM dirties per second while copied.
	DirtyShare float64
	// PublishedClock keeps CloudSim's clock, which starts at 0.1 s and whose
	// rounding loses some samples of a VM's history.
	PublishedClock bool
	// Warmup is the number of steps at the start in which policies watch and do
	// nothing, and of which nothing is counted: so many that each has all the
	// history that it looks at.
	Warmup int
	// Start is the host of each VM at the beginning; nil lets the policy place
	// them as CloudSim does.
	Start []int
}

// The limits of a run.
const (
	maxHosts = 20_000
	maxVMs   = 100_000
	maxSteps = 100_000
)

// check refuses what cannot be run.
func (s *Setup) check() error {
	switch {
	case len(s.VMs) == 0 || len(s.VMs) > maxVMs:
		return fmt.Errorf("%d VMs: a run has 1 to %d", len(s.VMs), maxVMs)
	case len(s.Hosts) == 0 || len(s.Hosts) > maxHosts:
		return fmt.Errorf("%d hosts: a run has 1 to %d", len(s.Hosts), maxHosts)
	case s.Steps < 2 || s.Steps > maxSteps:
		return fmt.Errorf("%d steps: a run has 2 to %d", s.Steps, maxSteps)
	case !(s.Step > 0) || !(s.CoreMIPS > 0):
		return errors.New("step and MIPS of a core must be positive")
	case s.Warmup < 0 || s.Warmup >= s.Steps:
		return fmt.Errorf("%d steps of warm-up in %d", s.Warmup, s.Steps)
	case s.Start != nil && len(s.Start) != len(s.VMs):
		return fmt.Errorf("start places %d of %d VMs", len(s.Start), len(s.VMs))
	}
	for i := range s.Hosts {
		h := &s.Hosts[i]
		if !(h.Disk >= 0) || !(h.Network >= 0) || math.IsInf(h.Disk+h.Network, 0) {
			return fmt.Errorf("host %s: disk %v and network %v MB/s: give limits, or 0 for none", h.ID, h.Disk, h.Network)
		}
		if h.PEs < 1 || !(h.MIPS > 0) || !(h.Memory > 0) || !(h.Bandwidth > 0) || h.Power == nil {
			return fmt.Errorf("host %s: PEs, MIPS, memory, bandwidth and power must be given", h.ID)
		}
	}
	for i := range s.VMs {
		if err := s.checkVM(&s.VMs[i]); err != nil {
			return err
		}
	}
	for i, h := range s.Start {
		if h < 0 || h >= len(s.Hosts) {
			return fmt.Errorf("start places VM %s on host %d of %d", s.VMs[i].ID, h, len(s.Hosts))
		}
	}
	return nil
}

func (s *Setup) checkVM(v *VM) error {
	if v.VCPUs < 1 || !(v.MIPS > 0) || !(v.Memory > 0) {
		return fmt.Errorf("VM %s: virtual CPUs, MIPS and memory must be positive", v.ID)
	}
	if len(v.Demand) != s.Steps {
		return fmt.Errorf("VM %s: %d values of demand for %d steps", v.ID, len(v.Demand), s.Steps)
	}
	if v.Resident != nil && len(v.Resident) != s.Steps {
		return fmt.Errorf("VM %s: %d values of memory for %d steps", v.ID, len(v.Resident), s.Steps)
	}
	for _, x := range [][]float32{v.Disk, v.Network} {
		if x != nil && len(x) != s.Steps {
			return fmt.Errorf("VM %s: %d values of traffic for %d steps", v.ID, len(x), s.Steps)
		}
	}
	for _, x := range [][]float32{v.Demand, v.Disk, v.Network} {
		for k, u := range x {
			if u < 0 || math.IsInf(float64(u), 0) {
				return fmt.Errorf("VM %s: demand %v in step %d", v.ID, u, k)
			}
		}
	}
	return nil
}

// The CloudSim PlanetLab benchmark: types of VM and host.
var (
	cloudVMs = [4]struct{ mips, memory float64 }{{2500, 870}, {2000, 1740}, {1000, 1740}, {500, 613}}

	// cloudBandwidth is half of 1 Gbit/s as CloudSim reckons it, in its MB/s.
	cloudBandwidth = 1e6 / (2 * 8000.)
)

// PlanetLab is the setup of the CloudSim benchmark for one day: VM i of n has
// type i/ceil(n/4), in the order of the files' names; host i is an HP ML110 G4
// or G5 in turn, with memory MiB each (CloudSim: 4096).
func PlanetLab(name string, ids []string, demand [][]float32, hosts int, memory float64) Setup {
	s := Setup{Name: name, Step: 300, CoreMIPS: 2660, PublishedClock: true}
	quarter := (len(ids) + 3) / 4
	for i, id := range ids {
		t := cloudVMs[i/quarter]
		s.VMs = append(s.VMs, VM{ID: id, VCPUs: 1, MIPS: t.mips, Memory: t.memory, Demand: demand[i]})
		s.Steps = len(demand[i])
	}
	for i := range hosts {
		h := Host{ID: fmt.Sprintf("host-%04d", i), PEs: 2, MIPS: 1860, Memory: memory, Bandwidth: cloudBandwidth, Power: &PowerML110G4}
		if i%2 == 1 {
			h.MIPS, h.Power = 2660, &PowerML110G5
		}
		s.Hosts = append(s.Hosts, h)
	}
	return s
}

// Corrected mends the two faults of the published benchmark: memory counts at
// all times, and no VM disappears.
func (s Setup) Corrected() Setup {
	s.EnforceMemory, s.KeepIdle = true, true
	return s
}

// Scatter returns the setup with a start placement that all policies share: VMs
// in order, each on a host drawn at random among those whose memory holds it. A
// placement by size would use what no scheduler knows of a VM to come.
func (s Setup) Scatter(seed uint64) (Setup, error) {
	rng := rand.New(rand.NewPCG(seed, 0x5ca7))
	memory := make([]float64, len(s.Hosts))
	s.Start = make([]int, len(s.VMs))
	for i := range s.VMs {
		var fit []int
		for j := range s.Hosts {
			if memory[j]+s.VMs[i].Memory <= s.Hosts[j].Memory {
				fit = append(fit, j)
			}
		}
		if len(fit) == 0 {
			return s, fmt.Errorf("VM %s of %.0f MiB fits on none of %d hosts", s.VMs[i].ID, s.VMs[i].Memory, len(s.Hosts))
		}
		j := fit[rng.IntN(len(fit))]
		s.Start[i] = j
		memory[j] += s.VMs[i].Memory
	}
	return s, nil
}
