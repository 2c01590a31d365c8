package host

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// The functions of this file turn the text of one kernel file into numbers. They
// open nothing, so that they are tested and fuzzed on plain bytes.

const mib = 1 << 20

// parseCPUList counts the CPUs of a list such as "0-3,8", the form of
// /sys/devices/system/cpu/online and of cpusets. An empty list is 0 CPUs.
func parseCPUList(b []byte) (int, error) {
	text := strings.TrimSpace(string(b))
	if text == "" {
		return 0, nil
	}
	n, next := 0, 0
	for _, part := range strings.Split(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		lo, err := strconv.Atoi(first)
		hi := lo
		if err == nil && isRange {
			hi, err = strconv.Atoi(last)
		}
		// Kernel lists ascend and have at most NR_CPUS entries; anything else is not one.
		if err != nil || lo < next || hi < lo || hi >= 1<<16 {
			return 0, fmt.Errorf("%.40q is not a CPU list", text)
		}
		n += hi - lo + 1
		next = hi + 1
	}
	return n, nil
}

// parseCPUMax reads cgroup v2's cpu.max, "max 100000" or "150000 100000", as cores;
// ok is false when there is no quota.
func parseCPUMax(b []byte) (cores float64, ok bool, err error) {
	f := strings.Fields(string(b))
	if len(f) != 2 {
		return 0, false, fmt.Errorf("%.40q is not a cpu.max", b)
	}
	if f[0] == "max" {
		return 0, false, nil
	}
	return quota(f[0], f[1])
}

// quota divides a quota by its period, both in microseconds. A negative quota is
// how cgroup v1 says that there is none.
func quota(quotaText, periodText string) (cores float64, ok bool, err error) {
	q, err := strconv.ParseInt(strings.TrimSpace(quotaText), 10, 64)
	if err != nil {
		return 0, false, fmt.Errorf("%.40q is not a CPU quota", quotaText)
	}
	if q < 0 {
		return 0, false, nil
	}
	p, err := strconv.ParseInt(strings.TrimSpace(periodText), 10, 64)
	if err != nil || p <= 0 || q == 0 {
		return 0, false, fmt.Errorf("quota %.40q with period %.40q is not a share of CPU", quotaText, periodText)
	}
	return float64(q) / float64(p), true, nil
}

// parseLimit reads a memory limit in bytes as MiB; ok is false for "max" and for
// cgroup v1's way to say the same, a page-rounded 2^63.
func parseLimit(b []byte) (limitMiB float64, ok bool, err error) {
	text := strings.TrimSpace(string(b))
	if text == "max" {
		return 0, false, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, false, fmt.Errorf("%.40q is not a memory limit", text)
	}
	if n >= 1<<62 {
		return 0, false, nil
	}
	return float64(n) / mib, true, nil
}

// parseMeminfo reads /proc/meminfo.
func parseMeminfo(b []byte) (Memory, error) {
	kib := map[string]float64{"MemTotal": math.NaN(), "MemAvailable": math.NaN(), "SwapTotal": 0, "SwapFree": 0}
	for line := range strings.Lines(string(b)) {
		name, rest, ok := strings.Cut(line, ":")
		if _, wanted := kib[name]; !ok || !wanted {
			continue
		}
		f := strings.Fields(rest)
		if len(f) != 2 || f[1] != "kB" {
			return Memory{}, fmt.Errorf("meminfo has %.60q", line)
		}
		n, err := strconv.ParseUint(f[0], 10, 53)
		if err != nil {
			return Memory{}, fmt.Errorf("meminfo has %.60q", line)
		}
		kib[name] = float64(n)
	}
	m := Memory{
		TotalMiB:     kib["MemTotal"] / 1024,
		AvailableMiB: kib["MemAvailable"] / 1024,
		SwapUsedMiB:  max(0, kib["SwapTotal"]-kib["SwapFree"]) / 1024,
	}
	if !(m.TotalMiB > 0) || math.IsNaN(m.AvailableMiB) {
		return Memory{}, errors.New("meminfo lacks MemTotal or MemAvailable")
	}
	return m, nil
}

