package bpf

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
)

// What did not run is not read again, so whatever happens in whatever order, at
// rest the books must agree with /proc.
func TestBooksAgreeWhateverRuns(t *testing.T) {
	for _, tier := range []Tier{TierSyscall, TierIter} {
		t.Run(string(tier), func(t *testing.T) {
			s := open(t, tier)
			hs := []*helper{startHelper(t), startHelper(t)}
			var targets []Target
			running := make([]map[string]int, len(hs))
			for i, h := range hs {
				targets = append(targets, Target{ID: fmt.Sprint(i), PID: h.pid()})
				running[i] = map[string]int{}
			}
			if err := s.SetTargets(targets); err != nil {
				t.Fatal(err)
			}
			seed := uint64(time.Now().UnixNano())
			r := rand.New(rand.NewPCG(seed, 0))
			for step := range 120 {
				which := r.IntN(len(hs))
				what := disturb(r, hs[which], running[which], step)
				for i, h := range hs {
					if why := disagreement(t, s, i, h.pid()); why != "" {
						t.Fatalf("seed %d, step %d, after %s in process %d: process %d: %s", seed, step, what, which, i, why)
					}
				}
			}
		})
	}
}

// disturb does one random thing to a helper.
func disturb(r *rand.Rand, h *helper, running map[string]int, step int) string {
	name := fmt.Sprintf("CPU %d/KVM", step)
	for name = range running { // any one
		break
	}
	switch n := r.IntN(6); {
	case len(running) == 0 || n == 0 && len(running) < 12:
		name = fmt.Sprintf("CPU %d/KVM", step)
		running[name] = h.start(name)
		return "start " + name
	case n == 1:
		h.stop(name, running[name])
		delete(running, name)
		return "stop " + name
	case n == 2:
		return "nothing"
	}
	h.do("spin", name, "2")
	return "spin " + name
}

// books are what /proc tells of a process.
type books struct {
	cpu, wait time.Duration
	voluntary uint64
	threads   int
}

func procBooks(t *testing.T, pid int) (b books) {
	t.Helper()
	cpu, wait := procTotals(t, pid)
	for _, c := range cpu {
		b.cpu += c
	}
	b.wait, b.threads = wait, len(tids(pid))
	for _, tid := range tids(pid) {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", pid, tid))
		_, after, _ := strings.Cut(string(text), "\nvoluntary_ctxt_switches:")
		var n uint64
		_, _ = fmt.Sscan(after, &n)
		b.voluntary += n
	}
	return b
}

// disagreement compares the records of a process's live threads with /proc, at
// a moment of rest.
func disagreement(t *testing.T, s *Sampler, target, pid int) string {
	t.Helper()
	var list []Sample
	var want books
	until(t, "the helper to be still", func() bool {
		before := procBooks(t, pid)
		var err error
		if list, err = s.Sample(nil); err != nil {
			t.Fatal(err)
		}
		want = procBooks(t, pid)
		return before == want
	})
	got := books{threads: list[target].Threads}
	k := s.reader.(*kernelReader)
	for i := range k.threads[:k.header.Used] {
		if th := &k.threads[i]; int(th.Walk) == target {
			got.cpu += time.Duration(th.Cpu)
			got.wait += time.Duration(th.Wait)
			got.voluntary += th.Voluntary
		}
	}
	if got != want {
		return fmt.Sprintf("read %+v, /proc says %+v", got, want)
	}
	var gained time.Duration
	for _, c := range s.walks[target].account.cpu {
		gained += time.Duration(c)
	}
	if list[target].CPU() != gained {
		return fmt.Sprintf("the sample says %v, its account %v", list[target].CPU(), gained)
	}
	return ""
}

// The kernel brings a running thread's time up to date at its ticks, every 1 to
// 10 ms; a window shorter than that must show the running all the same.
func TestShortWindowsShowTheRunning(t *testing.T) {
	s := open(t, TierSyscall)
	h := startHelper(t)
	h.start("CPU 0/KVM")
	setTarget(t, s, h.pid())
	last := one(t, s)
	done := make(chan bool)
	go func() {
		h.do("burn", "CPU 0/KVM", "300")
		close(done)
	}()
	var windows, blank int
	for {
		now := one(t, s)
		if now.At-last.At < time.Millisecond {
			continue
		}
		window := now.At - last.At
		if gain := now.VCPU - last.VCPU + now.VCPUWait - last.VCPUWait; gain < window/2 {
			blank++
		}
		windows++
		last = now
		select {
		case <-done:
			if windows < 20 || blank > windows/4 {
				t.Errorf("%d of %d windows show less than half of a thread that always ran or waited", blank, windows)
			}
			return
		default:
		}
	}
}
