package planner

import (
	"time"

	"headroom/predict"
)

// HostID identifies a host: its machine-id.
type HostID string

// VMID identifies a VM: its libvirt UUID.
type VMID string

// Attempt numbers the tries to move one VM; with the LeaseID it is the fencing token.
type Attempt uint64

// LeaseID identifies one lease of one slot at one destination.
type LeaseID string

// Cores is CPU demand or capacity: 1 is one core fully used.
type Cores float64

// MiB is an amount of memory in 2^20 bytes.
type MiB float64

// BytesPerSecond is a rate of dirtying or of transfer.
type BytesPerSecond float64

// CoreSeconds is the unit of gain and cost: one second of one core's unserved demand.
type CoreSeconds float64

// Capacity is a pair of CPU and memory amounts.
type Capacity struct {
	CPU    Cores `json:"cpu_cores"`
	Memory MiB   `json:"memory_mib"`
}

// Class is one size of shadow slot; classes are cluster configuration. VCPU is
// the demand that a slot promises to serve and may be a fraction of a core.
type Class struct {
	Name   string `json:"name"`
	VCPU   Cores  `json:"vcpu_cores"`
	Memory MiB    `json:"memory_mib"`
}

// DefaultClasses returns small, medium, large and xlarge, from 1 core and 1 GiB
// to 8 cores and 16 GiB.
func DefaultClasses() []Class {
	return []Class{
		{Name: "small", VCPU: 1, Memory: 1024},
		{Name: "medium", VCPU: 2, Memory: 4096},
		{Name: "large", VCPU: 4, Memory: 8192},
		{Name: "xlarge", VCPU: 8, Memory: 16384},
	}
}

// Demand is the part of a forecast that crosses the network and enters records:
// a distribution per step and of the peak, without the forecaster's own state.
// Values are cores for CPU, MiB for memory, bytes/s for traffic.
type Demand struct {
	Step  time.Duration       `json:"step_ns"`
	Steps []predict.Quantiles `json:"steps"`
	Peak  predict.Quantiles   `json:"peak"`
}

// VMPolicy is what the VM's owner asks; it lives in the VM's libvirt metadata
// and so travels with the VM.
type VMPolicy struct {
	// Mode overrides the host's mode for this VM; empty means no override.
	Mode Mode `json:"mode,omitempty"`
	// Pin is PinHere, or the id or name of the only host the VM may run on;
	// empty means not pinned.
	Pin string `json:"pin,omitempty"`
	// Affinity names VMs (id or name) from which a move must not separate this
	// VM; only a drain may.
	Affinity []string `json:"affinity,omitempty"`
	// AntiAffinity names VMs (id or name) that must never share a host with
	// this VM. Two VMs that list the same "group:<label>" exclude each other.
	AntiAffinity []string `json:"anti_affinity,omitempty"`
	// Near and Apart are affinity and anti-affinity as wishes: broken ones cost.
	Near  []string `json:"near,omitempty"`
	Apart []string `json:"apart,omitempty"`
	// Hosts says on which hosts the VM must, should, should not or must not run.
	Hosts []HostRule `json:"hosts,omitempty"`
	// Partners names VMs (id or name) with which this VM exchanges much traffic.
	Partners []string `json:"partners,omitempty"`
}

// PinHere as VMPolicy.Pin keeps the VM on whatever host it runs on.
const PinHere = "here"

// MoveHistory is the VM's own record of its moves, kept in its libvirt metadata.
type MoveHistory struct {
	Attempt   Attempt   `json:"attempt,omitempty"`
	LastMoved time.Time `json:"last_moved,omitzero"`
	LastFrom  HostID    `json:"last_from,omitempty"`
	// Moves are the times of the moves of the last 24 h; older ones are ignored.
	Moves []time.Time `json:"moves,omitempty"`
}

