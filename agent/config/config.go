package config

import (
	"net"
	"strconv"
)

// Config is the whole configuration of one agent. The zero value is not usable:
// start from [Default] or [Load].
type Config struct {
	Agent    Agent    `toml:"agent"`
	Libvirt  Libvirt  `toml:"libvirt"`
	Sampling Sampling `toml:"sampling"`
	Forecast Forecast `toml:"forecast"`
	History  History  `toml:"history"`
	Slots    Slots    `toml:"slots"`
	Planner  Planner  `toml:"planner"`
	Handover Handover `toml:"handover"`
	Mesh     Mesh     `toml:"mesh"`
	Metrics  Metrics  `toml:"metrics"`
	Events   Events   `toml:"events"`

	// origin lets Check name the file and line of a value that it refuses. Nil for
	// a Config that did not come from a file.
	origin *origin
}

// Agent holds what concerns the process itself.
type Agent struct {
	DataDir     string `toml:"data_dir"`     // history, journal, identity; must exist or be creatable. Default /var/lib/headroom
	Socket      string `toml:"socket"`       // local API's unix socket. Default /run/headroom/headroom.sock
	SocketGroup string `toml:"socket_group"` // group that may use the socket; "" = root only. Default headroom
	Mode        string `toml:"mode"`         // advise (only shows), approve (waits for the operator), auto. Default advise
	LogLevel    string `toml:"log_level"`    // debug, info, warn, error. Default info
	LogFormat   string `toml:"log_format"`   // text or json. Default text
}

// Libvirt says how to reach the hypervisor and how migrations are addressed.
type Libvirt struct {
	URI           string   `toml:"uri"`            // a libvirt URI, or "sim" for the simulated driver. Default qemu:///system
	Timeout       Duration `toml:"timeout"`        // per call; 100ms..1m. Default 5s
	MigrateURI    string   `toml:"migrate_uri"`    // URI under which a peer's libvirtd is reached, {host} is replaced. Default qemu+tls://{host}/system
	SharedPaths   []string `toml:"shared_paths"`   // folders that are the same on every host, beside NFS and its like: VMs with disks there may move. Default none
	MachineCgroup string   `toml:"machine_cgroup"` // cgroup that holds the VMs, below the cgroup root; its quotas bound the capacity. Default machine.slice
}

// Sampling says how often VM counters are read, and how.
type Sampling struct {
	Window Duration `toml:"window"`  // time between two passes; 50ms..10s. Default 1s
	Tiers  []string `toml:"tiers"`   // ways to sample, tried in order: syscall, iter, procfs. Default all three
	MaxVMs int      `toml:"max_vms"` // most VMs sampled; 1..4096. Default 512

	BlockIO    bool    `toml:"block_io"`    // count block requests and their latency: some 200 to 350 ns a request of the host. Default false
	KVMExits   bool    `toml:"kvm_exits"`   // read KVM's exit counters in each pass. Default true
	WaitTail   string  `toml:"wait_tail"`   // when single run-queue waits are measured: off, contention, on. Default off
	TailBudget float64 `toml:"tail_budget"` // most that measuring waits may cost, in percent of one CPU; 0.01..100. Default 1
}

// Forecast shapes the forecasters.
type Forecast struct {
	Step    Duration `toml:"step"`    // length of one forecast step: 1..120 times sampling.window. Default 10s
	Horizon int      `toml:"horizon"` // steps that are forecast; 1..288, and at most 4096 windows. Default 12
	Warmup  int      `toml:"warmup"`  // windows observed before a forecast counts as ready; 3..10000. Default 60
	Settle  Duration `toml:"settle"`  // a VM that has just started is booting: so long it is not learned from; 0s..1h. Default 60s
}

// History bounds what is kept on disk.
type History struct {
	Tiers       []Tier   `toml:"tiers"`        // finest first. Default 1s for 1h, 10s for 24h, 5m for 90d
	KeepRecords Duration `toml:"keep_records"` // age at which decisions and outcomes are dropped; 1h..3650d. Default 90d
	MaxRecords  int      `toml:"max_records"`  // most records kept of each kind; 100..1000000. Default 20000
	MinFree     int      `toml:"min_free_mib"` // no write below this much free disk, in MiB; 16..65536. Default 64
}

