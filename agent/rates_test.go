package agent

import (
	"math"
	"testing"
	"time"

	"headroom/bpf"
)

func sampleAt(at, cpu, wait time.Duration) bpf.Sample {
	return bpf.Sample{ID: "v", At: at, Since: time.Second, VCPU: cpu, Wait: 2 * wait, VCPUWait: wait, Valid: true}
}

func TestBetween(t *testing.T) {
	prev, next := sampleAt(10*time.Second, 5*time.Second, time.Second), sampleAt(12*time.Second, 6*time.Second, 1500*time.Millisecond)
	r, ok := between(&prev, &next)
	if !ok || math.Abs(r.used-0.5) > 1e-9 || math.Abs(r.waited-0.25) > 1e-9 {
		t.Errorf("used %v, waited %v, %v; want 0.5 and the vCPUs' 0.25", r.used, r.waited, ok)
	}
	other := next
	other.Since = 11 * time.Second
	if _, ok := between(&prev, &other); ok {
		t.Error("two processes were compared")
	}
	gone := next
	gone.Valid = false
	if _, ok := between(&prev, &gone); ok {
		t.Error("an invalid sample was used")
	}
	noWait := next
	noWait.Absent = []bpf.Absence{{Signal: bpf.SignalWait, Reason: "test"}}
	if r, ok := between(&prev, &noWait); ok || !math.IsNaN(r.demand(1, 1)) {
		t.Errorf("demand without a known wait is censored and must not be known: %v, %v", r.demand(1, 1), ok)
	}
	noRoles := next
	noRoles.Absent = []bpf.Absence{{Signal: bpf.SignalRoles, Reason: "test"}}
	prev.Absent = noRoles.Absent
	if r, ok := between(&prev, &noRoles); !ok || math.Abs(r.waited-0.5) > 1e-9 {
		t.Errorf("waited %v, want all threads' 0.5 where roles are not known", r.waited)
	}
}

func TestDemandCountsWaitsThatNothingServes(t *testing.T) {
	for _, c := range []struct {
		name               string
		used, waited, full float64
		vcpus              int
		want               float64
	}{
		{"late and served, idle host", 0.2, 0.3, 0, 1, 0.2},
		{"late and served, full host", 0.3, 0.2, 1, 1, 0.3},
		{"never rests: work piles up", 0.5, 0.5, 0, 1, 1.0},
		{"starved on a full host", 0.5, 1.5, 1, 4, 2.0},
		{"starved threads, idle host", 0.5, 1.5, 0, 4, 0.5},
		{"idle", 0, 0, 1, 1, 0},
	} {
		r := rates{used: c.used, waited: c.waited}
		if got := r.demand(c.vcpus, c.full); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: demand %v, want %v", c.name, got, c.want)
		}
	}
}

// TestDemandIsMonotone: more waiting never means less demand, and never more
// than used and waited together.
func TestDemandIsMonotone(t *testing.T) {
	last := 0.0
	for w := 0.0; w < 4; w += 0.01 {
		r := rates{used: 0.4, waited: w}
		d := r.demand(2, 0.7)
		if d < last-1e-9 || d > r.used+r.waited+1e-9 {
			t.Fatalf("waited %v: demand %v after %v", w, d, last)
		}
		last = d
	}
}
