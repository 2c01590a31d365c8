// Package traces reads recorded demand of VMs from files into setups of package
// planner/simulate: a day of PlanetLab (one file a VM, one integer percent a
// line) or Bitbrains (GWA-T-12, one CSV a VM), and descriptions of hosts.
//
// It decides how a trace is sized when no hosts are given: so many hosts of one
// kind that the 99th percentile of the VMs' total demand is SizedShare of all
// capacity, and such limits for traffic that the same holds for disk and network
// where they are recorded. Contention is then possible wherever VMs lie badly, and avoidable
// wherever they lie well.
//
// Every reader is bounded and refuses what is not a trace. The package imports
// planner/simulate alone of this module.
package traces

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"headroom/planner/simulate"
)

// SizedShare is the share of capacity that the 99th percentile of total demand
// takes on hosts sized by this package.
const SizedShare = 0.65

// Warmup is how many steps of a trace only serve as history: the most that any
// of the policies looks at (simulate's N-sigma and CloudSim's take 30 samples).
const Warmup = 30

// Limits of what is read.
const (
	maxFiles = 20_000
	maxBytes = 64 << 20 // of one file
)

// ErrNoTrace is returned for a folder that holds no trace.
var ErrNoTrace = errors.New("no trace of a known kind: want PlanetLab (files of integers) or Bitbrains (*.csv)")

// Read reads the trace in a folder and gives it hosts: those given, or sized
// ones. All policies share the start placement, which the seed draws.
func Read(dir string, hosts []simulate.Host, seed uint64) (simulate.Setup, error) {
	names, err := files(dir)
	if err != nil {
		return simulate.Setup{}, err
	}
	var s simulate.Setup
	if strings.HasSuffix(names[0], ".csv") {
		s, err = bitbrains(dir, names)
	} else {
		s, err = planetlab(dir, names)
	}
	if err != nil {
		return s, err
	}
	s = s.Corrected()
	s.PublishedClock = false
	s.Warmup = min(Warmup, s.Steps/4)
	if hosts == nil {
		hosts = sized(&s)
	}
	s.Hosts = hosts
	return s.Scatter(seed)
}

// ReadPublished reads a PlanetLab day as the setup that CloudSim publishes.
func ReadPublished(dir string) (simulate.Setup, error) {
	names, err := files(dir)
	if err != nil {
		return simulate.Setup{}, err
	}
	return planetlab(dir, names)
}

// files lists the files of a trace, sorted by path.
func files(dir string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type().IsRegular() && !strings.HasPrefix(d.Name(), ".") {
			names = append(names, path)
		}
		if len(names) > maxFiles {
			return fmt.Errorf("more than %d files", maxFiles)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read trace: %w", err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("read trace %s: %w", dir, ErrNoTrace)
	}
	slices.Sort(names)
	return names, nil
}

// read reads one file, bounded.
func read(name string) (string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return "", fmt.Errorf("read trace: %w", err)
	}
	if info.Size() > maxBytes {
		return "", fmt.Errorf("read trace %s: %d bytes, at most %d", name, info.Size(), maxBytes)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("read trace: %w", err)
	}
	return string(text), nil
}

// sized is as many hosts as SizedShare asks for.
func sized(s *simulate.Setup) []simulate.Host {
	total := make([]float64, s.Steps)
	for i := range s.VMs {
		for k, u := range s.VMs[i].Demand {
			if u == u {
				total[k] += float64(u) * s.VMs[i].MIPS
			}
		}
	}
	slices.Sort(total)
	need := total[int(0.99*float64(len(total)))] / SizedShare
	kinds := kindsOf(s)
	per := 0.0
	for _, h := range kinds {
		per += float64(h.PEs) * h.MIPS / float64(len(kinds))
	}
	hosts := make([]simulate.Host, max(2, int(math.Ceil(need/per))))
	for i := range hosts {
		hosts[i] = kinds[i%len(kinds)]
		hosts[i].ID = fmt.Sprintf("host-%04d", i)
	}
	sizeTraffic(s, hosts)
	return hosts
}

// sizeTraffic gives the hosts equal limits for disk and network by the same rule as
// their number follows from demand for cores. A VM's traffic is cut at its host's
// limit, as its demand for cores is at those that it has.
func sizeTraffic(s *simulate.Setup, hosts []simulate.Host) {
	traffic := func(of func(*simulate.VM) []float32) float64 {
		total := make([]float64, s.Steps)
		for i := range s.VMs {
			for k, v := range of(&s.VMs[i]) {
				total[k] += float64(v)
			}
		}
		slices.Sort(total)
		limit := total[int(0.99*float64(len(total)))] / SizedShare / float64(len(hosts))
		for i := range s.VMs {
			x := of(&s.VMs[i])
			for k := range x {
				x[k] = min(x[k], float32(limit))
			}
		}
		return limit
	}
	disk := traffic(func(v *simulate.VM) []float32 { return v.Disk })
	network := traffic(func(v *simulate.VM) []float32 { return v.Network })
	for i := range hosts {
		hosts[i].Disk, hosts[i].Network = disk, network
	}
}

// kindsOf are the hosts that suit a trace: CloudSim's two with 32 GiB for
// PlanetLab, 12-core servers with 128 GiB on 10 Gbit/s for Bitbrains.
func kindsOf(s *simulate.Setup) []simulate.Host {
	if len(s.Hosts) > 0 {
		kinds := slices.Clone(s.Hosts[:2])
		for i := range kinds {
			kinds[i].Memory = 32 << 10
		}
		return kinds
	}
	return []simulate.Host{{PEs: 12, MIPS: 3067, Memory: 128 << 10, Bandwidth: 1000, Power: &simulate.PowerX3550X5675}}
}
