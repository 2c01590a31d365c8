package api

import "time"

// Version is the version of the interface; it is the first path element.
const Version = "v1"

// Status is the answer to «is this agent well, and what is it doing?».
type Status struct {
	Version   string    `json:"version"`
	HostID    string    `json:"host_id"`
	HostName  string    `json:"host_name"`
	Cluster   string    `json:"cluster"`
	Started   time.Time `json:"started"`
	UptimeS   float64   `json:"uptime_s"`
	Mode      string    `json:"mode"`
	Simulated bool      `json:"simulated"`
	// Ready is true when the agent may plan; NotReady says why it may not.
	Ready    bool     `json:"ready"`
	NotReady []string `json:"not_ready"`

	Hypervisor HypervisorStatus `json:"hypervisor"`
	Sampler    SamplerStatus    `json:"sampler"`
	Mesh       MeshStatus       `json:"mesh"`
	History    HistoryStatus    `json:"history"`
	Self       SelfStatus       `json:"self"`
	Host       Host             `json:"host"`
	Drain      Drain            `json:"drain"`
	Pause      Pause            `json:"pause"`
}

// HypervisorStatus says whether libvirt answers.
type HypervisorStatus struct {
	Driver    string `json:"driver"`
	URI       string `json:"uri"`
	Connected bool   `json:"connected"`
	Error     string `json:"error,omitempty"`
}

// SamplerStatus names the tiers that sample processes and taps, and why better ones
// were refused. Taps is empty where none are read.
type SamplerStatus struct {
	Tier    string   `json:"tier"`
	Refused []string `json:"refused"`
	WindowS float64  `json:"window_s"`
	PassUS  float64  `json:"pass_us"`
	Passes  uint64   `json:"passes"`
	Taps    string   `json:"taps"`
	TapsUS  float64  `json:"taps_us"`
}

// MeshStatus is this agent's view of the cluster and what it refused.
type MeshStatus struct {
	Members     int    `json:"members"`
	Alive       int    `json:"alive"`
	Stable      bool   `json:"stable"`
	Why         string `json:"why,omitempty"`
	HealthScore int    `json:"health_score"`
	// Refused counts what was turned away, by reason.
	Refused map[string]uint64 `json:"refused"`
	// DigestsHeld counts digests that the gossip budget held back.
	DigestsSent uint64 `json:"digests_sent"`
	DigestsHeld uint64 `json:"digests_held"`
	// BudgetPerS is how many digests a second the gossip of so many members
	// carries, of which a quarter is used; DigestIntervalS is what that leaves to
	// each host.
	BudgetPerS      float64 `json:"budget_per_s"`
	DigestIntervalS float64 `json:"digest_interval_s"`
	DroppedEvents   uint64  `json:"dropped_events"`
	QueueDepthPeak  int     `json:"queue_depth"`
}

// HistoryStatus is the state of the embedded store.
type HistoryStatus struct {
	Bytes          int64   `json:"bytes"`
	Samples        uint64  `json:"samples"`
	BytesPerSample float64 `json:"bytes_per_sample"`
	Corrupt        uint64  `json:"corrupt"`
	Error          string  `json:"error,omitempty"`
}

// SelfStatus is what the agent itself costs.
type SelfStatus struct {
	CPUPercent float64 `json:"cpu_percent"`
	CPUSeconds float64 `json:"cpu_seconds"`
	RSSMiB     float64 `json:"rss_mib"`
	Goroutines int     `json:"goroutines"`
}

// Host is this hypervisor: capacity, demand now, forecast of the sum.
type Host struct {
	ID           string  `json:"id"`
	Name         string  `json:"name"`
	CPUCores     float64 `json:"cpu_cores"`
	MemoryMiB    float64 `json:"memory_mib"`
	MemoryFree   float64 `json:"memory_free_mib"`
	DemandCores  float64 `json:"demand_cores"`
	WaitCores    float64 `json:"wait_cores"`
	WaitSeconds  float64 `json:"wait_core_seconds"`
	VMs          int     `json:"vms"`
	HighCores    float64 `json:"high_cores"`
	LowCores     float64 `json:"low_cores"`
	Draining     bool    `json:"draining"`
	PSICPUSome10 float64 `json:"psi_cpu_some_avg10_percent"`
	// PressureProbability is the probability that the host's demand exceeds
	// its capacity within the horizon.
	PressureProbability float64 `json:"pressure_probability"`
	// ContentionInS is the time until the forecast exceeds the capacity, or
	// null when it does not within the horizon.
	ContentionInS *float64 `json:"contention_in_s"`
	Forecast      Forecast `json:"forecast"`
	Held          int      `json:"held_leases"`
	Incoming      int      `json:"incoming"`
	Outgoing      int      `json:"outgoing"`
}

