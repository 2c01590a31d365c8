package planner

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// bigRound is one round under pressure on a host of 200 VMs with 1000 peers.
func bigRound() (Host, []Peer, Policy, State) {
	p := DefaultPolicy()
	p.MinGainShare = 0 // each of so many small VMs is worth a move: the most work
	rng := rand.New(rand.NewPCG(1, 1))
	h := testHost("self", 64, 1<<20)
	for i := range 200 {
		vm := testVM(VMID(fmt.Sprintf("vm-%03d", i)), 2048, shape{level: 0.5 * rng.Float64(), slope: 0.02, spread: 0.05})
		h.VMs = append(h.VMs, vm)
	}
	var peers []Peer
	for i := range 1000 {
		peer := Peer{ID: HostID(fmt.Sprintf("host-%04d", i)), Alive: true, CPUModel: "qemu64", Free: map[string]int{"small": i % 3, "medium": i % 2}}
		if i%2 == 0 {
			peer.Draining, peer.Pressure = true, 0.9
		}
		peers = append(peers, peer)
	}
	return *h, peers, p, State{Pressed: ^uint64(0), Rounds: 64}
}

// BenchmarkDecide200VMs1000Peers is the project's target: at most 5 ms a round.
func BenchmarkDecide200VMs1000Peers(b *testing.B) {
	h, peers, p, st := bigRound()
	rng := rand.New(rand.NewPCG(1, 1))
	d, _ := Decide(epoch, h, peers, st, p, rng)
	if d.Action != ActionAdvise {
		b.Fatalf("the round does not do the work: %s", d.Explain())
	}
	b.ReportAllocs()
	for b.Loop() {
		Decide(epoch, h, peers, st, p, rng)
	}
}

// BenchmarkDecideStuck is the worst case: no VM finds a feasible peer.
func BenchmarkDecideStuck(b *testing.B) {
	h, peers, p, st := bigRound()
	for i := range peers {
		peers[i].Incoming = p.MaxIncoming
	}
	rng := rand.New(rand.NewPCG(1, 1))
	if d, _ := Decide(epoch, h, peers, st, p, rng); d.Action != ActionStuck {
		b.Fatalf("the round does not do the work: %s", d.Explain())
	}
	b.ReportAllocs()
	for b.Loop() {
		Decide(epoch, h, peers, st, p, rng)
	}
}

func BenchmarkMakeOffer200VMs(b *testing.B) {
	h, _, p, _ := bigRound()
	need := NeedOf(testVM("x", 1024, shape{level: 0.2, spread: 0.02}), *testHost("src", 1, 1))
	b.ReportAllocs()
	for b.Loop() {
		MakeOffer(epoch, h, need, p)
	}
}

func BenchmarkSlots200VMs(b *testing.B) {
	h, _, p, _ := bigRound()
	b.ReportAllocs()
	for b.Loop() {
		Slots(h, p.Classes, p.SlotProbability, epoch)
	}
}
