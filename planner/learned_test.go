package planner

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"
)

func TestCopyPrediction(t *testing.T) {
	p := LabPolicy()
	cases := []struct {
		name      string
		memory    MiB
		dirty     float64 // MiB/s, negative: unknown
		bandwidth float64 // MiB/s
		converges bool
		blackout  bool // acceptable
		atLeast   time.Duration
		atMost    time.Duration
	}{
		{"idle lab guest", 128, 1, 150, true, true, 850 * time.Millisecond, 900 * time.Millisecond},
		{"busy guest takes rounds", 128, 100, 150, true, true, 1700 * time.Millisecond, 1900 * time.Millisecond},
		{"dirties faster than the link", 128, 200, 150, false, false, 0, time.Minute},
		{"just below the link is too near", 128, 130, 150, false, false, 0, time.Minute},
		{"big, unknown rate, slow link", 65536, -1, 120, false, false, 0, 24 * time.Hour},
		{"too long", 1 << 20, 1, 100, false, false, time.Hour, 24 * time.Hour},
	}
	for _, c := range cases {
		vm := testVM("v", c.memory, shape{})
		vm.DirtyRate, vm.HasDirtyRate = BytesPerSecond(math.Max(0, c.dirty)*mib), c.dirty >= 0
		plan := planCopy(&vm, LinkEstimate{Bandwidth: BytesPerSecond(c.bandwidth * mib)}, &Learned{}, &p)
		if plan.convergent != c.converges || (len(plan.refusals) == 0) != c.blackout {
			t.Errorf("%s: converges %v, refusals %v", c.name, plan.convergent, plan.refusals)
		}
		if plan.time < c.atLeast || plan.time > c.atMost {
			t.Errorf("%s: copy of %s, want %s..%s", c.name, plan.time, c.atLeast, c.atMost)
		}
	}
}

func TestLearningConverges(t *testing.T) {
	p := LabPolicy()
	vm := testVM("v", 128, shape{})
	const realCopy, realBlackout = 2400 * time.Millisecond, 600 * time.Millisecond
	var l Learned
	for i := range 25 {
		plan := planCopy(&vm, l.Link("b", p), &l, &p)
		l = l.Note(MigrationResult{
			At: epoch.Add(time.Duration(i) * time.Minute), VM: "v", To: "b", OK: true, Bytes: uint64(plan.bytes),
			CopyTime: realCopy, Blackout: realBlackout, PredictedCopyTime: plan.time, PredictedBlackout: plan.blackout,
		})
	}
	plan := planCopy(&vm, l.Link("b", p), &l, &p)
	for name, d := range map[string][2]time.Duration{"copy": {plan.time, realCopy}, "blackout": {plan.blackout, realBlackout}} {
		if r := float64(d[0]) / float64(d[1]); r < 0.9 || r > 1.1 {
			t.Errorf("%s: predicts %s after 25 migrations that took %s", name, d[0], d[1])
		}
	}
	if other := l.Link("c", p); other.Samples != 0 || other.Bandwidth != l.Links[0].Bandwidth {
		t.Errorf("an unknown peer's link is %+v, want the learned median without samples", other)
	}
}

func TestLearnedIsBoundedAndShared(t *testing.T) {
	var l Learned
	for i := range 1000 {
		at := epoch.Add(time.Duration(i) * time.Second)
		l = l.Note(MigrationResult{At: at, VM: "v", To: HostID(fmt.Sprint(i)), OK: true, Bytes: 1 << 20, CopyTime: time.Second})
	}
	if len(l.Links) != maxLinks || len(l.Moves) != maxPastMoves {
		t.Errorf("%d links, %d moves: want %d and %d", len(l.Links), len(l.Moves), maxLinks, maxPastMoves)
	}
	if l.Links[len(l.Links)-1].Peer != "999" {
		t.Errorf("the newest peer was dropped")
	}
	old := l
	before := mustMarshal(t, old)
	l.Note(MigrationResult{At: epoch.Add(time.Hour), VM: "v", To: "999", OK: true, Bytes: 1, CopyTime: time.Second})
	if string(before) != string(mustMarshal(t, old)) {
		t.Error("Note changed the value it was called on")
	}
}

func TestLearnedVersion(t *testing.T) {
	var l Learned
	if err := json.Unmarshal([]byte(`{"version":2,"copy_ratio":3}`), &l); !errors.Is(err, ErrLearnedVersion) {
		t.Errorf("version 2: %v, want ErrLearnedVersion", err)
	}
	if l.CopyRatio != 0 {
		t.Errorf("a foreign version was read: %+v", l)
	}
}

func FuzzLearned(f *testing.F) {
	f.Add([]byte(`{"version":1,"copy_ratio":1e300,"links":[{"peer":"b","bandwidth_bytes_per_s":-1}],"moves":[{}]}`))
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var l Learned
		if json.Unmarshal(b, &l) != nil {
			return
		}
		p := LabPolicy()
		vm := testVM("v", 128, shape{level: 0.1})
		plan := planCopy(&vm, l.Link("b", p), &l, &p)
		if plan.time <= 0 || plan.blackout < 0 {
			t.Fatalf("copy %v, blackout %v from %s", plan.time, plan.blackout, b)
		}
	})
}