// VM is one domain as the agent sees it.
type VM struct {
	ID        string  `json:"id"`
	Name      string  `json:"name"`
	State     string  `json:"state"`
	VCPUs     int     `json:"vcpus"`
	MemoryMiB float64 `json:"memory_mib"`
	// Measured is false when the VM cannot be sampled; Why says why.
	Measured    bool    `json:"measured"`
	Why         string  `json:"why,omitempty"`
	UsedCores   float64 `json:"used_cores"`
	WaitCores   float64 `json:"wait_cores"`
	WaitSeconds float64 `json:"wait_core_seconds"`
	// Rates are absent (null) when they are not known.
	DiskReadBps  *float64 `json:"disk_read_bytes_per_s"`
	DiskWriteBps *float64 `json:"disk_write_bytes_per_s"`
	NetRxBps     *float64 `json:"net_rx_bytes_per_s"`
	NetTxBps     *float64 `json:"net_tx_bytes_per_s"`
	NetRxPps     *float64 `json:"net_rx_packets_per_s"`
	NetTxPps     *float64 `json:"net_tx_packets_per_s"`
	// What was lost on the way to the guest, and from it.
	NetRxDropsPerS *float64 `json:"net_rx_drops_per_s"`
	NetTxDropsPerS *float64 `json:"net_tx_drops_per_s"`
	// Minor faults are not shown: a VM's memory comes by them.
	MajorFaultsPerS *float64 `json:"major_faults_per_s"`
	SwitchesPerS    *float64 `json:"switches_per_s"`
	// Memory as the guest's balloon tells it, and resident on the host.
	MemoryAvailableMiB *float64 `json:"memory_available_mib"`
	MemoryUsedMiB      *float64 `json:"memory_used_mib"`
	MemoryUnusedMiB    *float64 `json:"memory_unused_mib"`
	RSSMiB             *float64 `json:"rss_mib"`
	// DirtyBps is measured every 5 minutes at most, and never in a migration.
	DirtyBps *float64 `json:"dirty_bytes_per_s"`
	// Block requests, single run-queue waits and KVM's exits, where switched on.
	BlockIO  *VMBlockIO  `json:"block_io"`
	WaitTail *VMWaitTail `json:"wait_tail"`
	KVM      *VMExits    `json:"kvm"`
	// Absent lists the signals that cannot be had, each with its reason.
	Absent       []string `json:"absent"`
	PeakP50Cores *float64 `json:"peak_p50_cores"`
	PeakP90Cores *float64 `json:"peak_p90_cores"`
	Method       string   `json:"method"`
	Mode         string   `json:"mode"`
	// Guard keeps the VM from running twice in a move: paused, lock, or none, which
	// is never moved by itself; GuardWhy says why there is none.
	Guard     string     `json:"guard"`
	GuardWhy  string     `json:"guard_why,omitempty"`
	Job       string     `json:"job,omitempty"`
	Busy      string     `json:"busy,omitempty"`
	LastMoved *time.Time `json:"last_moved"`
	LastFrom  string     `json:"last_from,omitempty"`
	HotSpots  []string   `json:"hot_spots"`
}

// VMBlockIO is a VM's block requests in the last window. The 99th percentiles are
// the upper edges of powers of two, null where there was no request.
type VMBlockIO struct {
	ReadOpsPerS  float64  `json:"read_ops_per_s"`
	WriteOpsPerS float64  `json:"write_ops_per_s"`
	ReadP99US    *float64 `json:"read_p99_us"`
	WriteP99US   *float64 `json:"write_p99_us"`
	// Attribution is exact, or partial when the VM caused more than was seen.
	Attribution string `json:"attribution"`
}

// VMWaitTail is the single run-queue waits of a VM's vCPUs since they have been
// measured.
type VMWaitTail struct {
	Waits     uint64  `json:"waits"`
	P99US     float64 `json:"p99_us"`
	LongestUS float64 `json:"longest_us"`
}

// VMExits is what KVM counted for a VM in the last window.
type VMExits struct {
	ExitsPerS float64 `json:"exits_per_s"`
	HaltsPerS float64 `json:"halts_per_s"`
}

