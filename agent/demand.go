package agent

import (
	"math"

	"headroom/agent/config"
	"headroom/bpf"
	"headroom/predict"
)

// signal is one demand of a VM that is forecast. Demand for cores always is; the
// others are where the configuration gives the host a limit for them.
type signal int

const (
	signalCPU signal = iota
	signalMemory
	signalDisk
	signalNetwork
	signals
)

// String is the signal's name in blobs, messages and texts.
func (s signal) String() string {
	return [signals]string{"cpu", "memory", "disk", "network"}[s]
}

// signalNamed is the signal of a name; false for an unknown one.
func signalNamed(name string) (signal, bool) {
	for s := range signals {
		if s.String() == name {
			return s, true
		}
	}
	return 0, false
}

// unit of the signal's values.
func (s signal) unit() string {
	return [signals]string{"cores", "MiB", "bytes/s", "bytes/s"}[s]
}

// forecastSignals are those that a configuration asks for.
func forecastSignals(c config.Planner) []signal {
	on := [signals]bool{true, c.MemoryOvercommit > 1, c.DiskBandwidth > 0, c.NetworkBandwidth > 0}
	var out []signal
	for s := range signals {
		if on[s] {
			out = append(out, s)
		}
	}
	return out
}

// asks is what the VM asked for in the last window; NaN when not known. What a
// saturated disk or network held back is not seen: their limits lie below that.
func (v *vm) asks(s signal) float64 {
	switch s {
	case signalCPU:
		return v.demand
	case signalMemory:
		if !v.sample.Has(bpf.SignalRSS) {
			return math.NaN()
		}
		return float64(v.sample.RSS) / (1 << 20)
	case signalDisk:
		return v.now.diskRead + v.now.diskWrite
	default:
		return math.Max(v.now.network.rx, v.now.network.tx)
	}
}

// most is what the VM can ask for at all; +Inf where nothing bounds it.
func (v *vm) most(s signal) float64 {
	switch {
	case s == signalCPU && v.dom.VCPUs > 0:
		return float64(v.dom.VCPUs) * (1 + besideVCPUs)
	case s == signalMemory && v.dom.MaxMemoryMiB > 0:
		return v.dom.MaxMemoryMiB
	}
	return math.Inf(1)
}

// besideVCPUs is the share of its virtual CPUs that a VM's other threads
// (emulator, I/O, vhost) are taken to want at most.
const besideVCPUs = 0.1

// refresh forecasts anew. No forecast exceeds what the VM can use at all: a climb
// under contention, where every waiting thread counts, would otherwise be continued
// beyond the VM's virtual CPUs.
func (v *vm) refresh() {
	for s, m := range v.models {
		if m == nil {
			continue
		}
		f, most := m.Forecast(), v.most(signal(s))
		for i := range f.Steps {
			bound(&f.Steps[i], most)
		}
		bound(&f.Peak, most)
		v.forecasts[s] = f
	}
	v.hot = v.models[signalCPU].HotSpots()
}

// bound cuts the quantiles at most; unknown ones stay unknown.
func bound(q *predict.Quantiles, most float64) {
	for i := range q {
		if q[i] > most {
			q[i] = most
		}
	}
}

// miss tells every forecaster that a window was not seen.
func (v *vm) miss() {
	for _, m := range v.models {
		if m != nil {
			m.Observe(math.NaN())
		}
	}
}
