package bpf

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"headroom/bpf/internal/kern"
)

// enable opens a sampler with a feature or skips.
func enable(t *testing.T, f Feature) *Sampler {
	t.Helper()
	s := open(t, TierSyscall)
	if err := s.Enable(f); err != nil {
		skipOr(t, "%v", err)
	}
	return s
}

func TestBlockIOIsTheVMsOwn(t *testing.T) {
	s := enable(t, FeatureBlockIO)
	vm, other := startHelper(t), startHelper(t)
	newCgroup(t, vm, "blkio")
	if err := s.SetTargets([]Target{{ID: "vm", PID: vm.pid()}, {ID: "rootless", PID: other.pid()}}); err != nil {
		t.Fatal(err)
	}
	before, _ := s.Sample(nil)
	other.do("write", filepath.Join(t.TempDir(), "f"))
	if got, err := s.BlockIO("vm"); err != nil || got.Write.Ops != 0 {
		t.Errorf("another's requests show as %+v, %v", got, err)
	}
	vm.do("write", filepath.Join(t.TempDir(), "f"))
	after, _ := s.Sample(nil)
	if after[0].WriteBytes-before[0].WriteBytes < 1<<20 {
		skipOr(t, "the temporary directory is not on a block device")
	}
	got, err := s.BlockIO("vm")
	if err != nil {
		t.Fatal(err)
	}
	w := got.Write
	if w.Ops == 0 || w.Bytes < 1<<20 || w.Bytes > 4<<20 || got.Attribution != AttributionExact {
		t.Errorf("1 MiB written and synced shows as %+v", got)
	}
	var least time.Duration // by the lower edges of the buckets
	for i, n := range w.Latency[1:] {
		least += time.Duration(n) * (2 << i) * time.Microsecond
	}
	shortest := time.Duration(w.Latency[0]) * 2 * time.Microsecond
	if w.Untimed == 0 && (w.Latency.Count() != w.Ops || w.Time < least || w.Time >= 2*least+shortest) {
		t.Errorf("latency of %d requests: %v in all, %v", w.Ops, w.Time, w.Latency)
	}
	t.Logf("%d requests, %v together, p99 below %v", w.Ops, w.Time, w.Latency.Quantile(0.99))
	if _, err := s.BlockIO("rootless"); !errors.Is(err, ErrUnattributed) {
		t.Errorf("a VM in the root cgroup: %v", err)
	}
}

// In the hook's memory the buckets of most requests come first.
func TestBlockCountsHaveTheBucketsInOrder(t *testing.T) {
	var d kern.BlockIODirection
	d.Latency[0], d.Latency[1], d.Latency[len(d.Latency)-1] = 1, 2, 3
	d.Untimed = 4
	want := Histogram{nearBucket: 1, nearBucket + 1: 2, nearBucket - 1: 3}
	if got := blockCounts(&d); got.Latency != want || got.Ops != 10 {
		t.Errorf("%+v, want 10 requests in %v", got, want)
	}
}

