package mesh

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// HostID identifies a host: its machine-id. It is Serf's node name, and stands in
// the host's certificate.
type HostID string

// Errors on which a caller decides.
var (
	// ErrNotMember: the host is not known to the cluster, or not alive.
	ErrNotMember = errors.New("host is not a live member of the cluster")
	// ErrUnreachable: no connection to the peer.
	ErrUnreachable = errors.New("peer is not reachable")
	// ErrForeignCertificate: the peer's certificate is not of this cluster, or
	// of another host.
	ErrForeignCertificate = errors.New("peer has a foreign certificate")
	// ErrNoKey: gossip without a key is refused.
	ErrNoKey = errors.New("gossip needs a key: make one with `headroom cert key` and copy it to every host")
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
	Join                      []string // ip:port of some members
	Key                       []byte   // 16, 24 or 32 bytes
	SnapshotPath              string   // file that remembers the members; "" = none
	CAFile, CertFile, KeyFile string   // PEM
	Tags                      Tags     // RPCAddr and CertFingerprint are filled in
	// ViewStable is how long membership must not change before Stable.
	ViewStable time.Duration
	// CoordinatesAfter is the age from which round trips are told; default 5 min.
	CoordinatesAfter time.Duration
	Logger           *slog.Logger
}

// Tags are a host's slow-changing facts; they travel with membership.
type Tags struct {
	Version         int // of headroom's peer protocol
	Name            string
	RPCAddr         string
	CertFingerprint string // first 16 hex digits of the certificate's SHA-256
	CPUModel        string
	Zone            string
	Draining        bool
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
	ID        HostID
	Name      string
	Addr      string // ip:port of its gossip
	Status    Status
	Tags      Tags
	Digest    Digest
	HasDigest bool
	DigestAge time.Duration
	RTT       time.Duration
	RTTKnown  bool
}

// News is told to every host, for people and their scripts.
type News struct {
	Kind    string `json:"kind"`
	VM      string `json:"vm,omitempty"`
	From    string `json:"from,omitempty"`
	To      string `json:"to,omitempty"`
	Detail  string `json:"detail,omitempty"`
	Attempt uint64 `json:"attempt,omitempty"`
	Host    HostID `json:"host"`
}

// maxNews keeps a news in one packet.
const maxNews = 450

func (n News) encode() ([]byte, error) {
	b, err := json.Marshal(n)
	if err != nil {
		return nil, fmt.Errorf("encode news: %w", err)
	}
	if len(b) > maxNews {
		return nil, fmt.Errorf("news of %d bytes, at most %d fit into a packet", len(b), maxNews)
	}
	return b, nil
}

// decodeNews reads a news from the network.
func decodeNews(b []byte) (News, error) {
	var n News
	if len(b) > maxNews {
		return n, fmt.Errorf("news of %d bytes, at most %d are read", len(b), maxNews)
	}
	if err := json.Unmarshal(b, &n); err != nil {
		return n, fmt.Errorf("malformed news: %w", err)
	}
	if n.Kind == "" || n.Host == "" {
		return n, errors.New("malformed news: no kind or host")
	}
	return n, nil
}

// Event is a change that the mesh saw.
type Event struct {
	At   time.Time
	Kind string // member-join, member-leave, member-failed, member-update, member-reap, news
	Host HostID
	Text string
	News *News // with kind news
}

// Stats is what the mesh did and refused.
type Stats struct {
	// Refused counts by reason: gossip_key, gossip_malformed, digest_malformed,
	// news_malformed, event_unknown, rpc_foreign_ca, rpc_expired,
	// rpc_other_cluster, rpc_no_certificate, rpc_oversized, rpc_overloaded,
	// rpc_handshake.
	Refused                  map[string]uint64
	DigestsSent, DigestsHeld uint64
	// BudgetPerSecond is the cluster's budget of digests per second, of which a
	// quarter is used; MinInterval is what that leaves for each host.
	BudgetPerSecond float64
	MinInterval     time.Duration
	DroppedEvents   uint64
	QueueDepth      int // gossip messages waiting to be sent
}
