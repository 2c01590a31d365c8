package main

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"headroom/planner"
	"headroom/planner/simulate"
)

// held is a state in which pressure has lasted.
var held = planner.State{Pressed: ^uint64(0), Rounds: 64}

// measureRound is one round of a host with 200 VMs and 1,000 peers.
func measureRound(dir string, out *figures) error {
	pool, err := forecasts(dir)
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(1, 2))
	p := simulate.SimulatedPolicy(62.5)
	h := planner.Host{ID: "self", Complete: true, View: planner.View{Stable: true}, Capacity: planner.Capacity{CPU: 12, Memory: 1 << 20}}
	for i := range 200 {
		vm := pool[rng.IntN(len(pool))]
		vm.ID = planner.VMID(strconv.Itoa(i))
		h.VMs = append(h.VMs, vm)
	}
	peers := peersOf(snapshot(pool, 1000, even, rng), p)
	const rounds = 200
	var moved int
	began := time.Now()
	for range rounds {
		if d, _ := planner.Decide(epoch, h, peers, held, p, rng); d.Action == planner.ActionMove {
			moved++
		}
	}
	out.RoundMS = some(time.Since(began).Seconds() * 1000 / rounds)
	fmt.Printf("one round, 200 VMs, 1000 peers: %.2f ms (%d of %d rounds end in a move)\n\n", *out.RoundMS, moved, rounds)
	return nil
}

// growth shows how the cost of a round of all hosts grows with their number.
func growth(dir string, _ *figures) error {
	pool, err := forecasts(dir)
	if err != nil {
		return err
	}
	fmt.Println("\nevery host plans once: hosts, s, ms a host")
	for _, n := range []int{100, 1000, 10000} {
		rng := rand.New(rand.NewPCG(3, uint64(n)))
		p := simulate.SimulatedPolicy(62.5)
		hosts := snapshot(pool, n, even, rng)
		began := time.Now()
		// An agent knows at most 1,000 peers here: beyond that a digest is
		// one of a sample, as gossip's budget makes it.
		peers := peersOf(hosts, p)
		peers = peers[:min(1000, len(peers))]
		for i := range hosts {
			planner.Decide(epoch, hosts[i], peers, held, p, rng)
		}
		took := time.Since(began).Seconds()
		fmt.Printf("  %6d %8.3f %8.4f\n", n, took, 1000*took/float64(n))
	}
	return nil
}