// parsePressure reads one file of /proc/pressure.
func parsePressure(b []byte) (Pressure, error) {
	var p Pressure
	some := false
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		var avg [3]*float64
		var total *time.Duration
		switch f[0] {
		case "some":
			avg, total, some = [3]*float64{&p.Some10, &p.Some60, &p.Some300}, &p.SomeTotal, true
		case "full":
			avg, total = [3]*float64{&p.Full10, &p.Full60, &p.Full300}, &p.FullTotal
		default:
			continue // a line of a future kernel
		}
		if err := parsePressureLine(f[1:], avg, total); err != nil {
			return Pressure{}, err
		}
	}
	if !some {
		return Pressure{}, errors.New(`pressure file has no "some" line`)
	}
	return p, nil
}

func parsePressureLine(fields []string, avg [3]*float64, total *time.Duration) error {
	names := [3]string{"avg10", "avg60", "avg300"}
	for _, f := range fields {
		key, val, _ := strings.Cut(f, "=")
		if key == "total" {
			us, err := strconv.ParseUint(val, 10, 63)
			if err != nil || us > math.MaxInt64/1000 {
				return fmt.Errorf("pressure total %.40q is not microseconds", val)
			}
			*total = time.Duration(us) * time.Microsecond
			continue
		}
		for i, n := range names {
			if key != n {
				continue
			}
			v, err := strconv.ParseFloat(val, 64)
			if err != nil || !(v >= 0 && v <= 100) {
				return fmt.Errorf("pressure %s=%.40q is not a percentage", key, val)
			}
			*avg[i] = v / 100
		}
	}
	return nil
}

// parseLoadavg reads /proc/loadavg: "0.20 0.18 0.12 1/80 11206".
func parseLoadavg(b []byte) (Load, error) {
	bad := fmt.Errorf("%.60q is not a loadavg", b)
	f := strings.Fields(string(b))
	if len(f) != 5 {
		return Load{}, bad
	}
	var avg [3]float64
	for i := range avg {
		v, err := strconv.ParseFloat(f[i], 64)
		if err != nil || !(v >= 0 && v < 1e9) {
			return Load{}, bad
		}
		avg[i] = v
	}
	run, all, ok := strings.Cut(f[3], "/")
	r, err1 := strconv.Atoi(run)
	a, err2 := strconv.Atoi(all)
	if !ok || err1 != nil || err2 != nil || r < 0 || a < 0 {
		return Load{}, bad
	}
	return Load{One: avg[0], Five: avg[1], Fifteen: avg[2], Runnable: r, Tasks: a}, nil
}

// parseOwn reads /proc/self/stat. pageSize is in bytes, tick the length of the
// kernel's clock tick.
func parseOwn(b []byte, pageSize int, tick time.Duration) (Own, error) {
	// The command name stands in parentheses and may itself hold spaces and
	// parentheses, so fields are counted from the last one.
	text := string(b)
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	const utime, stime, threads, rss = 11, 12, 17, 21
	if len(f) <= rss {
		return Own{}, fmt.Errorf("%.60q is not a process stat", b)
	}
	var n [4]uint64
	for i, at := range []int{utime, stime, threads, rss} {
		v, err := strconv.ParseUint(f[at], 10, 48)
		if err != nil {
			return Own{}, fmt.Errorf("process stat field %d is %.40q", at+3, f[at])
		}
		n[i] = v
	}
	ticks := n[0] + n[1]
	if ticks > uint64(math.MaxInt64/tick) {
		return Own{}, fmt.Errorf("process stat has %d clock ticks", ticks)
	}
	return Own{CPU: time.Duration(ticks) * tick, Threads: int(n[2]), RSSMiB: float64(n[3]) * float64(pageSize) / mib}, nil
}

// parseSpeed reads /sys/class/net/IF/speed in Mb/s; the kernel says -1 for unknown.
func parseSpeed(b []byte) (int, error) {
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("%.40q is not a link speed", b)
	}
	if n <= 0 || n > 100_000_000 {
		return 0, errors.New("the driver does not know its speed")
	}
	return n, nil
}

// parseSwitches reads the line "ctxt N" of /proc/stat.
func parseSwitches(b []byte) (uint64, error) {
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "ctxt "); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(rest), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("context switches in stat: %w", err)
			}
			return n, nil
		}
	}
	return 0, errors.New("stat has no line ctxt")
}
