package main

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"headroom/cmd/headroom/traces"
	"headroom/planner"
	"headroom/planner/simulate"
	"headroom/predict"
)

var epoch = time.Date(2011, 3, 3, 12, 0, 0, 0, time.UTC)

// forecasts are the VMs of a PlanetLab day at noon, as their forecasters see them.
func forecasts(dir string) ([]planner.VM, error) {
	s, err := traces.ReadPublished(filepath.Join(dir, "20110303"))
	if err != nil {
		return nil, err
	}
	vms := make([]planner.VM, len(s.VMs))
	errs := make([]error, len(s.VMs))
	each(len(s.VMs), func(i int) {
		v := &s.VMs[i]
		f, err := predict.New(predict.Config{Step: 5 * time.Minute, Horizon: 12})
		if err != nil {
			errs[i] = err
			return
		}
		last := 0.0
		for _, u := range v.Demand[:144] {
			last = float64(u) * v.MIPS / s.CoreMIPS
			f.Observe(last)
		}
		vms[i] = planner.VM{ID: planner.VMID(strconv.Itoa(i)), Name: v.ID, VCPUs: 1, Memory: planner.MiB(v.Memory), Measured: true, Guarded: true,
			HasDirtyRate: true, CPU: f.Forecast(), NowCPU: planner.Cores(last)}
	})
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return vms, nil
}

// snapshot places VMs drawn from the trace on n hosts of 2 cores at random, so
// that demand is 60 % of capacity on average and some hosts are too full.
func snapshot(pool []planner.VM, n int, rng *rand.Rand) []planner.Host {
	hosts := make([]planner.Host, n)
	for i := range hosts {
		id := fmt.Sprintf("node-%04d", i)
		hosts[i] = planner.Host{ID: planner.HostID(id), Name: id, Complete: true, View: planner.View{Stable: true}, Horizon: time.Hour,
			Capacity: planner.Capacity{CPU: 2, Memory: 32768}}
	}
	demand, free := 0.0, make([]float64, n)
	for i := range free {
		free[i] = 32768
	}
	for k := 0; demand < 0.6*2*float64(n); k++ {
		vm := pool[rng.IntN(len(pool))]
		vm.ID, vm.Name = planner.VMID(fmt.Sprintf("vm-%05d", k)), fmt.Sprintf("vm-%05d", k)
		i := rng.IntN(n)
		if free[i] < float64(vm.Memory) {
			continue
		}
		free[i] -= float64(vm.Memory)
		hosts[i].VMs = append(hosts[i].VMs, vm)
		demand += vm.CPU.Steps[0][0]
	}
	return hosts
}

// peersOf are the digests of all hosts.
func peersOf(hosts []planner.Host, p planner.Policy) []planner.Peer {
	peers := make([]planner.Peer, len(hosts))
	for i := range hosts {
		peers[i] = digest(&hosts[i], p)
	}
	return peers
}

func digest(h *planner.Host, p planner.Policy) planner.Peer {
	d := planner.Peer{ID: h.ID, Name: h.Name, Alive: true, Free: map[string]int{}}
	for _, s := range planner.Slots(*h, p.Classes, p.SlotProbability, epoch) {
		d.Free[s.Class] = s.Free
	}
	if f := planner.HostForecast(*h); f.Ready && f.Peak.Known() {
		d.Pressure = f.Peak[2] / float64(h.Capacity.CPU)
	}
	return d
}

// held is a state in which pressure has lasted.
var held = planner.State{Pressed: ^uint64(0), Rounds: 64}

// plan lets every host decide and move, one after the other, until none wants
// to move any more, and returns the number of moves.
func plan(hosts []planner.Host, p planner.Policy, rng *rand.Rand) int {
	peers := peersOf(hosts, p)
	index := map[planner.HostID]int{}
	for i := range hosts {
		index[hosts[i].ID] = i
	}
	moves := 0
	for i := range hosts {
		st := held
		for range 4 * (1 + len(hosts[i].VMs)) {
			d, next := planner.Decide(epoch, hosts[i], peers, st, p, rng)
			if d.Action != planner.ActionMove {
				break
			}
			next.Pressed, next.Rounds = held.Pressed, held.Rounds
			var offers []planner.Offer
			for _, id := range d.Candidates {
				offers = append(offers, planner.MakeOffer(epoch, hosts[index[id]], *d.Need, p))
			}
			at := slices.IndexFunc(hosts[i].VMs, func(v planner.VM) bool { return v.ID == d.VM })
			vm := hosts[i].VMs[at]
			to, _, refused := planner.Choose(vm, hosts[i], offers, p)
			if to == "" {
				st = next.NoteRefused(epoch, d.VM, refused, p)
				continue
			}
			st = next
			j := index[to]
			hosts[i].VMs = slices.Delete(hosts[i].VMs, at, at+1)
			vm.History.LastMoved, vm.History.LastFrom = epoch, hosts[i].ID
			hosts[j].VMs = append(hosts[j].VMs, vm)
			peers[i], peers[j] = digest(&hosts[i], p), digest(&hosts[j], p)
			moves++
		}
	}
	return moves
}

// residual is the demand expected to wait within an hour on all hosts, core-s.
func residual(hosts []planner.Host, p planner.Policy) float64 {
	sum := 0.0
	for i := range hosts {
		d, _ := planner.Decide(epoch, hosts[i], nil, planner.State{}, p, rand.New(rand.NewPCG(1, 1)))
		sum += float64(d.Inputs.Unserved)
	}
	return sum
}

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
	peers := peersOf(snapshot(pool, 1000, rng), p)
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
		hosts := snapshot(pool, n, rng)
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
