package bpf

import "time"

// Target is one VM process to sample.
type Target struct {
	// ID is the caller's name for the VM, unique among the targets.
	ID string
	// PID is the process as the host's first PID namespace numbers it, of no
	// other target. 0 or less means that there is none: the sample then says
	// so.
	PID int
	// CgroupPath is the directory of the VM's cgroup (v1 or v2), empty for
	// none. Other processes in it (virtiofsd, swtpm, vhost kernel threads)
	// count for the VM too, up to 16. They are looked for when SetTargets is
	// called, and count for one VM only if several share the cgroup.
	CgroupPath string
}

// Sample holds one VM's counters. All but RSS and Threads are cumulative since
// Since, never fall, and mean nothing when Valid is false.
type Sample struct {
	ID  string
	PID int
	// At is the CLOCK_MONOTONIC time of the pass.
	At time.Duration
	// Since is the CLOCK_MONOTONIC time of the pass that saw this process
	// first. Deltas are meaningful between samples of equal Since.
	Since time.Duration

	// CPU time by role of the thread, told by its name. Emulator has what no
	// other role claims, and the last moments of threads that exited.
	VCPU, Emulator, IOThread, Vhost time.Duration
	// Wait is the run-queue wait of all threads, VCPUWait that of the vCPUs,
	// which is what KVM reports to the guest as steal. Both hold the wait
	// still going on, if the tier can see it.
	Wait, VCPUWait time.Duration

	VoluntarySwitches, InvoluntarySwitches uint64
	MinorFaults, MajorFaults               uint64
	// ReadBytes and WriteBytes went to storage. Buffered writes count for the
	// process that dirtied the page, when it did.
	ReadBytes, WriteBytes uint64

	// RSS is the resident memory of the VM process in bytes, now. The kernel
	// keeps it per CPU, so it may be off by some 32 pages a CPU.
	RSS uint64
	// Threads is the number of threads alive now, helpers' included.
	Threads int

	// Valid is false when the process is gone or cannot be read; Reason says
	// why.
	Valid  bool
	Reason string
	// Absent lists what this sample cannot hold. The slice is shared and must
	// not be changed.
	Absent []Absence
}

// CPU is the CPU time over all roles.
func (s *Sample) CPU() time.Duration { return s.VCPU + s.Emulator + s.IOThread + s.Vhost }

// Has tells whether the sample is valid and holds the signal.
func (s *Sample) Has(signal Signal) bool {
	if !s.Valid {
		return false
	}
	for i := range s.Absent {
		if s.Absent[i].Signal == signal {
			return false
		}
	}
	return true
}

// Signal names a part of a Sample.
type Signal string

// The signals that may be absent from a Sample.
const (
	SignalRoles       Signal = "roles"        // VCPU, IOThread, Vhost, VCPUWait apart from the rest
	SignalWait        Signal = "wait"         // Wait and VCPUWait
	SignalPendingWait Signal = "pending-wait" // the part of Wait that is still going on
	SignalSwitches    Signal = "switches"     // VoluntarySwitches, InvoluntarySwitches
	SignalIO          Signal = "io"           // ReadBytes, WriteBytes
	SignalRSS         Signal = "rss"          // RSS
)

// Absence is a signal that cannot be had, and why.
type Absence struct {
	Signal Signal
	Reason string
}

// Tier is a way to get the counters.
type Tier string

// The tiers, best first.
const (
	TierSyscall Tier = "syscall" // A: a BPF program walks the targets' threads
	TierIter    Tier = "iter"    // B: the kernel's task iterator, filtered
	TierProcfs  Tier = "procfs"  // C: /proc through descriptors kept open
	TierNetlink Tier = "netlink" // of Links: one RTM_GETSTATS dump
)

// Cost is what sampling itself costs.
type Cost struct {
	Passes uint64
	// CPU time of the passing thread, and time on the clock, which on a busy
	// host holds its own run-queue wait.
	LastCPU, MeanCPU   time.Duration
	LastWall, MeanWall time.Duration
}
