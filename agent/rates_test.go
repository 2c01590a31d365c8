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

func TestLinkRatesAreTheGuests(t *testing.T) {
	prev := bpf.LinkStats{RxBytes: 100, TxBytes: 200, RxPackets: 1, TxPackets: 2, RxDropped: 3, TxDropped: 4}
	next := bpf.LinkStats{RxBytes: 300, TxBytes: 800, RxPackets: 21, TxPackets: 32, RxDropped: 43, TxDropped: 54}
	r := unknownRates()
	r.addLinks(prev, next, 2*time.Second)
	// What the host receives the guest has sent.
	want := linkRates{rx: 300, tx: 100, rxPackets: 15, txPackets: 10, rxDrops: 25, txDrops: 20}
	if r.network != want {
		t.Errorf("%+v, want %+v", r.network, want)
	}
	for name, fall := range map[string]func(*bpf.LinkStats){
		"received": func(s *bpf.LinkStats) { s.RxBytes = 0 }, "sent": func(s *bpf.LinkStats) { s.TxBytes = 0 },
		"packets received": func(s *bpf.LinkStats) { s.RxPackets = 0 }, "packets sent": func(s *bpf.LinkStats) { s.TxPackets = 0 },
		"lost from the guest": func(s *bpf.LinkStats) { s.RxDropped = 0 }, "lost to the guest": func(s *bpf.LinkStats) { s.TxDropped = 0 },
	} {
		other := next
		fall(&other)
		r := unknownRates()
		r.addLinks(prev, other, time.Second)
		if !math.IsNaN(r.network.rx) || !math.IsNaN(r.network.txDrops) {
			t.Errorf("%s fell, and the taps are taken for the same: %+v", name, r.network)
		}
	}
}
