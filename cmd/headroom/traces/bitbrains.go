package traces

import (
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"

	"headroom/planner/simulate"
)

// The columns of a Bitbrains file.
const (
	colTime    = 0
	colCores   = 1
	colMHz     = 2 // provisioned
	colUsed    = 3 // MHz
	colMemory  = 5 // KiB provisioned
	colInUse   = 6 // KiB
	colRead    = 7 // KB/s from disks
	colWrite   = 8
	colRx      = 9 // KB/s over networks
	colTx      = 10
	numColumns = 11
)

const (
	bitbrainsStep = 300          // s
	maxMonth      = 31 * 24 * 12 // steps
	dirtyShare    = 0.02         // per second, the planner's own assumption
)

// sample is one line of a Bitbrains file.
type sample struct{ at, cores, mhz, used, memory, inUse, disk, network float64 }

// bitbrains reads all VMs of a folder; each of its folders begins its own time.
func bitbrains(dir string, names []string) (simulate.Setup, error) {
	s := simulate.Setup{Name: filepath.Base(dir), Step: bitbrainsStep, CoreMIPS: 3067, DirtyShare: dirtyShare}
	begin := map[string]float64{}
	all := make([][]sample, len(names))
	for i, name := range names {
		text, err := read(name)
		if err != nil {
			return s, err
		}
		if all[i], err = samples(text); err != nil {
			return s, fmt.Errorf("read trace %s: %w", name, err)
		}
		folder := filepath.Dir(name)
		if first, ok := begin[folder]; !ok || all[i][0].at < first {
			begin[folder] = all[i][0].at
		}
	}
	for i, name := range names {
		for _, x := range all[i] {
			s.Steps = max(s.Steps, 1+int(math.Round((x.at-begin[filepath.Dir(name)])/bitbrainsStep)))
		}
	}
	if s.Steps > maxMonth {
		return s, fmt.Errorf("read trace %s: %d steps, at most %d", dir, s.Steps, maxMonth)
	}
	for i, name := range names {
		if vm, ok := bitbrainsVM(name, all[i], begin[filepath.Dir(name)], s.Steps); ok {
			s.VMs = append(s.VMs, vm)
		}
	}
	return s, nil
}

// bitbrainsVM lays the samples of one VM on the common steps; false for one
// that never ran.
func bitbrainsVM(name string, xs []sample, begin float64, steps int) (simulate.VM, bool) {
	vm := simulate.VM{ID: filepath.Base(filepath.Dir(name)) + "/" + filepath.Base(name), Demand: make([]float32, steps), Resident: make([]float32, steps),
		Disk: make([]float32, steps), Network: make([]float32, steps)}
	for k := range vm.Demand {
		vm.Demand[k] = float32(math.NaN())
	}
	for _, x := range xs {
		vm.VCPUs = max(vm.VCPUs, int(x.cores))
		vm.MIPS = max(vm.MIPS, x.mhz)
		vm.Memory = max(vm.Memory, x.memory/1024)
	}
	if vm.VCPUs == 0 || vm.MIPS == 0 || vm.Memory == 0 {
		return vm, false
	}
	for _, x := range xs {
		if x.cores > 0 { // without cores the VM was off
			k := int(math.Round((x.at - begin) / bitbrainsStep))
			// Turbo lets a VM use more MHz than its cores have by name; no host
			// here could serve that.
			vm.Demand[k] = float32(math.Min(1, x.used/vm.MIPS))
			vm.Resident[k] = float32(math.Min(vm.Memory, x.inUse/1024))
			vm.Disk[k], vm.Network[k] = float32(x.disk), float32(x.network)
		}
	}
	return vm, true
}

// samples reads the lines of one file.
func samples(text string) ([]sample, error) {
	lines := strings.Split(text, "\n")
	var out []sample
	for n, line := range lines {
		if n == 0 || strings.TrimSpace(line) == "" {
			continue
		}
		cells := strings.Split(line, ";")
		if len(cells) < numColumns {
			return nil, fmt.Errorf("line %d: %d columns, want %d: %w", n+1, len(cells), numColumns, ErrNoTrace)
		}
		var v [numColumns]float64
		for c := range v {
			x, err := strconv.ParseFloat(strings.TrimSpace(cells[c]), 64)
			if err != nil || !(x >= 0 && x < 1e15) {
				return nil, fmt.Errorf("line %d: column %d: %q is no quantity: %w", n+1, c+1, cells[c], ErrNoTrace)
			}
			v[c] = x
		}
		out = append(out, sample{at: v[colTime], cores: v[colCores], mhz: v[colMHz], used: v[colUsed], memory: v[colMemory], inUse: v[colInUse],
			disk: (v[colRead] + v[colWrite]) / 1000, network: math.Max(v[colRx], v[colTx]) / 1000})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no samples: %w", ErrNoTrace)
	}
	return out, nil
}