// Tier is one resolution of the history.
type Tier struct {
	Step Duration `toml:"step"` // one point per step
	Keep Duration `toml:"keep"` // how long points are kept
}

// Slots describes the shadow slots that hosts advertise. It must be equal on every
// host of a cluster: digests carry the counts in the order of Classes.
type Slots struct {
	Classes     []Class `toml:"classes"`     // 1..4 classes. Default small, medium, large, xlarge
	Probability float64 `toml:"probability"` // a slot is promised only with this probability; 0.5..0.99. Default 0.95
}

// Class is one size of VM for which slots are counted.
type Class struct {
	Name      string  `toml:"name"`       // a-z, 0-9 and -, at most 16 characters
	VCPU      float64 `toml:"vcpu"`       // cores, above 0
	MemoryMiB int     `toml:"memory_mib"` // MiB, above 0
}

// Planner holds the policy of the decision round. Its fields bear the names of
// planner.Policy's, with the units of a file that people edit; mode stands in Agent,
// classes in Slots, and the downtime to aim at in Handover.
type Planner struct {
	Round  Duration `toml:"round"`         // time between two decision rounds; 1s..10m. Default 10s
	High   float64  `toml:"high"`          // share of usable capacity above which the forecast counts as pressure; 0.3..1. Default 0.85
	Low    float64  `toml:"low"`           // share that a destination may reach after the move; at most high - 0.15. Default 0.7
	Hold   int      `toml:"hold_rounds"`   // pressure must hold in this many ... Default 3
	Window int      `toml:"window_rounds"` // ... of so many last rounds; 1 <= hold <= window <= 64. Default 5

	ReserveCores     float64 `toml:"reserve_cores"`      // cores kept for the host itself; 0..1024. Default 0
	ReserveMemoryMiB int     `toml:"reserve_memory_mib"` // MiB kept for the host itself; 0..1048576. Default 1024

	MemoryOvercommit float64 `toml:"memory_overcommit"`   // VMs may have this many times the usable memory, as long as what they are forecast to use fits; 1..8. Default 1
	DiskBandwidth    float64 `toml:"disk_bytes_per_s"`    // traffic that this host's disks carry for its VMs, reads and writes together; 0 = no limit; at most 1e12. Default 0
	NetworkBandwidth float64 `toml:"network_bytes_per_s"` // traffic that its networks carry for them, the busier direction; 0 = no limit; at most 1e12. Default 0

	GainFactor            float64 `toml:"gain_factor"`            // a move must gain this many times its cost; 1..100. Default 3
	MinGain               float64 `toml:"min_gain_core_s"`        // least gain in core-seconds that is worth a move; 0..1e6. Default 10
	MinGainShare          float64 `toml:"min_gain_share"`         // the same, as a share of usable cores over the horizon; the larger counts; 0..1. Default 0.01
	ResidualShare         float64 `toml:"residual_share"`         // share of the contention that may remain when a move counts as its removal; 0..0.99. Default 0.1
	ContentionProbability float64 `toml:"contention_probability"` // probability of unserved demand at which contention is said to begin; 0.01..0.99. Default 0.5

	Cooldown     Duration `toml:"cooldown"`      // rest of a VM after a move, doubled per move within 24h; 1s..24h. Default 30m
	CooldownCap  Duration `toml:"cooldown_cap"`  // upper bound of that doubling; cooldown..7d. Default 6h
	ReturnAfter  Duration `toml:"return_after"`  // a VM does not return to its last host within this time; 0s..7d. Default 2h
	UrgentFactor float64  `toml:"urgent_factor"` // neither binds a VM whose leaving gains this many times the least gain, doubled per move within 24h; 0 = they always bind; 0..1000. Default 5
	MaxOutgoing  int      `toml:"max_outgoing"`  // moves out of this host at a time; 1..16. Default 1
	MaxIncoming  int      `toml:"max_incoming"`  // moves into this host at a time; 1..16. Default 1
	MaxJitter    Duration `toml:"max_jitter"`    // bound of the random delay before negotiating; 0s..5m. Default 10s

	RefusalBackoff    Duration `toml:"refusal_backoff"`     // rest of a pair of VM and host after a refusal; 0s..24h. Default 1m
	FreezeFailedShare float64  `toml:"freeze_failed_share"` // share of failed moves in the last hour that freezes the host; 0.001..0.99. Default 0.05
	FreezeMinFailed   int      `toml:"freeze_min_failed"`   // failures from which that share counts; 1..100. Default 2
	MaxDigestAge      Duration `toml:"max_digest_age"`      // older gossip is not used, but for three of the intervals at which a large cluster's hosts may tell; 1s..1h. Default 5m
	MaxOfferAge       Duration `toml:"max_offer_age"`       // an older offer is not used; 1s..5m. Default 10s
	MaxRTT            Duration `toml:"max_rtt"`             // peers further away are not asked; 0s = any; at most 10s. Default 20ms

	QuietHours []string `toml:"quiet_hours"` // times by the host's clock in which no move begins by itself, such as "22:00-06:00" or "mon-fri 08:00-18:00"; at most 16. Default none

	Bandwidth     float64  `toml:"bandwidth_bytes_per_s"` // of a link on which nothing was learned yet; 1e5..1e12. Default 5e8
	DirtyShare    float64  `toml:"dirty_share_per_s"`     // share of its memory that an unmeasured VM dirties each second; 0..1. Default 0.02
	MaxDirtyRatio float64  `toml:"max_dirty_ratio"`       // dirty rate to bandwidth up to which a copy converges; 0.01..0.99. Default 0.8
	MaxRounds     int      `toml:"max_rounds"`            // most rounds of pre-copy; 1..1000. Default 30
	MaxCopyTime   Duration `toml:"max_copy_time"`         // longest predicted copy that is still begun; 1s..6h. Default 30m
	BlackoutBase  Duration `toml:"blackout_base"`         // what a switch costs beside sending the last pages; 0s..1m. Default 100ms
	MaxBlackout   Duration `toml:"max_blackout"`          // longest predicted pause that is still accepted; 1ms..1m. Default 1s

	MigrationCores float64 `toml:"migration_cores"` // cores that a copy burns at both ends; 0..64. Default 0.5
	LinkCores      float64 `toml:"link_cores"`      // price in cores of a fully used link; 0..64. Default 0.2
	PartnerCores   float64 `toml:"partner_cores"`   // price in cores of one latency class between traffic partners; 0..64. Default 0.02
	WishCores      float64 `toml:"wish_cores"`      // price in cores of one broken wish (should, should not) about where a VM runs; 0..64. Default 0.05
	RiskSpread     float64 `toml:"risk_spread"`     // weight of the forecast's spread; 0..10. Default 0.5
	RiskAge        float64 `toml:"risk_age"`        // weight of the offer's age; 0..10. Default 0.5
	RiskFailure    float64 `toml:"risk_failure"`    // weight of each failure of the same move; 0..10. Default 1
	RiskUnknown    float64 `toml:"risk_unknown"`    // weight of an unmeasured dirty rate; 0..10. Default 0.25

	ApprovalExpires Duration `toml:"approval_expires"` // in mode approve: how long after the last round that wants a move it may be answered, and how long an approval holds; 10s..7d. Default 15m
	RejectionHolds  Duration `toml:"rejection_holds"`  // how long a VM stays after an operator rejected its move; 10s..30d. Default 1h

	VerdictAfter  Duration `toml:"verdict_after"`  // time after a decision at which its outcome is judged; 10s..24h. Default 10m
	MaxConsidered int      `toml:"max_considered"` // VMs kept in one record; 1..1024. Default 16
	MaxRefused    int      `toml:"max_refused"`    // destinations kept in one record; 1..1024. Default 32
}

