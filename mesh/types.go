package mesh

import (
	"errors"
	"log/slog"
	"time"
)

// HostID identifies a host: its machine-id. It is Serf's node name, and stands in
// the host's certificate.
type HostID string

// Errors on which a caller decides.
var (
	// ErrNotMember: the host is not known to the cluster, or not alive, or speaks
	// another version of the peer protocol.
	ErrNotMember = errors.New("host is not a live member of the cluster")
	// ErrUnreachable: no connection to the peer, or no answer in time. Whether a
	// request took effect is not known.
	ErrUnreachable = errors.New("peer is not reachable")
	// ErrForeignCertificate: a certificate is not of this cluster, expired, or of
	// another host than the one that was called.
	ErrForeignCertificate = errors.New("peer has a foreign certificate")
	// ErrCertificateRefused: the peer does not accept this host's certificate.
	ErrCertificateRefused = errors.New("the peer refuses this host's certificate: check it on both hosts with `headroom doctor`")
	// ErrNoKey: gossip without a key is refused.
	ErrNoKey = errors.New("gossip needs a key: make one with `headroom cert key` and copy it to every host")
	// ErrKeyDiffers: a peer gossips with another key.
	ErrKeyDiffers = errors.New("gossip key differs from the peer's: copy the same key file to every host of the cluster")
	// ErrOtherCluster: a peer turned the connection away unread, which it does
	// when its cluster has another name.
	ErrOtherCluster = errors.New("the peer turns this host away: is mesh.cluster the same on both?")
	// ErrBusy: too many news in a short time.
	ErrBusy = errors.New("too many news at once")
	// ErrClosed: the mesh has been closed, or Serf has shut itself down.
	ErrClosed = errors.New("the mesh is closed")
)

// Config says how to join a cluster.
type Config struct {
	Cluster string // name; bound into gossip and certificates
	ID      HostID
	Name    string // shown to people
	// Bind is the ip:port of gossip (TCP and UDP), RPCBind that of the RPC.
	// Neither may be unspecified (0.0.0.0). Advertise is the ip:port under
	// which peers reach Bind, if it differs.
	Bind, RPCBind, Advertise  string
	Join                      []string // host:port of some members
	Key                       []byte   // 16, 24 or 32 bytes
	SnapshotPath              string   // file that remembers the members; "" = none
	CAFile, CertFile, KeyFile string   // PEM
	Tags                      Tags     // Version, Name, RPCAddr and CertFingerprint are filled in
	// ViewStable is how long membership must not change before Stable. A minute
	// is right; a lab takes less, and the window of the churn rule shrinks with
	// it (see Stable).
	ViewStable time.Duration
	// CoordinatesAfter is the age of this host and of a peer from which the
	// round trip between them is told; default 5 min.
	CoordinatesAfter time.Duration
	Logger           *slog.Logger // nil: silent
}

// Tags are a host's slow-changing facts; they travel with membership.
type Tags struct {
	Version         int // of headroom's peer protocol; 0 = unknown
	Name            string
	RPCAddr         string // ip:port
	CertFingerprint string // first 16 hex digits of the certificate's SHA-256
	CPUModel        string
	Pools           string // hash or list of storage pools and networks
	Zone            string
	Draining        bool
	// PauseVersion and Paused are the newest order for the whole cluster, to pause
	// or to resume moves, that the host knows of; version 0 is none.
	PauseVersion uint64
	Paused       bool
}

// ProtocolVersion is the peer protocol that this package speaks.
const ProtocolVersion = 1

// Status is a member's state as gossip sees it.
type Status string

// The states of a member.
const (
	StatusAlive   Status = "alive"
	StatusLeaving Status = "leaving"
	StatusLeft    Status = "left"
	StatusFailed  Status = "failed"
)

// Member is one host of the cluster.
type Member struct {
	ID     HostID
	Name   string
	Addr   string // ip:port of its gossip
	Status Status
	Tags   Tags
	// Digest is the newest unexpired one, heard DigestAge ago on this host's
	// monotonic clock; without HasDigest it is empty.
	Digest    Digest
	HasDigest bool
	DigestAge time.Duration
	// RTT is the estimated round trip if RTTKnown. Its error is some 50 us: never
	// rank hosts within a rack by it.
	RTT      time.Duration
	RTTKnown bool
}

// Kinds of Event beside those of Serf: member-join, member-leave, member-failed,
// member-update, member-reap.
const (
	EventNews       = "news"
	EventDown       = "mesh-down"   // Serf shut itself down; the mesh is dead
	EventJoinFailed = "join-failed" // no address of Config.Join could be joined; it is tried again
	EventJoined     = "joined"      // a join succeeded after a failure
)

// Event is a change that the mesh saw.
type Event struct {
	At   time.Time
	Kind string
	Host HostID
	Name string // of Host, for people; may be empty
	Text string
	News *News // with EventNews
}

// Stats is what the mesh did and refused, since Start.
type Stats struct {
	// Refused counts by reason: gossip_key, gossip_label (another cluster's name),
	// gossip_malformed, digest_malformed, digest_version, digest_overflow (more hosts than
	// digests are kept for), news_malformed, event_unknown, event_backlog (the
	// queue from Serf was full), rpc_foreign_ca, rpc_expired,
	// rpc_other_cluster, rpc_no_certificate, rpc_handshake, rpc_oversized,
	// rpc_broken, rpc_overloaded, rpc_panic, rpc_foreign_peer (a peer that this
	// host called), own_certificate (a renewal that cannot be used).
	Refused map[string]uint64
	// RefusedFrom is the address that was last refused for the reason, where it
	// is known.
	RefusedFrom map[string]string
	// DigestsHeld counts those that told enough new and had to wait for the
	// budget.
	DigestsSent, DigestsHeld uint64
	NewsSent, NewsHeld       uint64
	// BudgetPerSecond is the cluster's budget of digests per second, of which a
	// quarter is used; MinInterval is what that leaves for each host, to which up
	// to a quarter is added at random.
	BudgetPerSecond float64
	MinInterval     time.Duration
	DroppedEvents   uint64 // that slow subscribers lost
	QueueDepth      int    // gossip messages waiting to be sent
	// JoinError is why no address of Config.Join could be joined; "" = joined, or
	// nothing to join.
	JoinError string
	// CertificateExpires is when this host's certificate ends.
	CertificateExpires time.Time
}