func TestBlockIOSharedCgroupIsNobodys(t *testing.T) {
	s := enable(t, FeatureBlockIO)
	a, b := startHelper(t), startHelper(t)
	dir := newCgroup(t, a, "blkio")
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(b.pid())), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.kill)
	if err := s.SetTargets([]Target{{ID: "a", PID: a.pid()}, {ID: "b", PID: b.pid()}}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "b"} {
		if _, err := s.BlockIO(id); !errors.Is(err, ErrUnattributed) || !strings.Contains(err.Error(), "share") {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// What the hook remembers of a disk's cgroup must not outlive a change of targets.
func TestBlockIOFollowsTheTargets(t *testing.T) {
	s := enable(t, FeatureBlockIO)
	first, next := startHelper(t), startHelper(t)
	newCgroup(t, first, "blkio")
	newCgroup(t, next, "blkio")
	file := filepath.Join(t.TempDir(), "f")
	written := func(id string, h *helper) uint64 {
		before, err := s.BlockIO(id)
		h.do("write", file)
		after, again := s.BlockIO(id)
		if err = errors.Join(err, again); err != nil {
			t.Fatal(err)
		}
		return after.Write.Ops - before.Write.Ops
	}
	setTargets := func(id string, h *helper) {
		if err := s.SetTargets([]Target{{ID: id, PID: h.pid()}}); err != nil {
			t.Fatal(err)
		}
	}
	setTargets("first", first)
	if written("first", first) == 0 {
		skipOr(t, "the temporary directory is not on a block device")
	}
	if n := written("first", next); n != 0 {
		t.Errorf("%d requests of another's", n)
	}
	setTargets("next", next)
	if n := written("next", first); n != 0 {
		t.Errorf("%d requests of whom the slot belonged to", n)
	}
	if written("next", next) == 0 {
		t.Error("none of its own: it is taken for nobody still")
	}
}

func TestWaitTailCountsSingleWaits(t *testing.T) {
	s := enable(t, FeatureWaitTail)
	vm, rival := startHelper(t), startHelper(t)
	for _, h := range []*helper{vm, rival} {
		h.start("CPU 0/KVM")
		h.do("share", "CPU 0/KVM", "0")
	}
	vm.start("worker")
	setTarget(t, s, vm.pid())
	before := one(t, s)
	done := make(chan bool)
	go func() {
		defer close(done)
		rival.do("spin", "CPU 0/KVM", "200")
	}()
	vm.do("spin", "CPU 0/KVM", "200")
	vm.do("spin", "worker", "50")
	after := one(t, s)
	<-done
	got, err := s.WaitTail("vm")
	if err != nil {
		t.Fatal(err)
	}
	waited := after.VCPUWait - before.VCPUWait
	t.Logf("%d waits, %v together, longest %v, median below %v", got.Waits, waited, got.Longest, got.Histogram.Quantile(0.5))
	if got.Waits == 0 || got.Histogram.Count() != got.Waits {
		t.Errorf("two threads on one CPU wait: %+v", got)
	}
	if got.Longest > waited+time.Millisecond || got.Longest < waited/time.Duration(got.Waits+1)/2 {
		t.Errorf("longest of %d waits is %v, all together %v", got.Waits, got.Longest, waited)
	}
	if err := s.SetTargets([]Target{{ID: "rival", PID: rival.pid()}}); err != nil {
		t.Fatal(err)
	}
	if got, err := s.WaitTail("rival"); err != nil || got.Waits > 3 {
		t.Errorf("the next VM in the slot inherits %+v, %v", got, err)
	}
}

func TestExitsOfARealVM(t *testing.T) {
	s := enable(t, FeatureExits)
	vm := startHelperAs(t, "vm")
	if !vm.lines.Scan() || vm.lines.Text() != "<nil>" {
		t.Skipf("no VM can be made here: %s", vm.lines.Text())
	}
	setTarget(t, s, vm.pid())
	one(t, s)
	before, err := s.Exits("vm")
	if err != nil || before.VCPUs != 1 {
		t.Fatalf("%+v, %v", before, err)
	}
	if answer := vm.do("500"); answer != "<nil>" {
		t.Skipf("the VM does not run here: %s", answer)
	}
	one(t, s)
	after, err := s.Exits("vm")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", after)
	if after.All-before.All < 500 {
		t.Errorf("500 exits show as %d", after.All-before.All)
	}
	other := startHelper(t)
	setTarget(t, s, other.pid())
	one(t, s)
	if got, err := s.Exits("vm"); err != nil || got != (Exits{}) {
		t.Errorf("a process without vCPUs has %+v, %v", got, err)
	}
}

func TestFeaturesTellWhyTheyAreOff(t *testing.T) {
	f := &fakeReader{read: reads("qemu", 1)}
	s := fakeSampler(f)
	if err := s.SetTargets([]Target{{ID: "vm", PID: os.Getpid()}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.WaitTail("vm"); !errors.Is(err, ErrFeatureOff) {
		t.Errorf("read while off: %v", err)
	}
	broken := &fakeHook{}
	s.features[0].hook = broken
	if st := s.Features(); !st[0].On || st[1].On || st[1].Why == "" {
		t.Errorf("status %+v", st)
	}
	broken.err = errors.New("fake failure")
	if list, err := s.Sample(nil); err != nil || !list[0].Valid {
		t.Errorf("a broken feature spoils the pass: %v", err)
	}
	if st := s.Features(); st[0].On || st[0].Why != "fake failure" || broken.shut != 1 {
		t.Errorf("status %+v, closed %d times", st[0], broken.shut)
	}
	if err := s.Enable("magic"); err == nil {
		t.Error("enables what it does not know")
	}
	if err := s.Disable(FeatureExits); err != nil {
		t.Error(err)
	}
}

type fakeHook struct {
	err  error
	shut int
}

func (h *fakeHook) assign([]*vm) error { return h.err }
func (h *fakeHook) pass() error        { return h.err }
func (h *fakeHook) close() error       { h.shut++; return nil }

func TestSlotsGoFromVMToVM(t *testing.T) {
	var mem slotted[int]
	mem.mem = make([]int, 3)
	s := fakeSampler(&fakeReader{read: reads("qemu", 1)})
	set := func(ids ...string) {
		t.Helper()
		var targets []Target
		for _, id := range ids {
			targets = append(targets, Target{ID: id})
		}
		if err := s.SetTargets(targets); err != nil {
			t.Fatal(err)
		}
		mem.assign(s.vms)
	}
	set("a", "b", "c")
	copy(mem.mem, []int{1, 2, 3})
	set("c", "d", "a")
	if mem.mem[0] != 1 || mem.mem[1] != 0 || mem.mem[2] != 3 || s.slots[1].target.ID != "d" {
		t.Errorf("slots hold %v, the second is %q's", mem.mem, s.slots[1].target.ID)
	}
}

func TestHistogramQuantile(t *testing.T) {
	var h Histogram
	if h.Quantile(0.5) != 0 {
		t.Error("an empty one has a median")
	}
	h[3], h[10], h[23] = 90, 9, 1 // 8..16 us, 1..2 ms, above 8 s
	for q, want := range map[float64]time.Duration{
		0: 16 * time.Microsecond, 0.9: 16 * time.Microsecond, 0.95: 2048 * time.Microsecond, 1: 1 << 24 * time.Microsecond,
	} {
		if got := h.Quantile(q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	before := Histogram{3: 80}
	since := h.Sub(&before)
	if since.Count() != 20 {
		t.Errorf("%d since", since.Count())
	}
}

func TestCgroupOfAVM(t *testing.T) {
	const v1 = `30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
31 25 0:27 / /sys/fs/cgroup/blkio rw,nosuid shared:5 - cgroup cgroup rw,blkio
32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
`
	const v2 = "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
	for name, c := range map[string]struct{ mounts, cgroup, mount, path string }{
		"v1":      {v1, "9:cpu:/a\n8:blkio,x:/b:c\n0::/d\n", "/sys/fs/cgroup/blkio", "/b:c"},
		"v2":      {v2, "0::/machine.slice/vm.scope\n", "/sys/fs/cgroup", "/machine.slice/vm.scope"},
		"none":    {"", "0::/x\n", "", "/x"},
		"garbage": {v1, "::\nx\n", "/sys/fs/cgroup/blkio", ""},
	} {
		m := parseMounts(c.mounts)
		if m.mount() != c.mount || m.pathOf(c.cgroup) != c.path {
			t.Errorf("%s: mount %q, path %q", name, m.mount(), m.pathOf(c.cgroup))
		}
	}
}
