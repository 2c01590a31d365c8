package history

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// load plays demand of a VM: a day's wave, correlated noise, bursts, and a memory
// that creeps. It is rougher than most real series, so that the bytes per sample that
// it gives are not flattering.
type load struct {
	rng   *rand.Rand
	noise float64
	burst int
}

func (l *load) next(second int, s Signal) float64 {
	l.noise = 0.9*l.noise + 0.1*l.rng.NormFloat64()
	if l.burst--; l.burst < -300 && l.rng.IntN(200) == 0 {
		l.burst = 30
	}
	level := 0.5 + 0.3*math.Sin(float64(second)/86400*2*math.Pi) + 0.5*l.noise
	if l.burst > 0 {
		level += 1
	}
	level = max(0, level)
	switch s {
	case CPUWait:
		return max(0, level-1) * 0.2
	case Memory, RSS:
		return 2048 + math.Floor(float64(second)/60) + math.Round(l.noise*4)
	case DiskRead, DiskWrite, NetRx, NetTx:
		return math.Round(level * 1e6 * (1 + 0.2*l.rng.NormFloat64()))
	}
	return level
}

var benchSignals = []Signal{CPUUsed, CPUWait, Memory, RSS, DiskRead, DiskWrite, NetRx, NetTx}

// fill plays seconds of vms VMs with eight signals each into s.
func fill(b *testing.B, s *Store, c *clock, vms, from, seconds int) {
	loads := make([]load, vms*len(benchSignals))
	names := make([]string, vms)
	for i := range loads {
		loads[i].rng = rand.New(rand.NewPCG(uint64(i), 7))
	}
	for i := range names {
		names[i] = fmt.Sprintf("3f2b9c1e-0000-4000-8000-%012d", i)
	}
	for t := from; t < from+seconds; t++ {
		at := epoch.Add(time.Duration(t) * time.Second)
		c.Set(at)
		for v := range vms {
			for i, sig := range benchSignals {
				must(b, s.Append(at, Key{names[v], sig}, loads[v*len(benchSignals)+i].next(t, sig)))
			}
		}
		must(b, s.Flush())
	}
}

// BenchmarkAppend is the cost of one sample in memory.
func BenchmarkAppend(b *testing.B) {
	c := &clock{now: epoch}
	s := openTest(b, b.TempDir(), c, nil)
	var keys []Key
	for v := range 200 {
		for _, sig := range benchSignals {
			keys = append(keys, Key{fmt.Sprint("vm", v), sig})
		}
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		at := epoch.Add(time.Duration(i/len(keys)) * time.Second)
		if err := s.Append(at, keys[i%len(keys)], float64(i%1000)/100); err != nil {
			b.Fatal(err)
		}
		if i++; i%(len(keys)*60) == 0 {
			b.StopTimer()
			c.Set(at)
			must(b, s.Flush())
			b.StartTimer()
		}
	}
}

// BenchmarkSecond is the whole cost of one second of 200 VMs with 8 signals each:
// appends, flush, and the sealing that falls due.
func BenchmarkSecond(b *testing.B) {
	c := &clock{now: epoch}
	s := openTest(b, b.TempDir(), c, nil)
	fill(b, s, c, 200, 0, 130)
	t, before := 130, processCPU()
	for b.Loop() {
		fill(b, s, c, 200, t, 1)
		t++
	}
	b.ReportMetric(float64((processCPU()-before).Microseconds())/float64(b.N), "cpu-us/op")
}

// processCPU is the CPU time of this process, which a busy machine does not inflate
// as it does the wall clock.
func processCPU() time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// BenchmarkFootprint plays 40 minutes of 100 VMs, and reports bytes per point of
// each tier, disk and memory. Run with -benchtime 1x.
func BenchmarkFootprint(b *testing.B) {
	c := &clock{now: epoch}
	s := openTest(b, b.TempDir(), c, nil)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for second := 0; b.Loop(); second += 2400 {
		fill(b, s, c, 100, second, 2400)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	for _, step := range s.steps {
		if bytes, points := stored(b, s, step); points > 0 {
			b.ReportMetric(bytes/points, fmt.Sprintf("B/point-%ds", step))
		}
	}
	st := s.Stats()
	b.ReportMetric(float64(st.DiskBytes)/(1<<20), "disk-MiB")
	b.ReportMetric((float64(after.HeapInuse)-float64(before.HeapInuse))/(1<<20), "heap-MiB")
	b.ReportMetric(float64(st.Appended), "samples")
}

// stored sums the chunks of a step, keys included.
func stored(b *testing.B, s *Store, step int64) (bytes, points float64) {
	must(b, s.scanKeys(tierPrefix(prefixChunk, step), func(key []byte) {
		value, _, err := s.db.get(key)
		must(b, err)
		cols, err := decodeChunk(value)
		must(b, err)
		bytes += float64(len(key) + len(value))
		for _, c := range cols {
			if c != nil {
				points += float64(len(c.slots))
			}
		}
	}))
	return bytes, points
}
