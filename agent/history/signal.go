package history

import "fmt"

// Signal is one measured quantity. Its number is part of the file format: numbers
// are never reused, new signals are added at the end.
type Signal uint8

// The signals and their units.
const (
	CPUUsed        Signal = 1 + iota // cores used
	CPUWait                          // cores waited for: run-queue wait per second
	Memory                           // MiB used by the guest, as the balloon tells
	RSS                              // MiB resident on the host
	DiskRead                         // bytes per second
	DiskWrite                        // bytes per second
	NetRx                            // bytes per second received by the guest's taps
	NetTx                            // bytes per second sent
	DirtyRate                        // bytes per second of guest memory dirtied
	MajorFaults                      // per second
	Switches                         // context switches per second
	PressureCPU                      // share of time, 0..1, from PSI
	PressureMemory                   // share of time, 0..1
	PressureIO                       // share of time, 0..1

	numSignals = int(PressureIO) + 1
)

// signalInfo gives each signal its name, its unit, and its resolution: values are
// kept as whole multiples of it, which is what makes them compress. Each resolution
// lies well below what the kernel's counters can tell apart in a second.
var signalInfo = [numSignals]struct {
	name, unit string
	perUnit    float64 // 1 / resolution
}{
	CPUUsed:        {"cpu_used", "cores", 1e4},
	CPUWait:        {"cpu_wait", "cores", 1e4},
	Memory:         {"memory", "MiB", 16},
	RSS:            {"rss", "MiB", 16},
	DiskRead:       {"disk_read", "bytes/s", 1},
	DiskWrite:      {"disk_write", "bytes/s", 1},
	NetRx:          {"net_rx", "bytes/s", 1},
	NetTx:          {"net_tx", "bytes/s", 1},
	DirtyRate:      {"dirty_rate", "bytes/s", 1},
	MajorFaults:    {"major_faults", "1/s", 10},
	Switches:       {"switches", "1/s", 10},
	PressureCPU:    {"pressure_cpu", "share", 1e4},
	PressureMemory: {"pressure_memory", "share", 1e4},
	PressureIO:     {"pressure_io", "share", 1e4},
}

// Valid tells whether s is a signal of this version.
func (s Signal) Valid() bool { return s >= CPUUsed && int(s) < numSignals }

// String returns the stable name, such as "cpu_used".
func (s Signal) String() string {
	if !s.Valid() {
		return fmt.Sprintf("signal(%d)", uint8(s))
	}
	return signalInfo[s].name
}

// Unit returns the unit of the signal's values, such as "cores".
func (s Signal) Unit() string {
	if !s.Valid() {
		return ""
	}
	return signalInfo[s].unit
}

// Resolution returns the step in which values of the signal are kept, in its unit.
func (s Signal) Resolution() float64 {
	if !s.Valid() {
		return 0
	}
	return 1 / signalInfo[s].perUnit
}

// Signals returns all signals in the order of their numbers.
func Signals() []Signal {
	out := make([]Signal, 0, numSignals-1)
	for s := CPUUsed; s.Valid(); s++ {
		out = append(out, s)
	}
	return out
}

// ParseSignal returns the signal of a name, as String writes it.
func ParseSignal(name string) (Signal, error) {
	for _, s := range Signals() {
		if s.String() == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("signal %q is not known; the first are cpu_used, cpu_wait, memory", name)
}
