package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func ptr(b []byte) unsafe.Pointer { return unsafe.Pointer(&b[0]) }

// one samples a single target.
func one(t testing.TB, s *Sampler) Sample {
	t.Helper()
	list, err := s.Sample(nil)
	if err != nil {
		t.Fatal(err)
	}
	return list[0]
}

func setTarget(t testing.TB, s *Sampler, pid int) {
	t.Helper()
	if err := s.SetTargets([]Target{{ID: "vm", PID: pid}}); err != nil {
		t.Fatal(err)
	}
}

// still samples at a moment when /proc tells the same before and after, and
// returns both.
func still(t *testing.T, s *Sampler, pid int) (sample Sample, cpu [roles]time.Duration, wait time.Duration) {
	t.Helper()
	until(t, "the helper to be still", func() bool {
		cpu0, wait0 := procTotals(t, pid)
		sample = one(t, s)
		cpu, wait = procTotals(t, pid)
		return cpu0 == cpu && wait0 == wait
	})
	return sample, cpu, wait
}

func TestEveryTierTellsWhatProcTells(t *testing.T) {
	for _, tier := range allTiers {
		t.Run(string(tier), func(t *testing.T) {
			s := open(t, tier)
			h := startHelper(t)
			for _, name := range []string{"CPU 0/KVM", "CPU 1/TCG", "IO iothread1", "vhost-1234", "worker"} {
				h.start(name)
			}
			setTarget(t, s, h.pid())
			before, cpu0, wait0 := still(t, s, h.pid())
			if !before.Valid {
				t.Fatalf("not sampled: %s", before.Reason)
			}
			h.do("spin", "CPU 0/KVM", "60")
			h.do("spin", "CPU 1/TCG", "40")
			h.do("spin", "IO iothread1", "30")
			h.do("spin", "vhost-1234", "20")
			h.do("spin", "worker", "10")
			after, cpu1, wait1 := still(t, s, h.pid())

			got := [roles]time.Duration{
				roleVCPU:     after.VCPU - before.VCPU,
				roleIOThread: after.IOThread - before.IOThread,
				roleVhost:    after.Vhost - before.Vhost,
				roleEmulator: after.Emulator - before.Emulator,
			}
			for r := range got {
				want := cpu1[r] - cpu0[r]
				// Tier C takes exited threads' CPU from ticks: it may show the
				// emulator's late, and never invents it.
				if got[r] != want {
					t.Errorf("CPU of role %d is %v, /proc says %v", r, got[r], want)
				}
			}
			if got[roleVCPU] < 100*time.Millisecond {
				t.Errorf("vCPUs used %v of the 100 ms that they spun", got[roleVCPU])
			}
			if got, want := endedWaits(s), wait1; got != want {
				t.Errorf("waits that ended are %v, /proc says %v", got, want)
			}
			if got, want := after.Wait-before.Wait, wait1-wait0; got < want/2 {
				t.Errorf("wait is %v, /proc says %v", got, want)
			}
			if after.Threads != len(tids(h.pid())) || after.RSS < 1<<20 {
				t.Errorf("threads %d, RSS %d", after.Threads, after.RSS)
			}
			if !after.Has(SignalRoles) {
				t.Error("roles are said to be absent though vCPU threads exist")
			}
		})
	}
}

// endedWaits is what the tier read of the only target's waits that ended. The
// wait still going on, which Wait adds, can exceed what the kernel adds up
// afterwards (see schedClock.pending), so no test can be exact about it.
func endedWaits(s *Sampler) (sum time.Duration) {
	k, ok := s.reader.(*kernelReader)
	if !ok {
		for i := range s.walks[0].account.threads {
			sum += time.Duration(s.walks[0].account.threads[i].wait)
		}
		return sum
	}
	for i := range k.threads[:k.header.Used] {
		sum += time.Duration(k.threads[i].Wait)
	}
	return sum
}

