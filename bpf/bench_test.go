package bpf

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The benchmarks sample helper processes of 8 sleeping threads each, and
// report the passing thread's CPU time a VM: on a shared machine the clock on
// the wall tells of the others.
//
//	go test ./bpf -run '^$' -bench Pass -benchtime 200x

const benchThreads = 8

func BenchmarkPassA(b *testing.B) { benchTier(b, TierSyscall) }
func BenchmarkPassB(b *testing.B) { benchTier(b, TierIter) }
func BenchmarkPassC(b *testing.B) { benchTier(b, TierProcfs) }

func benchTier(b *testing.B, tier Tier) {
	for _, n := range []int{50, 200} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			s := open(b, tier)
			if err := s.SetTargets(benchTargets(b, n)); err != nil {
				b.Fatal(err)
			}
			var list []Sample
			pass := func() {
				var err error
				if list, err = s.Sample(list); err != nil {
					b.Fatal(err)
				}
			}
			for range nameReads + 1 {
				pass()
			}
			for i := range list {
				if !list[i].Valid {
					b.Fatal(list[i].Reason)
				}
			}
			perVM(b, n, pass)
		})
	}
}

// BenchmarkPassReadFile is what a monitor costs that opens and reads the files
// in each pass: stat, io and every thread's schedstat.
func BenchmarkPassReadFile(b *testing.B) {
	for _, n := range []int{50, 200} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			targets := benchTargets(b, n)
			perVM(b, n, func() {
				for _, t := range targets {
					readFiles(b, t.PID)
				}
			})
		})
	}
}

func readFiles(b *testing.B, pid int) {
	dir := fmt.Sprintf("/proc/%d", pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		b.Fatal(err)
	}
	if _, ok := parseStat(stat); !ok {
		b.Fatal("stat not understood")
	}
	if io, err := os.ReadFile(dir + "/io"); err == nil {
		parseIO(io)
	}
	threads, err := os.ReadDir(dir + "/task")
	if err != nil {
		b.Fatal(err)
	}
	for _, t := range threads {
		text, err := os.ReadFile(filepath.Join(dir, "task", t.Name(), "schedstat"))
		if err != nil {
			continue
		}
		parseSchedstat(text)
	}
}

// perVM times passes on this thread's CPU clock.
func perVM(b *testing.B, vms int, pass func()) {
	b.ReportAllocs()
	b.ResetTimer()
	start := clock(unix.CLOCK_PROCESS_CPUTIME_ID)
	for range b.N {
		pass()
	}
	used := clock(unix.CLOCK_PROCESS_CPUTIME_ID) - start
	b.ReportMetric(float64(used)/float64(time.Microsecond)/float64(b.N)/float64(vms), "us/VM")
	b.ReportMetric(float64(used)/float64(time.Microsecond)/float64(b.N), "us/pass")
}

var benchVMs []*helper

// benchTargets starts helpers once for all benchmarks; they die with the test.
func benchTargets(b *testing.B, n int) []Target {
	b.Helper()
	for len(benchVMs) < n {
		h := launch(b, "threads")
		h.do("fill", strconv.Itoa(benchThreads))
		benchVMs = append(benchVMs, h)
	}
	targets := make([]Target, n)
	for i := range targets {
		targets[i] = Target{ID: strconv.Itoa(i), PID: benchVMs[i].pid()}
	}
	return targets
}

// BenchmarkSwitch hands a byte to and fro between two threads of one CPU, with
// and without the wait-tail hook: two switches an operation.
func BenchmarkSwitch(b *testing.B) {
	for _, on := range []bool{false, true, false, true} {
		b.Run("hook="+strconv.FormatBool(on), func(b *testing.B) {
			s := open(b, TierSyscall)
			if on {
				if err := s.Enable(FeatureWaitTail); err != nil {
					skipOr(b, "%v", err)
				}
			}
			h := launch(b, "threads")
			b.Cleanup(h.kill)
			for _, name := range []string{"CPU 0/KVM", "CPU 1/KVM"} {
				h.start(name)
				h.do("share", name, "0")
			}
			if err := s.SetTargets([]Target{{ID: "vm", PID: h.pid()}}); err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			cpu, err := time.ParseDuration(h.do("pingpong", "CPU 0/KVM", "CPU 1/KVM", strconv.Itoa(b.N)))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(cpu)/float64(b.N)/2, "cpu-ns/switch")
		})
	}
}

// BenchmarkLinks reads the interfaces of this network namespace.
func BenchmarkLinks(b *testing.B) {
	l := openLinks(b)
	perVM(b, 1, func() {
		if err := l.Read(); err != nil {
			b.Fatal(err)
		}
	})
	b.ReportMetric(float64(l.Len()), "links")
}