// Handover says how two hosts make sure that a VM runs only once.
type Handover struct {
	Guard         string   `toml:"guard"`          // paused, lock (needs a proven disk lock) or plain (never automatic). Default paused
	BandwidthMiBs int      `toml:"bandwidth_mibs"` // limit of the copy in MiB/s; 0 = libvirt's own. 0..100000. Default 0
	MaxDowntime   Duration `toml:"max_downtime"`   // longest pause that QEMU may plan; 1ms..1m. Default 300ms
	NoProgress    Duration `toml:"no_progress"`    // a copy that sends nothing new, or whose rest does not shrink, for so long is aborted; 0s = never; at most 1h. Default 60s
	AutoConverge  bool     `toml:"auto_converge"`  // slow the VM's CPUs down when its copy does not converge: harm to the guest. Default false
	Parallel      int      `toml:"parallel"`       // connections of one copy; 0 = one, without QEMU's multifd. 0..64. Default 0
	TLS           string   `toml:"tls"`            // encrypt the copied memory: auto (where this host has QEMU's certificates), on, off. Default auto
	TLSDir        string   `toml:"tls_dir"`        // where QEMU's certificates are. Default /etc/pki/qemu
	Lease         Duration `toml:"lease"`          // time to live of a lease; 5s..5m. Default 30s
	ByHand        string   `toml:"by_hand"`        // an incoming VM without a lease, moved with virsh: allow or refuse it. Default allow
}