func TestCountersOutliveThreads(t *testing.T) {
	for _, tier := range allTiers {
		t.Run(string(tier), func(t *testing.T) {
			s := open(t, tier)
			h := startHelper(t)
			setTarget(t, s, h.pid())
			base := one(t, s)
			last := base
			check := func() {
				t.Helper()
				next := one(t, s)
				fell(t, &last, &next)
				last = next
			}
			for i := range 5 {
				name := fmt.Sprintf("CPU %d/KVM", i)
				tid := h.start(name)
				h.do("spin", name, "20")
				check() // seen alive
				h.do("spin", name, "20")
				h.stop(name, tid)
				check() // its end was not seen
				tid = h.start("brief")
				h.do("spin", "brief", "20")
				h.stop("brief", tid)
				check() // never seen
			}
			// 60 ms a round. Tier C counts threads it never saw from ticks.
			if got := last.CPU() - base.CPU(); got < 300*time.Millisecond-2*time.Duration(userTick) {
				t.Errorf("CPU of exited threads is lost: %v of 300 ms", got)
			}
			// Go may run a new thread on an old one of another name, which
			// tier C believes after three reads.
			if got := last.VCPU - base.VCPU; got < 100*time.Millisecond && tier != TierProcfs {
				t.Errorf("vCPU role kept %v of the 100 ms that it was seen to use", got)
			}
		})
	}
}

// In tier C one thread that ends and one that starts leave the count of threads
// as it was; only the old descriptor tells.
func TestProcfsFollowsThreadsThatSwap(t *testing.T) {
	s := open(t, TierProcfs)
	h := startHelper(t)
	setTarget(t, s, h.pid())
	for i := range 5 {
		name := fmt.Sprintf("CPU %d/KVM", i)
		tid := h.start(name)
		one(t, s)
		h.stop(name, tid)
		fresh := h.start("CPU 9/KVM")
		if got := one(t, s); !got.Valid {
			t.Fatal(got.Reason)
		}
		var open []int
		for _, th := range s.reader.(*procReader).files[s.walks[0]].threads {
			open = append(open, int(th.tid))
		}
		// Go may start threads of its own, so the rest may differ.
		if slices.Contains(open, tid) || !slices.Contains(open, fresh) {
			t.Errorf("reads threads %v, with %d that ended or without %d that started", open, tid, fresh)
		}
	}
}

// fell fails the test if a counter is lower than before.
func fell(t *testing.T, before, after *Sample) {
	t.Helper()
	pairs := map[string][2]uint64{
		"vcpu":      {uint64(before.VCPU), uint64(after.VCPU)},
		"emulator":  {uint64(before.Emulator), uint64(after.Emulator)},
		"wait":      {uint64(before.Wait), uint64(after.Wait)},
		"vcpu wait": {uint64(before.VCPUWait), uint64(after.VCPUWait)},
		"voluntary": {before.VoluntarySwitches, after.VoluntarySwitches},
		"faults":    {before.MinorFaults, after.MinorFaults},
		"written":   {before.WriteBytes, after.WriteBytes},
	}
	for name, p := range pairs {
		if p[1] < p[0] {
			t.Errorf("%s fell from %d to %d", name, p[0], p[1])
		}
	}
}

func TestFaultsSwitchesAndBytes(t *testing.T) {
	for _, tier := range allTiers {
		t.Run(string(tier), func(t *testing.T) {
			s := open(t, tier)
			h := startHelper(t)
			setTarget(t, s, h.pid())
			before := one(t, s)
			h.do("write", filepath.Join(t.TempDir(), "f"))
			after := one(t, s)
			if got := after.MinorFaults - before.MinorFaults; got < 200 {
				t.Errorf("%d faults for a new MiB, want 256 or so", got)
			}
			if after.Has(SignalIO) {
				if got := after.WriteBytes - before.WriteBytes; got != 0 && got < 1<<20 {
					t.Errorf("%d bytes written, want 1 MiB (or none on tmpfs)", got)
				}
			}
			if after.Has(SignalSwitches) && after.VoluntarySwitches == before.VoluntarySwitches {
				t.Error("no voluntary switch though the helper waited for a command")
			}
		})
	}
}

