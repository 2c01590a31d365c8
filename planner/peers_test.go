package planner

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestShortlist: probes go to the hosts whose digests promise the most room: slots
// first, then little pressure. A host without slots stays worth a probe.
func TestShortlist(t *testing.T) {
	h, _, p := pressed()
	var peers []Peer
	for i := range 60 {
		peer := Peer{ID: HostID(fmt.Sprintf("p%02d", i)), Alive: true, Free: map[string]int{"small": 0}, Pressure: 0.5 + float64(i)/200}
		if i >= 55 {
			peer.Free["large"] = 1
		}
		peers = append(peers, peer)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	among := func(peers []Peer) Decision {
		d, _ := Decide(epoch, *h, peers, State{}, p, rng)
		return d
	}
	seen := map[HostID]int{}
	for range 400 {
		d := among(peers)
		if d.Feasible != len(peers)/shortlistShare {
			t.Fatalf("%d peers are worth a probe, want one in %d of them: %s", d.Feasible, shortlistShare, d.Explain())
		}
		for _, id := range d.Candidates {
			seen[id]++
		}
		if d.RefusedKinds[RefuseSlots] != len(peers)-d.Feasible {
			t.Fatalf("%d are recorded as having less room, want %d", d.RefusedKinds[RefuseSlots], len(peers)-d.Feasible)
		}
	}
	for i, peer := range peers {
		if want := i < len(peers)/shortlistShare-5 || i >= 55; want != (seen[peer.ID] > 0) {
			t.Errorf("%s: probed %d times in 400 rounds, pressure %.2f, slots %v", peer.ID, seen[peer.ID], peer.Pressure, peer.Free)
		}
	}
	if d := among(peers[:3]); d.Feasible != 3 || len(d.Candidates) != Probes {
		t.Errorf("of three hosts without slots %d are worth a probe: %s", d.Feasible, d.Explain())
	}
}