// Mesh is the cluster. An empty Bind means that this host stands alone: it samples,
// forecasts and advises, and neither offers slots nor moves anything.
type Mesh struct {
	Cluster    string   `toml:"cluster"`      // name of the cluster; stands in every certificate. Default headroom
	Name       string   `toml:"name"`         // name of this host as shown; "" = host name. Default ""
	Bind       string   `toml:"bind"`         // ip:port of the gossip (TCP and UDP); "" = no mesh. Default ""
	RPCBind    string   `toml:"rpc_bind"`     // ip:port of the peer RPC; "" = the address of bind, port 7947. Default ""
	Advertise  string   `toml:"advertise"`    // ip:port that peers use when it differs from bind. Default ""
	Join       []string `toml:"join"`         // ip:port of some other hosts. Default none
	KeyFile    string   `toml:"key_file"`     // gossip key, base64 of 16, 24 or 32 bytes. Default /etc/headroom/gossip.key
	CAFile     string   `toml:"ca_file"`      // certificate authority of the cluster, PEM. Default /etc/headroom/ca.pem
	CertFile   string   `toml:"cert_file"`    // this host's certificate, PEM. Default /etc/headroom/host.pem
	TLSKeyFile string   `toml:"tls_key_file"` // its private key, PEM. Default /etc/headroom/host.key
	ViewStable Duration `toml:"view_stable"`  // membership must be unchanged this long before acting; 0s..1h. Default 60s
	Zone       string   `toml:"zone"`         // free text: rack or room, used to prefer near peers. Default ""
}

// DefaultRPCPort is the port of the peer RPC when rpc_bind is empty.
const DefaultRPCPort = 7947

// Enabled tells whether the host takes part in a cluster.
func (m Mesh) Enabled() bool { return m.Bind != "" }

// RPCAddress returns the ip:port on which the peer RPC listens: RPCBind, or the
// address of Bind with DefaultRPCPort. It is "" when the mesh is not enabled.
func (m Mesh) RPCAddress() string {
	if m.RPCBind != "" || m.Bind == "" {
		return m.RPCBind
	}
	host, _, err := net.SplitHostPort(m.Bind)
	if err != nil {
		return ""
	}
	return net.JoinHostPort(host, strconv.Itoa(DefaultRPCPort))
}

// Metrics is the Prometheus endpoint.
type Metrics struct {
	Listen string `toml:"listen"` // ip:port; "" = none, the socket serves the metrics all the same. Default ""
}

// Events runs programs of the operator when something happens.
type Events struct {
	Handlers []Handler `toml:"handlers"` // at most 16. Default none
}

// Handler is one program that is run on events. The event stands as JSON on its
// standard input.
type Handler struct {
	On      []string `toml:"on"`      // event kinds, or "*" for all
	Command []string `toml:"command"` // absolute path and arguments; no shell
	Timeout Duration `toml:"timeout"` // the program is ended after this; "" or 0s = 30s; at most 10m
}