func TestProcessGone(t *testing.T) {
	for _, tier := range allTiers {
		t.Run(string(tier), func(t *testing.T) {
			s := open(t, tier)
			h := startHelper(t)
			setTarget(t, s, h.pid())
			if got := one(t, s); !got.Valid {
				t.Fatal(got.Reason)
			}
			// A zombie first: nobody has waited for it yet.
			pidfd, err := unix.PidfdOpen(h.pid(), 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(pidfd)
			_ = h.cmd.Process.Kill()
			until(t, "the helper to exit", func() bool { return exited(pidfd) })
			for _, state := range []string{"zombie", "reaped"} {
				got := one(t, s)
				if got.Valid || !strings.Contains(got.Reason, "is gone") || got.CPU() != 0 {
					t.Errorf("%s: %+v", state, got)
				}
				_ = h.cmd.Wait()
			}
			setTarget(t, s, h.pid())
			if got := one(t, s); got.Valid || !strings.Contains(got.Reason, "is gone") {
				t.Errorf("set anew: %+v", got)
			}
		})
	}
}

func TestReusedPIDIsNotTheVM(t *testing.T) {
	for _, tier := range allTiers {
		t.Run(string(tier), func(t *testing.T) {
			s := open(t, tier)
			h := startHelper(t)
			pid := h.pid()
			setTarget(t, s, pid)
			if got := one(t, s); !got.Valid {
				t.Fatal(got.Reason)
			}
			h.kill()
			for range 200 {
				if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0); err != nil {
					skipOr(t, "cannot choose the next PID: %v", err)
				}
				other := startHelper(t)
				if other.pid() == pid {
					if got := one(t, s); got.Valid {
						t.Errorf("another process passes for the VM: %+v", got)
					}
					return
				}
				other.kill()
			}
			t.Skip("the PID went to others each time")
		})
	}
}

func TestQuotaShowsAsWait(t *testing.T) {
	for _, tier := range allTiers {
		t.Run(string(tier), func(t *testing.T) {
			s := open(t, tier)
			h := startHelper(t)
			tid := h.start("CPU 0/KVM")
			limitCPU(t, h, 20)
			setTarget(t, s, h.pid())
			done := make(chan bool)
			go func() {
				h.do("spin", "CPU 0/KVM", "200")
				close(done)
			}()
			before, after, late := watch(t, s, done)
			wall, used, waited := after.At-before.At, after.VCPU-before.VCPU, after.VCPUWait-before.VCPUWait
			t.Logf("thread %d: wall %v, used %v, waited %v: %+.1f %%", tid, wall, used, waited,
				100*(float64(used+waited)/float64(wall)-1))
			if waited < 2*used {
				t.Errorf("held to a fifth of a CPU it used %v and waited only %v", used, waited)
			}
			// Held back for 80 ms at a time, half the samples would miss 40 ms
			// of a wait that shows only at its end.
			t.Logf("median of the time that did not show: %v", late)
			if after.Has(SignalPendingWait) && late > 20*time.Millisecond {
				t.Errorf("%v of the wait did not show", late)
			}
			// The thread always wanted to run: used and waited are all of the
			// time, but for the last wait, which tier C cannot see.
			if sum := used + waited; sum > wall*105/100 || sum < wall*80/100 {
				t.Errorf("used %v and waited %v in %v", used, waited, wall)
			}
		})
	}
}

// watch samples over and over until done, and returns the first and the last
// sample while the vCPU spun, with the median of the time between that was
// neither used nor waited.
func watch(t *testing.T, s *Sampler, done chan bool) (first, last Sample, late time.Duration) {
	t.Helper()
	var spinning []Sample
	for idle := one(t, s); ; runtime.Gosched() {
		select {
		case <-done:
			var all []time.Duration
			for _, at := range spinning {
				// It may spin on after its last CPU time showed, or not.
				if at.VCPU < spinning[len(spinning)-1].VCPU {
					last = at
					used, waited := at.VCPU-spinning[0].VCPU, at.VCPUWait-spinning[0].VCPUWait
					all = append(all, at.At-spinning[0].At-used-waited)
				}
			}
			slices.Sort(all)
			return spinning[0], last, all[len(all)/2]
		default:
			if next := one(t, s); next.VCPU > idle.VCPU+time.Millisecond {
				spinning = append(spinning, next)
			}
		}
	}
}

