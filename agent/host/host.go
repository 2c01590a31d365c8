package host

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Options says where to read. The zero value reads this machine.
type Options struct {
	ProcRoot      string // default /proc
	SysRoot       string // default /sys
	MachineCgroup string // cgroup of the VMs below the cgroup root, as in /proc/PID/cgroup; "" = the root
	DataDir       string // directory whose free space is reported; "" = none
}

// Reader reads the host's status. It holds only paths and may be shared.
type Reader struct {
	proc, sys string
	cgroup    string
	dataDir   string
}

// Status is one reading.
type Status struct {
	CPU    CPU    `json:"cpu"`
	Memory Memory `json:"memory"`

	// Pressure is the kernel's pressure stall information; nil when absent.
	CPUPressure    *Pressure `json:"cpu_pressure,omitempty"`
	MemoryPressure *Pressure `json:"memory_pressure,omitempty"`
	IOPressure     *Pressure `json:"io_pressure,omitempty"`

	Load *Load `json:"load,omitempty"` // nil when absent
	// Switches counts the context switches of all CPUs since boot; 0 when absent.
	Switches  uint64 `json:"context_switches,omitempty"`
	NUMANodes int    `json:"numa_nodes,omitempty"` // 0 when absent
	Own       *Own   `json:"own,omitempty"`        // this process; nil when absent
	Disk      *Disk  `json:"disk,omitempty"`       // file system of the data directory; nil when absent
	Links     []Link `json:"links,omitempty"`      // physical network links, by name

	// Absent says, by the name of the JSON field, why a part is missing or partial.
	Absent map[string]string `json:"absent,omitempty"`
}

// CPU is the processor capacity.
type CPU struct {
	Online   int     `json:"online"`             // CPUs the kernel schedules on
	Cores    float64 `json:"cores"`              // capacity in cores: online less cpuset and quota
	Quota    float64 `json:"quota,omitempty"`    // the tightest quota in cores; 0 = none
	QuotaAt  string  `json:"quota_at,omitempty"` // the cgroup that sets it
	CPUSet   int     `json:"cpuset,omitempty"`   // CPUs of the VM cgroup's cpuset; 0 = none known
	CPUSetAt string  `json:"cpuset_at,omitempty"`
}

// Memory is the memory capacity.
type Memory struct {
	TotalMiB     float64 `json:"total_mib"`           // of the machine
	AvailableMiB float64 `json:"available_mib"`       // MemAvailable: can be had without swapping
	CapacityMiB  float64 `json:"capacity_mib"`        // total less the cgroup's memory limit
	LimitMiB     float64 `json:"limit_mib,omitempty"` // the tightest limit; 0 = none
	LimitAt      string  `json:"limit_at,omitempty"`  // the cgroup that sets it
	SwapUsedMiB  float64 `json:"swap_used_mib"`       // swap in use
}

// Pressure is one file of /proc/pressure. Shares are of wall time, 0..1.
type Pressure struct {
	Some10    float64       `json:"some10"` // share of the last 10 s in which at least one task stalled
	Some60    float64       `json:"some60"`
	Some300   float64       `json:"some300"`
	Full10    float64       `json:"full10"` // share in which all did; 0 where the kernel has no "full" line
	Full60    float64       `json:"full60"`
	Full300   float64       `json:"full300"`
	SomeTotal time.Duration `json:"some_total_ns"` // cumulative stall time
	FullTotal time.Duration `json:"full_total_ns"`
}

// Load is /proc/loadavg.
type Load struct {
	One      float64 `json:"one"`
	Five     float64 `json:"five"`
	Fifteen  float64 `json:"fifteen"`
	Runnable int     `json:"runnable"` // tasks runnable now
	Tasks    int     `json:"tasks"`    // tasks in all
}

// Own is the cost of this process.
type Own struct {
	CPU     time.Duration `json:"cpu_ns"` // user and system time since start, cumulative
	RSSMiB  float64       `json:"rss_mib"`
	Threads int           `json:"threads"`
}

// Disk is the file system of the data directory.
type Disk struct {
	TotalMiB float64 `json:"total_mib"`
	FreeMiB  float64 `json:"free_mib"` // for an unprivileged process
}

// Link is one network interface with a device behind it.
type Link struct {
	Name    string `json:"name"`
	Up      bool   `json:"up"`
	SpeedMb int    `json:"speed_mbps,omitempty"` // megabits per second; 0 when Why is set
	Why     string `json:"why,omitempty"`        // why the speed is not known
}

// New returns a Reader.
func New(o Options) *Reader {
	r := &Reader{proc: o.ProcRoot, sys: o.SysRoot, cgroup: o.MachineCgroup, dataDir: o.DataDir}
	if r.proc == "" {
		r.proc = "/proc"
	}
	if r.sys == "" {
		r.sys = "/sys"
	}
	return r
}

// Status reads everything. The error names what must be had and is not: the number
// of CPUs or the size of the memory. The rest of Status is filled all the same.
func (r *Reader) Status() (Status, error) {
	s := Status{Absent: map[string]string{}}
	absent := func(name string, err error) {
		if err != nil {
			s.Absent[name] = err.Error()
		}
	}
	cpuErr := r.cpu(&s, absent)
	memErr := r.memory(&s, absent)
	var err error
	s.CPUPressure, err = r.pressure("cpu")
	absent("cpu_pressure", err)
	s.MemoryPressure, err = r.pressure("memory")
	absent("memory_pressure", err)
	s.IOPressure, err = r.pressure("io")
	absent("io_pressure", err)
	s.Load, err = r.load()
	absent("load", err)
	s.Switches, err = r.switches()
	absent("context_switches", err)
	s.NUMANodes, err = r.numaNodes()
	absent("numa_nodes", err)
	s.Own, err = r.own()
	absent("own", err)
	s.Disk, err = r.disk()
	absent("disk", err)
	s.Links, err = r.links()
	absent("links", err)
	return s, errors.Join(cpuErr, memErr)
}

// maxFile bounds each kernel file that is read; /proc/meminfo has about 1.5 KiB.
const maxFile = 64 << 10

// readFile reads a small kernel file, refusing more than maxFile bytes.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return b, nil
}