// VM is one domain as its host knows it.
type VM struct {
	ID     VMID   `json:"id"`
	Name   string `json:"name"`
	VCPUs  int    `json:"vcpus"`
	Memory MiB    `json:"memory_mib"` // allocated maximum
	// Resident is what a copy would have to send at first; 0 means Memory.
	Resident MiB `json:"resident_mib,omitempty"`
	// Measured is false when a sample is missing; Why then says which and why.
	Measured bool   `json:"measured"`
	Why      string `json:"why,omitempty"`
	// CPU forecasts demand (used + waited) in cores, Mem in MiB, Disk and Network in
	// bytes/s. Mem is only needed on hosts that overcommit memory, Disk and Network
	// where Host.Carries limits them; the zero value of these two is a VM that has none.
	CPU     predict.Forecast `json:"cpu"`
	Mem     predict.Forecast `json:"mem"`
	Disk    predict.Forecast `json:"disk,omitzero"`
	Network predict.Forecast `json:"network,omitzero"`
	// NowCPU is used + waited, NowWait the waited part, both now, in cores.
	NowCPU  Cores `json:"now_cpu_cores"`
	NowWait Cores `json:"now_wait_cores"`
	// DirtyRate is the last measured rate; without HasDirtyRate one is assumed.
	DirtyRate    BytesPerSecond `json:"dirty_rate_bytes_per_s,omitempty"`
	HasDirtyRate bool           `json:"has_dirty_rate"`

	Policy  VMPolicy    `json:"policy"`
	History MoveHistory `json:"history"`
	// Busy is why the VM must wait («backup job»); empty when it need not.
	Busy string `json:"busy,omitempty"`
	// Unmovable is why the VM can never be migrated («pass-through device»).
	Unmovable string `json:"unmovable,omitempty"`
	// Guarded says that a hand-over guard exists; without one nothing moves it.
	Guarded bool `json:"guarded"`
	// CPUModel, Pools, Networks and Placement are what a destination must provide.
	CPUModel  string    `json:"cpu_model,omitempty"`
	Pools     []string  `json:"pools,omitempty"`
	Networks  []string  `json:"networks,omitempty"`
	Placement Placement `json:"placement,omitzero"`
}

// Need is what a destination has to know of a VM to answer a probe, and what a
// lease holds room for.
type Need struct {
	VM           VMID       `json:"vm"`
	Name         string     `json:"name"`
	From         HostID     `json:"from"`
	Memory       MiB        `json:"memory_mib"`
	CPU          Demand     `json:"cpu"`
	Mem          *Demand    `json:"mem,omitempty"`
	Disk         *Demand    `json:"disk,omitempty"`
	Network      *Demand    `json:"network,omitempty"`
	CPUModel     string     `json:"cpu_model,omitempty"`
	Pools        []string   `json:"pools,omitempty"`
	Networks     []string   `json:"networks,omitempty"`
	Placement    Placement  `json:"placement,omitzero"`
	Pin          string     `json:"pin,omitempty"`
	AntiAffinity []string   `json:"anti_affinity,omitempty"`
	Near         []string   `json:"near,omitempty"`
	Apart        []string   `json:"apart,omitempty"`
	Hosts        []HostRule `json:"hosts,omitempty"`
	Partners     []string   `json:"partners,omitempty"`
	// Fill is the highest demand that is expected at the source in any step, as a
	// share of its capacity.
	Fill float64 `json:"fill,omitempty"`
	// FillDisk and FillNetwork are the same of the source's limits for traffic.
	FillDisk    float64 `json:"fill_disk,omitempty"`
	FillNetwork float64 `json:"fill_network,omitempty"`
	// Drain asks for room up to HIGH instead of LOW: maintenance outranks balance.
	Drain bool `json:"drain,omitempty"`
	// Worth is the contention, in core-seconds, that the source would be spared.
	Worth CoreSeconds `json:"worth_core_s,omitempty"`
	// For is the VM for which this one makes room, if it runs where this one goes: it
	// is going to leave.
	For VMID `json:"for,omitempty"`
	// Operator says that a person asked for the move: a pause does not hold it up.
	Operator bool `json:"operator,omitempty"`
}

// Lease is room held for one VM and one attempt. The lease book drops expired
// ones before it builds a Host.
type Lease struct {
	ID      LeaseID   `json:"id"`
	Attempt Attempt   `json:"attempt"`
	Until   time.Time `json:"until,omitzero"`
	Need    Need      `json:"need"`
}