// limitCPU puts a helper under a CPU quota, in a cgroup that goes away with
// the test.
func limitCPU(t *testing.T, h *helper, percent int) string {
	t.Helper()
	quota := map[string]string{"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": strconv.Itoa(percent * 1000)}
	if unified() {
		quota = map[string]string{"cpu.max": strconv.Itoa(percent*1000) + " 100000"}
	}
	dir := newCgroup(t, h, "cpu")
	for file, text := range quota {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0); err != nil {
			skipOr(t, "no CPU quota here: %v", err)
		}
	}
	return dir
}

// unified tells whether the machine has cgroup v2 alone.
func unified() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// newCgroup puts a helper into a cgroup of its own that goes away with the
// test.
func newCgroup(t *testing.T, h *helper, controller string) string {
	t.Helper()
	root := "/sys/fs/cgroup"
	if !unified() {
		root = filepath.Join(root, controller)
	}
	dir := filepath.Join(root, fmt.Sprintf("headroom-test-%d", h.pid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		skipOr(t, "no cgroup with the controller %s: %v", controller, err)
	}
	t.Cleanup(func() {
		h.kill()
		if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("cgroup is left behind: %v", err)
		}
	})
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(h.pid())), 0); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestHelperProcessesOfTheCgroupCount(t *testing.T) {
	s := open(t, TierSyscall)
	vm, swtpm := startHelper(t), startHelper(t)
	swtpm.start("worker")
	dir := limitCPU(t, vm, 90)
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(swtpm.pid())), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(swtpm.kill)
	targets := []Target{{ID: "vm", PID: vm.pid(), CgroupPath: dir}}
	set := func() {
		if err := s.SetTargets(targets); err != nil {
			t.Fatal(err)
		}
	}
	set()
	before := one(t, s)
	swtpm.do("spin", "worker", "50")
	with := one(t, s)
	if got := with.CPU() - before.CPU(); got < 50*time.Millisecond {
		t.Errorf("the helper process's 50 ms show as %v", got)
	}
	// Another VM in the same cgroup keeps to itself.
	other := startHelper(t)
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(other.pid())), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.kill)
	targets = append(targets, Target{ID: "other", PID: other.pid(), CgroupPath: dir})
	set()
	if got := len(s.walks); got != 3 {
		t.Errorf("%d processes are read, want 2 VMs and 1 helper", got)
	}
	targets = targets[:1]
	other.kill()
	swtpm.kill()
	gone := one(t, s)
	fell(t, &with, &gone)
	set()
	forgotten := one(t, s)
	fell(t, &gone, &forgotten)
	if forgotten.Threads != len(tids(vm.pid())) {
		t.Errorf("%d threads after the helper process left", forgotten.Threads)
	}
}

func TestPassAllocatesNothing(t *testing.T) {
	for _, tier := range allTiers {
		t.Run(string(tier), func(t *testing.T) {
			s := open(t, tier)
			h := startHelper(t)
			h.do("fill", "12")
			setTarget(t, s, h.pid())
			var list []Sample
			pass := func() {
				var err error
				if list, err = s.Sample(list); err != nil {
					t.Fatal(err)
				}
			}
			for range nameReads + 1 {
				pass()
			}
			if n := testing.AllocsPerRun(100, pass); n != 0 {
				t.Errorf("%v allocations a pass", n)
			}
			if c := s.Cost(); c.Passes < 100 || c.MeanCPU <= 0 || c.LastCPU <= 0 {
				t.Errorf("cost of passes is not told: %+v", c)
			}
		})
	}
}
