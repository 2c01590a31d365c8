package hypervisor

import (
	"fmt"
	"time"
)

// State is a domain's run state.
type State string

// The states.
const (
	NoState     State = "no state"
	Running     State = "running"
	Blocked     State = "blocked"
	Paused      State = "paused"
	ShutDown    State = "shutting down"
	ShutOff     State = "shut off"
	Crashed     State = "crashed"
	PMSuspended State = "suspended"
)

// ReasonMigrated is the Reason of a shut-off domain that libvirt handed over.
const ReasonMigrated = "migrated"

// Live says whether the domain has a process.
func (s State) Live() bool { return s != NoState && s != ShutOff && s != Crashed }

// Domain is a VM as the hypervisor shows it.
type Domain struct {
	ID, Name string // UUID and name
	State    State
	// Reason is libvirt's reason for the state, where it matters: «migration»
	// of a paused one, «user», «I/O error».
	Reason string
	// Incoming says that the memory of an arriving VM is not complete yet.
	Incoming bool
	// PID is the QEMU process, 0 when none is known.
	PID                     int
	VCPUs                   int
	MemoryMiB, MaxMemoryMiB float64
	Taps                    []string // host interfaces of the VM
	// CPUModel is set when the VM needs exactly this host CPU (host-passthrough).
	CPUModel string
	Disks    []Disk
	Networks []string // libvirt networks and bridges it is plugged into
	// Bound is memory that may come from certain NUMA nodes of the host alone;
	// Pinned are the host's CPUs to which any of the threads is pinned.
	Bound    []Binding
	Pinned   []int
	Metadata Metadata
	// Autostart and Persistent are libvirt's flags.
	Autostart, Persistent bool
	// Job names the job that is running («backup», «snapshot»), "" for none.
	Job string
	// Migratable is false when the VM cannot be moved; Why says why.
	Migratable bool
	Why        string
	// Locked says that its disks were just now proven to refuse a second writer on
	// any host; LockWhy says why not.
	Locked  bool
	LockWhy string
}

// Binding is memory that may come from the named NUMA nodes alone. Without
// memory, the nodes must exist, and may be full.
type Binding struct {
	Nodes     []int // ascending
	MemoryMiB float64
}

// Disk is one disk of a VM.
type Disk struct {
	Target string // vda
	Source string // file, device or volume; "" for an empty drive
	Pool   string // storage pool, "" when it is not of one
	Cache  string
	// Shared says that other hosts can reach the same disk.
	Shared bool
	// ReadOnly says that the VM does not write to it.
	ReadOnly bool
}

// Metadata is what headroom keeps in the VM's own libvirt metadata; it travels
// with the VM.
type Metadata struct {
	Attempt  uint64 // of the last move, counted per VM
	Lease    string // of the move under way, "" when none is
	From, To string // host ids of the last attempt
	LastFrom string // the host that the VM last came from
	MovedAt  time.Time
	Moves    []time.Time // of the last 24 h

	Mode         string // overrides the host's mode
	Pin          string
	Affinity     []string
	AntiAffinity []string
	Near, Apart  []string // affinity and anti-affinity that should hold, and need not
	Hosts        []HostRule
	Partners     []string // VMs with much common traffic
}

// Withdrawn reports whether the last attempt's permission to migrate was taken
// back: a migration that carries this stamp must not come in, however late.
func (m Metadata) Withdrawn() bool { return m.Attempt > 0 && m.Lease == "" && m.To == "" }

// ArrivedAt says that the VM came to a host by a hand-over whose end is not noted
// yet: it carries the stamp under which it left.
func (m Metadata) ArrivedAt(host string) bool { return m.Lease != "" && m.To == host }

// HostRule says whether a VM must, should, should-not or must-not run on a host.
type HostRule struct{ Host, Word string }

// MemoryStats is a guest's own word on its memory, from the balloon.
type MemoryStats struct {
	AvailableMiB float64 // what the guest has
	UsedMiB      float64 // what it uses, caches apart
	UnusedMiB    float64 // what it uses for nothing, not even caches; NaN when it does not tell
	RSSMiB       float64
}

// HostInfo is what libvirt knows of its host.
type HostInfo struct {
	UUID      string
	CPUModel  string
	CPUs      int
	MemoryMiB float64
	Version   string
	Networks  []string // libvirt networks and bridges on this host
	Pools     []string // active storage pools
	Nodes     []Node
}

// Node is one NUMA node of a host.
type Node struct {
	ID        int
	MemoryMiB float64
	CPUs      []int // that are online
}

// MigrateRequest asks for a live peer-to-peer migration.
type MigrateRequest struct {
	ID      string
	DestURI string // the peer's libvirtd, as our libvirtd reaches it
	Live    bool
	// Paused leaves a complete, stopped copy at the destination.
	Paused bool
	// BandwidthMiBps bounds the copy; 0 is libvirt's own bound.
	BandwidthMiBps float64
	// MaxDowntime is the pause that QEMU may plan for; 0 is its default.
	MaxDowntime time.Duration
	// TLS encrypts the memory on its way; both hosts need QEMU's migration
	// certificates.
	TLS bool
	// AutoConverge lets QEMU slow the VM's CPUs down until the copy converges.
	AutoConverge bool
	// Parallel is the number of connections; 0 is one, without QEMU's multifd.
	Parallel int
	// DataURI is where the destination receives the memory («tcp://10.0.0.2»);
	// "" is libvirt's choice.
	DataURI string
}

// MigrateResult is what a finished migration measured. 0 means not known.
type MigrateResult struct {
	CopyTime time.Duration // start to end, as libvirt counts
	Blackout time.Duration // libvirt's downtime: CPUs stopped until the destination was ready
	// BlackoutNet is the part of it that went into sending.
	BlackoutNet time.Duration
	Bytes       uint64  // memory transferred
	DirtyRate   float64 // bytes/s, last seen
}

// JobProgress is how far a domain's job is.
type JobProgress struct {
	Active         bool
	Kind           string // "migration out", "backup", ...
	Elapsed        time.Duration
	Total          uint64 // bytes
	Remaining      uint64 // bytes
	BytesPerSecond float64
	DirtyRate      float64 // bytes/s
	Sent           uint64  // bytes of memory that went over the link
}

// Percent is how much is done, 0..100; ok is false when it is not known.
func (p JobProgress) Percent() (percent float64, ok bool) {
	if p.Total == 0 || p.Remaining > p.Total {
		return 0, false
	}
	return 100 * float64(p.Total-p.Remaining) / float64(p.Total), true
}

// EventKind is what happened to a domain.
type EventKind string

// The kinds. EventLost says that events may have been missed: list the domains.
const (
	EventDefined   EventKind = "defined"
	EventUndefined EventKind = "undefined"
	EventStarted   EventKind = "started"
	EventSuspended EventKind = "suspended"
	EventResumed   EventKind = "resumed"
	EventStopped   EventKind = "stopped"
	EventCrashed   EventKind = "crashed"
	EventOther     EventKind = "changed"
	EventConnected EventKind = "connected"
	EventLost      EventKind = "events lost"
)

// Event is a change of a domain, or of the connection.
type Event struct {
	At       time.Time
	Kind     EventKind
	ID, Name string
	Detail   string
}

// String tells the event in a line.
func (e Event) String() string {
	if e.Name == "" {
		return string(e.Kind)
	}
	if e.Detail == "" {
		return fmt.Sprintf("%s %s", e.Name, e.Kind)
	}
	return fmt.Sprintf("%s %s (%s)", e.Name, e.Kind, e.Detail)
}
