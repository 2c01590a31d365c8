package bpf

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A virtual CPU that is plugged in later is a new thread named like one.
func TestHotpluggedVCPUCounts(t *testing.T) {
	for _, tier := range allTiers {
		t.Run(string(tier), func(t *testing.T) {
			s := open(t, tier)
			h := startHelper(t)
			h.start("CPU 0/KVM")
			setTarget(t, s, h.pid())
			for range nameReads {
				one(t, s)
			}
			before := one(t, s)
			name := plug(h)
			h.do("spin", name, "50")
			after := one(t, s)
			if got := after.VCPU - before.VCPU; got < 50*time.Millisecond {
				t.Errorf("the new vCPU used 50 ms, %v show", got)
			}
			fell(t, &before, &after)
		})
	}
}

// plug starts a vCPU on a thread that is new: Go may run one on an idle thread of
// its own, whose name tier C has read already.
func plug(h *helper) (name string) {
	known := tids(h.pid())
	for i := 1; ; i++ {
		name = fmt.Sprintf("CPU %d/KVM", i)
		if !slices.Contains(known, h.start(name)) {
			return name
		}
	}
}

// 500 VMs at once, with some that come and go.
func TestManyVMsComeAndGo(t *testing.T) {
	const many = 500
	for _, tier := range allTiers {
		t.Run(string(tier), func(t *testing.T) {
			s := open(t, tier)
			var hs []*helper
			target := func(i int) Target { return Target{ID: strconv.Itoa(i), PID: hs[i].pid()} }
			var targets []Target
			for i := range many {
				hs = append(hs, launch(t, "threads"))
				t.Cleanup(hs[i].kill)
				targets = append(targets, target(i))
			}
			for _, h := range hs {
				h.do("fill", "1") // answers once it runs
			}
			sample := func(want int) []Sample {
				t.Helper()
				if err := s.SetTargets(targets); err != nil {
					t.Fatal(err)
				}
				list, err := s.Sample(nil)
				if err != nil {
					t.Fatal(err)
				}
				valid := 0
				for i := range list {
					if list[i].Valid {
						valid++
					}
				}
				if len(list) != len(targets) || valid != want {
					t.Fatalf("%d samples of %d VMs, %d of them valid, want %d", len(list), len(targets), valid, want)
				}
				return list
			}
			first := sample(many)
			for i := 0; i < many; i += 5 { // a fifth crashes
				hs[i].kill()
			}
			second := sample(many - many/5)
			for i := range second {
				if second[i].Valid {
					fell(t, &first[i], &second[i])
				}
			}
			for i := 0; i < many; i += 5 { // and is started again
				hs[i] = startHelper(t)
				hs[i].do("fill", "1")
				targets[i] = target(i)
			}
			third := sample(many)
			for i := range third {
				if again := i%5 == 0; again == (third[i].Since == first[i].Since) {
					t.Errorf("VM %d: first seen at %v, now since %v", i, first[i].Since, third[i].Since)
				}
			}
		})
	}
}

// A VM whose process is stopped answers nobody. Its counters are read all the
// same, and the others' on time.
func TestHungVMDelaysNobody(t *testing.T) {
	for _, tier := range allTiers {
		t.Run(string(tier), func(t *testing.T) {
			s := open(t, tier)
			hung, other := startHelper(t), startHelper(t)
			if err := s.SetTargets([]Target{{ID: "hung", PID: hung.pid()}, {ID: "other", PID: other.pid()}}); err != nil {
				t.Fatal(err)
			}
			hung.start("CPU 0/KVM")
			other.start("CPU 0/KVM")
			if err := unix.Kill(hung.pid(), unix.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			until(t, "the VM to stop", func() bool { return stopped(hung.pid()) })
			list, err := s.Sample(nil)
			if err != nil {
				t.Fatal(err)
			}
			other.do("spin", "CPU 0/KVM", "30")
			start := clock(unix.CLOCK_MONOTONIC)
			next, err := s.Sample(nil)
			if err != nil {
				t.Fatal(err)
			}
			took := clock(unix.CLOCK_MONOTONIC) - start
			for i := range next {
				if !next[i].Valid {
					t.Errorf("%s: %s", next[i].ID, next[i].Reason)
				}
			}
			if got := next[1].CPU() - list[1].CPU(); got < 30*time.Millisecond {
				t.Errorf("the other VM used 30 ms, %v show", got)
			}
			if took > time.Second {
				t.Errorf("the pass took %v", took)
			}
		})
	}
}

func stopped(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	var id int
	var name, state string
	_, _ = fmt.Sscan(string(text), &id, &name, &state)
	return state == "T"
}
