package main

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"time"

	"headroom/cmd/headroom/traces"
	"headroom/planner"
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

// hostCores and hostMemory (MiB) are those of every host of a snapshot.
const (
	hostCores  = 2
	hostMemory = 32768
)

// crowding is how a snapshot spreads its VMs.
type crowding struct {
	name string
	// demand is the mean demand of the next step as a share of all capacity;
	// every fifth host draws hotter times as many VMs as the others.
	demand, hotter float64
}

// The crowdings of the comparison with hbal, chosen before it was run. Even is
// pressure everywhere, in which some hosts are too full by chance. Hot has a fifth
// of the hosts at 96 % on average and the others at 32 %.
var (
	even = crowding{"even", 0.6, 1}
	hot  = crowding{"hot", 0.45, 3}
)

// snapshot places VMs drawn from the trace at random on n hosts, where memory fits.
func snapshot(pool []planner.VM, n int, how crowding, rng *rand.Rand) []planner.Host {
	hosts := make([]planner.Host, n)
	for i := range hosts {
		id := fmt.Sprintf("node-%04d", i)
		hosts[i] = planner.Host{ID: planner.HostID(id), Name: id, Complete: true, View: planner.View{Stable: true}, Horizon: time.Hour,
			Capacity: planner.Capacity{CPU: hostCores, Memory: hostMemory}}
	}
	demand, free := 0.0, make([]float64, n)
	for i := range free {
		free[i] = hostMemory
	}
	for k := 0; demand < how.demand*hostCores*float64(n); k++ {
		vm := pool[rng.IntN(len(pool))]
		vm.ID, vm.Name = planner.VMID(fmt.Sprintf("vm-%05d", k)), fmt.Sprintf("vm-%05d", k)
		i := how.host(n, rng)
		if free[i] < float64(vm.Memory) {
			continue
		}
		free[i] -= float64(vm.Memory)
		hosts[i].VMs = append(hosts[i].VMs, vm)
		demand += vm.CPU.Steps[0][0]
	}
	return hosts
}

// host draws one of n hosts.
func (c crowding) host(n int, rng *rand.Rand) int {
	for {
		i := rng.IntN(n)
		if c.hotter <= 1 || i%5 == 0 || rng.Float64() < 1/c.hotter {
			return i
		}
	}
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
	d := planner.Peer{ID: h.ID, Name: h.Name, Alive: true, Free: map[string]int{}, Pressure: planner.HostPressure(*h)}
	for _, s := range planner.Slots(*h, p.Classes, p.SlotProbability, epoch) {
		d.Free[s.Class] = s.Free
	}
	return d
}