// Incoming is a VM whose copy is under way to this host.
type Incoming struct {
	Lease   LeaseID `json:"lease"`
	Attempt Attempt `json:"attempt"`
	Need    Need    `json:"need"`
}

// View is what the host knows of the cluster's membership.
type View struct {
	Stable bool   `json:"stable"`
	Why    string `json:"why,omitempty"` // why not stable
}

// MoveCount counts finished moves heard of in the last hour, cluster-wide.
type MoveCount struct {
	Moves  int `json:"moves"`
	Failed int `json:"failed"`
}

// Host is one hypervisor as its own agent knows it.
type Host struct {
	ID       HostID   `json:"id"`
	Name     string   `json:"name"`
	Capacity Capacity `json:"capacity"`
	// Reserve is kept free for the host itself and never promised.
	Reserve Capacity `json:"reserve"`
	// OverheadCPU forecasts what runs on the capacity beside the VMs, in cores;
	// the zero value means nothing does. OverheadMem is its memory.
	OverheadCPU predict.Forecast `json:"overhead_cpu"`
	OverheadMem MiB              `json:"overhead_mem_mib"`
	// Carries is the traffic that the host's disks and networks carry for its VMs.
	Carries Traffic `json:"carries,omitzero"`
	// Horizon is how long promises hold on a host whose VMs give no time base,
	// an empty one above all; 0 means one minute.
	Horizon time.Duration `json:"horizon_ns,omitempty"`
	// MemoryOvercommit above 1 lets allocations exceed memory by that factor as
	// long as the forecast demand fits; 0 and 1 mean no overcommit.
	MemoryOvercommit float64 `json:"memory_overcommit,omitempty"`
	// Correlation is the mean correlation of the VMs' forecast residuals,
	// 0..1; nil means DefaultCorrelation.
	Correlation *float64 `json:"correlation,omitempty"`

	VMs      []VM       `json:"vms"`
	Held     []Lease    `json:"held,omitempty"`
	Incoming []Incoming `json:"incoming,omitempty"`
	// Wanted are needs that this host refused lately for want of memory alone.
	Wanted []Wanted `json:"wanted,omitempty"`
	// Outgoing are VMs of this host whose move has begun.
	Outgoing []VMID `json:"outgoing,omitempty"`

	// Complete is false when any input is missing; Missing says which.
	Complete    bool     `json:"complete"`
	Missing     []string `json:"missing,omitempty"`
	HealthScore int      `json:"health_score"` // memberlist's; 0 is well
	View        View     `json:"view"`
	Draining    bool     `json:"draining"`
	// Paused is why operators let no move begin; empty when they do.
	Paused string    `json:"paused,omitempty"`
	Heard  MoveCount `json:"heard"`

	CPUModel string   `json:"cpu_model,omitempty"`
	Pools    []string `json:"pools,omitempty"`
	Networks []string `json:"networks,omitempty"`
	Nodes    []Node   `json:"numa_nodes,omitempty"`

	// Learned is what earlier migrations from this host taught.
	Learned Learned `json:"learned"`
}

// Peer is another host as gossip shows it: a hint, never an authority.
type Peer struct {
	ID       HostID `json:"id"`
	Name     string `json:"name"`
	Alive    bool   `json:"alive"`
	Draining bool   `json:"draining"`
	// Free are the slots per class of its last digest; nil means no digest.
	Free map[string]int `json:"free,omitempty"`
	// Pressure is its forecast p90 demand as a share of its capacity (HostPressure).
	Pressure  float64       `json:"pressure"`
	Incoming  int           `json:"incoming"`
	DigestAge time.Duration `json:"digest_age_ns"`
	// ValidFor is how long its digest is used: as the peer meant it, within what
	// this host lets pass; 0 means Policy.MaxDigestAge.
	ValidFor time.Duration `json:"valid_for_ns,omitempty"`
	RTT      time.Duration `json:"rtt_ns"`
	RTTKnown bool          `json:"rtt_known"`
	// CPUModel, Pools and Networks come from tags; empty means not advertised,
	// and is left to the probe.
	CPUModel string   `json:"cpu_model,omitempty"`
	Pools    []string `json:"pools,omitempty"`
	Networks []string `json:"networks,omitempty"`
}
