package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// clockTick is USER_HZ, which is 100 on every architecture that Linux's KVM runs on.
const clockTick = 10 * time.Millisecond

func (r *Reader) cpu(s *Status, absent func(string, error)) error {
	b, err := readFile(filepath.Join(r.sys, "devices/system/cpu/online"))
	if err != nil {
		return fmt.Errorf("count the online CPUs: %w", err)
	}
	n, err := parseCPUList(b)
	if err != nil || n == 0 {
		return fmt.Errorf("count the online CPUs: %w", errors.Join(err, errors.New("is sysfs mounted?")))
	}
	s.CPU = CPU{Online: n, Cores: float64(n)}
	at, set, err := r.cpuset()
	absent("cpu.cpuset", err)
	if set > 0 && set <= n {
		s.CPU.CPUSet, s.CPU.CPUSetAt, s.CPU.Cores = set, at, float64(set)
	}
	at, quota, err := r.cpuQuota()
	absent("cpu.quota", err)
	if quota > 0 {
		s.CPU.Quota, s.CPU.QuotaAt = quota, at
		s.CPU.Cores = min(s.CPU.Cores, quota)
	}
	return nil
}

func (r *Reader) memory(s *Status, absent func(string, error)) error {
	b, err := readFile(filepath.Join(r.proc, "meminfo"))
	if err == nil {
		s.Memory, err = parseMeminfo(b)
	}
	if err != nil {
		return fmt.Errorf("read the size of the memory: %w", err)
	}
	s.Memory.CapacityMiB = s.Memory.TotalMiB
	at, limit, err := r.memoryLimit()
	absent("memory.limit", err)
	if limit > 0 && limit < s.Memory.TotalMiB {
		s.Memory.LimitMiB, s.Memory.LimitAt, s.Memory.CapacityMiB = limit, at, limit
	}
	return nil
}

func (r *Reader) switches() (uint64, error) {
	b, err := readFile(filepath.Join(r.proc, "stat"))
	if err != nil {
		return 0, err
	}
	return parseSwitches(b)
}

func (r *Reader) pressure(kind string) (*Pressure, error) {
	b, err := readFile(filepath.Join(r.proc, "pressure", kind))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("the kernel has no pressure stall information; boot with psi=1 to have it")
	}
	// A kernel booted without psi=1 may show the files and refuse to read them.
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, errors.New("pressure stall information is switched off; boot with psi=1 to have it")
	}
	if err != nil {
		return nil, err
	}
	p, err := parsePressure(b)
	if err != nil {
		return nil, err
	}
	return &p, nil
}

func (r *Reader) load() (*Load, error) {
	b, err := readFile(filepath.Join(r.proc, "loadavg"))
	if err != nil {
		return nil, err
	}
	l, err := parseLoadavg(b)
	if err != nil {
		return nil, err
	}
	return &l, nil
}

func (r *Reader) numaNodes() (int, error) {
	b, err := readFile(filepath.Join(r.sys, "devices/system/node/online"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, errors.New("the kernel is built without NUMA")
	}
	if err != nil {
		return 0, err
	}
	return parseCPUList(b) // node lists have the same form
}

func (r *Reader) own() (*Own, error) {
	b, err := readFile(filepath.Join(r.proc, "self/stat"))
	if err != nil {
		return nil, err
	}
	o, err := parseOwn(b, os.Getpagesize(), clockTick)
	if err != nil {
		return nil, err
	}
	return &o, nil
}

func (r *Reader) disk() (*Disk, error) {
	if r.dataDir == "" {
		return nil, errors.New("no data directory is configured")
	}
	var st unix.Statfs_t
	if err := unix.Statfs(r.dataDir, &st); err != nil {
		return nil, fmt.Errorf("statfs %s: %w", r.dataDir, err)
	}
	block := float64(st.Bsize)
	return &Disk{TotalMiB: float64(st.Blocks) * block / mib, FreeMiB: float64(st.Bavail) * block / mib}, nil
}

// maxLinks bounds the physical interfaces listed.
const maxLinks = 64

// links lists interfaces that have a device behind them: taps, bridges and the
// like have none and would drown the list on a host with hundreds of VMs.
func (r *Reader) links() ([]Link, error) {
	dir := filepath.Join(r.sys, "class/net")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []Link
	for _, e := range entries {
		base := filepath.Join(dir, e.Name())
		if _, err := os.Stat(filepath.Join(base, "device")); err != nil {
			continue
		}
		if len(out) == maxLinks {
			return out, fmt.Errorf("only the first %d links are listed", maxLinks)
		}
		out = append(out, readLink(base, e.Name()))
	}
	if len(out) == 0 {
		return nil, errors.New("no interface has a device behind it")
	}
	return out, nil
}

func readLink(base, name string) Link {
	l := Link{Name: name}
	if b, err := readFile(filepath.Join(base, "operstate")); err == nil {
		l.Up = strings.TrimSpace(string(b)) == "up"
	}
	b, err := readFile(filepath.Join(base, "speed"))
	if err == nil {
		l.SpeedMb, err = parseSpeed(b)
	} else if errors.Is(err, unix.EINVAL) || errors.Is(err, fs.ErrNotExist) {
		err = errors.New("the driver does not report a speed, or the link is down")
	}
	if err != nil {
		l.Why = err.Error()
	}
	return l
}
