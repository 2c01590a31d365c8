// Package mesh is the cluster: who is a member (Serf), what each host hints of
// its free capacity (digests in user events), news for people, and the peer RPC
// over mutual TLS.
//
// Gossip is a budget of a few events per second for the whole cluster, it is
// unordered, may be repeated and may be forged by whoever holds the key. So a
// digest is small, idempotent and expires by itself, and gossip never authorises
// an act: whatever matters is said over the RPC, whose two ends prove by
// certificate which host they are. Names and texts that came by gossip are
// cleaned of control characters, because people read them on terminals.
//
// Coordinates need minutes to settle and err by some 50 us: they tell racks from
// sites and must not rank hosts within a rack.
//
// Goroutines, all ended and waited for by Close: one that drains Serf's events
// and never calls Serf; one that sets tags; one that joins; the RPC server's and
// its handlers, which must return when their context ends; and Serf's own, whose
// last network dials may outlive Close by gossipTCPTimeout. Serf's Query, which
// loses answers when it is called concurrently, is not used.
//
// No type of Serf or memberlist appears in what is exported. The package carries
// bytes and must not import bpf, predict, planner or agent.
package mesh