// Forecast is a distribution per step and of the peak over the horizon.
type Forecast struct {
	Unit     string             `json:"unit"`
	Ready    bool               `json:"ready"`
	Why      string             `json:"why,omitempty"`
	Method   string             `json:"method"`
	StepS    float64            `json:"step_s"`
	Levels   []float64          `json:"levels"`
	Steps    [][]float64        `json:"steps"`
	Peak     []float64          `json:"peak"`
	Skill    *float64           `json:"skill"`
	Coverage *float64           `json:"coverage_q95"`
	Observed int                `json:"observed"`
	Missing  int                `json:"missing"`
	Members  []ForecasterMember `json:"members"`
}

// ForecasterMember is one forecasting method and its trailing score.
type ForecasterMember struct {
	Name string   `json:"name"`
	Loss *float64 `json:"pinball_loss"`
	Off  bool     `json:"off"`
	Why  string   `json:"why,omitempty"`
}

// VMForecast is what one VM is forecast to ask for. Memory, Disk and Network are
// absent where the host has no limit for them.
type VMForecast struct {
	VM       string    `json:"vm"`
	Name     string    `json:"name"`
	CPU      Forecast  `json:"cpu"`
	Memory   *Forecast `json:"memory,omitempty"`
	Disk     *Forecast `json:"disk,omitempty"`
	Network  *Forecast `json:"network,omitempty"`
	HotSpots []string  `json:"hot_spots"` // of the CPU demand
}

// Slot is one shadow slot size: how many more VMs of the class fit until Until
// with at least Probability.
type Slot struct {
	Class       string    `json:"class"`
	VCPU        float64   `json:"vcpu"`
	MemoryMiB   float64   `json:"memory_mib"`
	Free        int       `json:"free"`
	Probability float64   `json:"probability"`
	Until       time.Time `json:"until"`
	// Why says what stands against a further slot: cpu, memory, disk, network, missing data.
	Why string `json:"why,omitempty"`
}

// Member is one host of the cluster as gossip shows it.
type Member struct {
	ID         string         `json:"id"`
	Name       string         `json:"name"`
	Addr       string         `json:"addr"`
	RPCAddr    string         `json:"rpc_addr"`
	Status     string         `json:"status"`
	Self       bool           `json:"self"`
	Draining   bool           `json:"draining"`
	Zone       string         `json:"zone,omitempty"`
	Free       map[string]int `json:"free_slots"`
	Pressure   *float64       `json:"pressure"`
	Incoming   int            `json:"incoming"`
	DigestAgeS *float64       `json:"digest_age_s"`
	RTTMS      *float64       `json:"rtt_ms"`
}

// Offer is one answer to «could you take this VM?», given or received.
type Offer struct {
	At        time.Time `json:"at"`
	Direction string    `json:"direction"` // "given" or "received"
	Peer      string    `json:"peer"`
	VM        string    `json:"vm"`
	Accepts   bool      `json:"accepts"`
	Reason    string    `json:"reason,omitempty"`
	FreeCores float64   `json:"free_cores"`
	FreeMiB   float64   `json:"free_memory_mib"`
	GainCS    *float64  `json:"gain_core_seconds"`
	CostCS    *float64  `json:"cost_core_seconds"`
}

// CostTerm is one term of a move's cost.
type CostTerm struct {
	Name        string  `json:"name"`
	CoreSeconds float64 `json:"core_seconds"`
	Detail      string  `json:"detail,omitempty"`
}

// Considered is one VM or destination that a decision looked at.
type Considered struct {
	VM     string     `json:"vm,omitempty"`
	Host   string     `json:"host,omitempty"`
	Chosen bool       `json:"chosen"`
	Kind   string     `json:"kind,omitempty"`
	Reason string     `json:"reason"`
	GainCS *float64   `json:"gain_core_seconds"`
	CostCS *float64   `json:"cost_core_seconds"`
	Terms  []CostTerm `json:"terms"`
}

// Decision is the record of one planning round, also of a round that stays.
type Decision struct {
	ID      string    `json:"id"`
	At      time.Time `json:"at"`
	Verdict string    `json:"verdict"`
	VM      string    `json:"vm,omitempty"`
	VMName  string    `json:"vm_name,omitempty"`
	From    string    `json:"from,omitempty"`
	To      string    `json:"to,omitempty"`
	Reason  string    `json:"reason"`
	// Repeats counts further rounds with the same verdict and reason.
	Repeats        int          `json:"repeats"`
	LastAt         time.Time    `json:"last_at"`
	ContentionAt   *time.Time   `json:"predicted_contention_at"`
	GainCS         *float64     `json:"gain_core_seconds"`
	CostCS         *float64     `json:"cost_core_seconds"`
	Considered     []Considered `json:"considered"`
	Counterfactual string       `json:"counterfactual,omitempty"`
	Outcome        string       `json:"outcome,omitempty"`
	// ExpiresAt is until when a decision that waits for approval may be answered;
	// Answer is the operator's: "approved" or "rejected".
	ExpiresAt *time.Time `json:"expires_at"`
	Answer    string     `json:"answer,omitempty"`
	Record    any        `json:"record,omitempty"`
}

