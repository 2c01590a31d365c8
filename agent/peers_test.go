package agent

import (
	"fmt"
	"testing"
	"time"

	"headroom/mesh"
	"headroom/planner"
)

// crowd is a cluster as gossip shows it.
type crowd struct {
	Mesh
	members []mesh.Member
}

func (c crowd) Self() mesh.HostID      { return c.members[0].ID }
func (c crowd) Members() []mesh.Member { return c.members }

// TestPeersOfLargeClusters: a digest is used for as long as its sender means it, at
// most for max_digest_age, and in a cluster whose hosts tell more rarely than that
// for three of their intervals: with the defaults, a thousand hosts see each other.
func TestPeersOfLargeClusters(t *testing.T) {
	const configured = 5 * time.Minute
	for _, c := range []struct {
		hosts      int
		sent, want time.Duration
	}{
		{10, time.Minute, time.Minute},
		{10, time.Hour, configured},
		{1000, time.Minute, time.Minute},
		{1000, mesh.DigestLife(configured, 1000), mesh.DigestLife(configured, 1000)},
		{1000, time.Hour, mesh.DigestLife(configured, 1000)},
	} {
		var all crowd
		for i := range c.hosts {
			all.members = append(all.members, mesh.Member{ID: mesh.HostID(fmt.Sprint(i)), Status: mesh.StatusAlive, HasDigest: true,
				DigestAge: time.Second, Digest: mesh.Digest{ValidFor: c.sent}})
		}
		a := &Agent{o: Options{Mesh: all}, policy: planner.Policy{MaxDigestAge: configured}}
		peers := a.peers()
		if len(peers) != c.hosts-1 {
			t.Fatalf("%d hosts have %d peers", c.hosts, len(peers))
		}
		if got := peers[0].ValidFor; got != c.want {
			t.Errorf("%d hosts, told for %v: used for %v, want %v", c.hosts, c.sent, got, c.want)
		}
	}
}
