package planner

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"headroom/predict"
)

var epoch = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

// shape describes a test forecast: a line with normal noise.
type shape struct{ level, slope, spread float64 }

const (
	testStep  = 5 * time.Second
	testSteps = 12
)

// forecast builds the quantiles that a perfect forecaster would give for s.
func (s shape) forecast() predict.Forecast {
	z := predict.Quantiles{0, 0.6745, 1.2816, 1.6449, 2.3263}
	f := predict.Forecast{Step: testStep, Method: "test", Skill: math.NaN(), Coverage: math.NaN(), Observed: 100, Ready: true}
	for h := range testSteps {
		med := math.Max(0, s.level+s.slope*float64(h+1))
		var q predict.Quantiles
		for i := range q {
			q[i] = med + z[i]*s.spread
			f.Peak[i] = math.Max(f.Peak[i], q[i]+0.5*s.spread)
		}
		f.Steps = append(f.Steps, q)
	}
	return f
}

func testHost(id HostID, cpu Cores, mem MiB) *Host {
	return &Host{
		ID: id, Name: string(id), Capacity: Capacity{CPU: cpu, Memory: mem}, Complete: true,
		View: View{Stable: true}, CPUModel: "qemu64", Pools: []string{"default"}, Networks: []string{"lan"},
	}
}

func testVM(id VMID, mem MiB, s shape) VM {
	return VM{
		ID: id, Name: string(id), VCPUs: 1, Memory: mem, Measured: true, Guarded: true,
		CPU: s.forecast(), NowCPU: Cores(s.level), DirtyRate: 5 << 20, HasDirtyRate: true,
		CPUModel: "qemu64", Pools: []string{"default"}, Networks: []string{"lan"},
	}
}

// each reads key=value arguments.
func each(args []string, set func(k, v string) error) error {
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		if err := set(k, v); err != nil {
			return fmt.Errorf("%s: %w", a, err)
		}
	}
	return nil
}

func (w *world) setPolicy(args []string) error {
	switch args[0] {
	case "lab":
		w.policy = LabPolicy()
	case "default":
		w.policy = DefaultPolicy()
	}
	return each(args[1:], func(k, v string) (err error) {
		switch k {
		case "mode":
			w.policy.Mode = Mode(v)
		case "max_incoming":
			w.policy.MaxIncoming, err = strconv.Atoi(v)
		default:
			err = fmt.Errorf("unknown key %q", k)
		}
		return err
	})
}

func setHost(h *Host, k, v string) error {
	x, err := strconv.ParseFloat(v, 64)
	switch k {
	case "cpu":
		h.Capacity.CPU = Cores(x)
	case "mem":
		h.Capacity.Memory = MiB(x)
	case "reserve":
		h.Reserve.CPU = Cores(x)
	case "health":
		h.HealthScore = int(x)
	case "draining":
		h.Draining, err = v == "yes", nil
	case "stable":
		h.View, err = View{Stable: v == "yes", Why: "3 of 12 hosts changed within a minute"}, nil
	case "missing":
		h.Complete, h.Missing, err = false, []string{strings.ReplaceAll(v, "_", " ")}, nil
	case "complete":
		h.Complete, h.Missing, err = true, nil, nil
	case "model":
		h.CPUModel, err = v, nil
	case "pools":
		h.Pools, err = strings.Split(v, ","), nil
	case "failed":
		h.Heard = MoveCount{Moves: 20, Failed: int(x)}
	default:
		return fmt.Errorf("unknown key %q", k)
	}
	return err
}

// setVM creates or changes a VM; level, slope and spread are kept together.
func (w *world) setVM(host HostID, id VMID, args []string) error {
	vm := w.find(id)
	if vm == nil {
		h := w.hosts[host]
		h.VMs = append(h.VMs, testVM(id, 128, shape{}))
		vm = h.vm(id)
	}
	var s shape
	shaped := false
	err := each(args, func(k, v string) error {
		x, err := strconv.ParseFloat(v, 64)
		switch k {
		case "level":
			s.level, shaped = x, true
		case "slope":
			s.slope, shaped = x, true
		case "spread":
			s.spread, shaped = x, true
		case "mem":
			vm.Memory = MiB(x)
		case "dirty": // MiB/s
			vm.DirtyRate = BytesPerSecond(x * mib)
		default:
			return w.setVMWord(vm, k, v)
		}
		return err
	})
	if shaped {
		vm.CPU, vm.NowCPU = s.forecast(), Cores(s.level)
	}
	return err
}

func (w *world) setVMWord(vm *VM, k, v string) error {
	switch k {
	case "pin":
		vm.Policy.Pin = v
	case "mode":
		vm.Policy.Mode = Mode(v)
	case "avoid":
		vm.Policy.AntiAffinity = strings.Split(v, ",")
	case "near":
		vm.Policy.Affinity = strings.Split(v, ",")
	case "busy":
		vm.Busy = v
	case "guard":
		vm.Guarded = v == "yes"
	case "measured":
		vm.Measured, vm.Why = v == "yes", "process is gone"
	case "moved": // ago
		ago, err := time.ParseDuration(v)
		vm.History.LastMoved = w.now.Add(-ago)
		vm.History.Moves = []time.Time{vm.History.LastMoved}
		return err
	case "from":
		vm.History.LastFrom = HostID(v)
	default:
		return fmt.Errorf("unknown key %q", k)
	}
	return nil
}