// Migration is one attempt to move a VM, running or ended.
type Migration struct {
	ID      string     `json:"id"`
	VM      string     `json:"vm"`
	VMName  string     `json:"vm_name"`
	Attempt uint64     `json:"attempt"`
	From    string     `json:"from"`
	To      string     `json:"to"`
	Role    string     `json:"role"` // "source" or "destination"
	Phase   string     `json:"phase"`
	Outcome string     `json:"outcome,omitempty"`
	Reason  string     `json:"reason,omitempty"`
	Cause   string     `json:"cause"` // "planner", "operator"
	Started time.Time  `json:"started"`
	Ended   *time.Time `json:"ended"`
	// NegotiateMS is the time from the first message to the lease.
	NegotiateMS         *float64 `json:"negotiate_ms"`
	CopyS               *float64 `json:"copy_s"`
	BlackoutMS          *float64 `json:"blackout_ms"`
	PredictedCopyS      *float64 `json:"predicted_copy_s"`
	PredictedBlackoutMS *float64 `json:"predicted_blackout_ms"`
	// LeadS is how long before the predicted contention the move was over.
	LeadS           *float64   `json:"lead_s"`
	ContentionAt    *time.Time `json:"predicted_contention_at"`
	ProgressPercent *float64   `json:"progress_percent"`
	DecisionID      string     `json:"decision_id,omitempty"`
}

// Event is one item of the event stream.
type Event struct {
	At     time.Time `json:"at"`
	Kind   string    `json:"kind"`
	Host   string    `json:"host,omitempty"`
	VM     string    `json:"vm,omitempty"`
	Text   string    `json:"text"`
	Detail any       `json:"detail,omitempty"`
}

// History is the demand of one VM as the agent has kept it, oldest first.
type History struct {
	VM     string         `json:"vm"`
	Name   string         `json:"name"`
	StepS  float64        `json:"step_s"`
	Points []HistoryPoint `json:"points"`
}

// HistoryPoint is the mean demand, used and waited for, in cores from At on for
// StepS seconds.
type HistoryPoint struct {
	At    time.Time `json:"at"`
	Cores float64   `json:"cores"`
}

// MigrateRequest asks for a move of one VM; an empty To lets the agent choose.
type MigrateRequest struct {
	To string `json:"to"`
}

// MigrateReply names the attempt that was started.
type MigrateReply struct {
	VM      string `json:"vm"`
	Attempt uint64 `json:"attempt"`
	To      string `json:"to"`
}

// IncomingRequest is the qemu hook's question: may this VM come in by migration?
// The token is read from the stamp in its description; Lease is empty for a VM that
// is moved by hand.
type IncomingRequest struct {
	VM      string `json:"vm"` // UUID
	Name    string `json:"name"`
	Attempt uint64 `json:"attempt"`
	Lease   string `json:"lease"`
	From    string `json:"from"` // host ids
	To      string `json:"to"`
}

// IncomingReply is the answer. Allow means that the arrival is in the journal.
type IncomingReply struct {
	Allow  bool   `json:"allow"`
	Reason string `json:"reason,omitempty"` // why not
}

// Orphan is a hand-over that this host cannot end alone: it waits for the other
// host, or for an operator. It is listed and alarmed, and its copy is never run.
type Orphan struct {
	VM      string  `json:"vm"`
	Name    string  `json:"name"`
	Role    string  `json:"role"` // "source", "destination", or "unknown": a stopped VM under a stamp without a record
	Peer    string  `json:"peer"`
	Attempt uint64  `json:"attempt"`
	State   string  `json:"state"`   // of the negotiation
	Here    string  `json:"here"`    // what libvirt shows of the VM on this host
	WaitsS  float64 `json:"waits_s"` // how long it has stood still
	Advice  string  `json:"advice"`
}

// OverrideRequest forces the end of a hand-over. By and Evidence must not be empty;
// they are written to the journal and the log, and are not checked.
type OverrideRequest struct {
	Action   string `json:"action"` // "resume", "destroy", "close"
	By       string `json:"by"`
	Evidence string `json:"evidence"`
}

// OverrideReply says that the word was taken.
type OverrideReply struct {
	VM     string `json:"vm"`
	Action string `json:"action"`
}

// ErrorReply is the body of every answer that is not 2xx.
type ErrorReply struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}
