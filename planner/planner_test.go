package planner

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"headroom/predict"
)

func TestPoliciesAreValid(t *testing.T) {
	for name, p := range map[string]Policy{"default": DefaultPolicy(), "lab": LabPolicy()} {
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPolicyNamesWhatIsWrong(t *testing.T) {
	cases := []struct {
		word   string
		change func(*Policy)
	}{
		{"mode", func(p *Policy) { p.Mode = "yolo" }},
		{"high", func(p *Policy) { p.Low = 0.75 }}, // 10 points below HIGH
		{"high", func(p *Policy) { p.High = math.NaN() }},
		{"hold_rounds", func(p *Policy) { p.Hold = p.Window + 1 }},
		{"window_rounds", func(p *Policy) { p.Window = 65 }},
		{"cooldown", func(p *Policy) { p.CooldownCap = p.Cooldown - 1 }},
		{"max_outgoing", func(p *Policy) { p.MaxOutgoing = 0 }},
		{"gain_factor", func(p *Policy) { p.GainFactor = 0 }},
		{"bandwidth", func(p *Policy) { p.Bandwidth = BytesPerSecond(math.Inf(1)) }},
		{"min_gain", func(p *Policy) { p.MinGain = -1 }},
		{"urgent_factor", func(p *Policy) { p.UrgentFactor = math.Inf(1) }},
		{"min_gain_share", func(p *Policy) { p.MinGainShare = math.NaN() }},
		{"risk_age", func(p *Policy) { p.RiskAge = math.NaN() }},
		{"slot_probability", func(p *Policy) { p.SlotProbability = 1 }},
		{"residual_share", func(p *Policy) { p.ResidualShare = 1 }},
		{"classes", func(p *Policy) { p.Classes = nil }},
		{"class", func(p *Policy) { p.Classes = []Class{{Name: "x", VCPU: 0, Memory: 1}} }},
		{"unique", func(p *Policy) { p.Classes = []Class{{"x", 1, 1}, {"x", 2, 2}} }},
		{"freeze_min_failed", func(p *Policy) { p.FreezeMinFailed = 0 }},
		{"max_rounds", func(p *Policy) { p.MaxRounds = 0 }},
		{"max_considered", func(p *Policy) { p.MaxConsidered = 0 }},
	}
	for i, c := range cases {
		p := DefaultPolicy()
		c.change(&p)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), c.word) {
			t.Errorf("case %d: got %v, want an error about %s", i, err, c.word)
		}
	}
}

func TestCooldownDoublesUpToItsCap(t *testing.T) {
	p := DefaultPolicy()
	now := epoch
	moves := func(ago ...time.Duration) MoveHistory {
		h := MoveHistory{}
		for _, d := range ago {
			h.Moves = append(h.Moves, now.Add(-d))
			if h.LastMoved.Before(now.Add(-d)) {
				h.LastMoved = now.Add(-d)
			}
		}
		return h
	}
	m, hr := time.Minute, time.Hour
	cases := []struct {
		name string
		h    MoveHistory
		want time.Duration
	}{
		{"never moved", MoveHistory{}, 0},
		{"first move", moves(10 * m), 20 * m},
		{"first move, over", moves(30 * m), 0},
		{"second", moves(5*hr, 10*m), 50 * m},
		{"third", moves(9*hr, 5*hr, 10*m), 110 * m},
		{"tenth is capped", moves(9*hr, 8*hr, 7*hr, 6*hr, 5*hr, 4*hr, 3*hr, 2*hr, 1*hr, 0), 6 * hr},
		{"older than a day does not count", moves(25*hr, 10*m), 20 * m},
		{"only the last move is recorded", MoveHistory{LastMoved: now.Add(-10 * m)}, 20 * m},
		{"another host's clock is ahead", moves(-5 * m), 30 * m},
	}
	for _, c := range cases {
		if got := CooldownLeft(c.h, now, p); got != c.want {
			t.Errorf("%s: %s left, want %s", c.name, got, c.want)
		}
	}
}

// TestLoadAgreesWithPredictSum holds the planner's constant-time sum against
// the forecaster's own, which cannot take a part out again.
func TestNeverPlansOnMissingData(t *testing.T) {
	cases := map[string]func(*Host){
		"capacity":                 func(h *Host) { h.Capacity.CPU = 0 },
		"memory":                   func(h *Host) { h.Capacity.Memory = 0 },
		"capacity is not a number": func(h *Host) { h.Capacity.CPU = Cores(math.NaN()) },
		"wait is not a number":     func(h *Host) { h.Complete, h.VMs[0].NowWait = false, Cores(math.NaN()) },
		"reserve eats all":         func(h *Host) { h.Reserve.CPU = h.Capacity.CPU },
		"not complete":             func(h *Host) { h.Complete = false },
		"unmeasured VM":            func(h *Host) { h.VMs[0].Measured = false },
		"forecast not ready":       func(h *Host) { h.VMs[0].CPU.Ready = false },
		"forecast is NaN":          func(h *Host) { h.VMs[0].CPU.Peak[4] = math.NaN() },
		"forecast falls":           func(h *Host) { h.VMs[0].CPU.Steps[3] = predict.Quantiles{5, 4, 3, 2, 1} },
		"overhead not forecast":    func(h *Host) { h.OverheadCPU = shape{}.forecast(); h.OverheadCPU.Ready = false },
		"overcommit, no memory":    func(h *Host) { h.MemoryOvercommit = 1.5 },
	}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			p := LabPolicy()
			p.Hold, p.Window = 1, 1
			h := testHost("a", 0.5, 2048)
			h.VMs = []VM{testVM("web", 128, shape{level: 0.3}), testVM("db", 128, shape{level: 0.3})}
			peers := []Peer{{ID: "b", Alive: true, Free: map[string]int{"small": 5}}}
			if d, _ := Decide(epoch, *h, peers, State{}, p, rand.New(rand.NewPCG(1, 1))); d.Action != ActionMove {
				t.Fatalf("control: %s", d.Explain())
			}
			spoil(h)
			d, _ := Decide(epoch, *h, peers, State{}, p, rand.New(rand.NewPCG(1, 1)))
			if d.Action != ActionFrozen || !strings.Contains(d.Reason, "missing data") {
				t.Errorf("source: %s", d.Explain())
			}
			guest := testVM("guest", 128, shape{level: 0.01})
			o := MakeOffer(epoch, *h, NeedOf(guest, *testHost("x", 1, 1)), p)
			if !hasKind(o.Refusals, RefuseMissingData) {
				t.Errorf("destination: refusals %v", o.Refusals)
			}
			for _, s := range Slots(*h, p.Classes, 0.9, epoch) {
				if s.Free != 0 || s.Why == "" {
					t.Errorf("slot %+v", s)
				}
			}
			if f := HostForecast(*h); f.Ready || f.Why == "" {
				t.Errorf("host forecast is ready: %+v", f)
			}
			mustMarshal(t, d)
		})
	}
}

func mustMarshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("marshal %T: %v", v, err)
	}
	return b
}

// TestRecordsSurviveJSON: everything that crosses the RPC or enters the store.
func TestRecordsSurviveJSON(t *testing.T) {
	w := newWorld()
	w.policy.Hold, w.policy.Window = 1, 1
	for _, id := range []HostID{"a", "b", "c"} {
		w.hosts[id] = testHost(id, 0.5, 2048)
	}
	w.hosts["a"].VMs = []VM{testVM("web", 128, shape{level: 0.3, spread: 0.01}), testVM("db", 128, shape{level: 0.3, spread: 0.01})}
	d := w.round("a")
	if d.To == "" {
		t.Fatalf("control: %s", d.Explain())
	}
	roundTrip(t, d)
	roundTrip(t, *d.Need)
	roundTrip(t, MakeOffer(epoch, *w.hosts["b"], *d.Need, w.policy))
	roundTrip(t, w.states["a"].NoteRefused(epoch, "web", []RefusedDestination{{Host: "b"}}, w.policy).Answer(epoch, "db", true, epoch.Add(time.Hour)))
	roundTrip(t, Learned{}.Note(MigrationResult{At: epoch, VM: "web", To: "b", OK: true, Bytes: 1 << 27, CopyTime: time.Second}))
	roundTrip(t, DefaultPolicy())
	roundTrip(t, JudgeOutcome(d, Outcome{Measured: true, Window: time.Minute}))
}

func roundTrip[T any](t *testing.T, v T) {
	t.Helper()
	var back T
	if err := json.Unmarshal(mustMarshal(t, v), &back); err != nil {
		t.Fatalf("%T: %v", v, err)
	}
	if diff := cmp.Diff(v, back, cmpopts.EquateEmpty(), cmpopts.EquateNaNs()); diff != "" {
		t.Errorf("%T changed on its way through JSON:\n%s", v, diff)
	}
}

// TestLearningConverges: predictions approach what migrations really take,
// although bandwidth and correction learn at once.
// FuzzOffer: an offer is bytes from the network; none may make the planner
// panic, allow a move without room, or produce an unserialisable record.
func TestFrozenByOwnFailures(t *testing.T) {
	p := LabPolicy()
	h := testHost("a", 0.5, 2048)
	h.VMs = []VM{testVM("web", 128, shape{level: 0.1})}
	for i := range 2 {
		h.Learned = h.Learned.Note(MigrationResult{At: epoch.Add(time.Duration(i) * time.Minute), VM: "web", To: "b", Why: "link cut"})
	}
	rng := rand.New(rand.NewPCG(1, 1))
	if d, _ := Decide(epoch.Add(30*time.Minute), *h, nil, State{}, p, rng); d.Action != ActionFrozen {
		t.Errorf("after two failures of two: %s", d.Explain())
	}
	if d, _ := Decide(epoch.Add(62*time.Minute), *h, nil, State{}, p, rng); d.Action == ActionFrozen {
		t.Errorf("an hour later: %s", d.Explain())
	}
}

func TestPastFailuresRaiseTheCost(t *testing.T) {
	p := LabPolicy()
	src := testHost("a", 0.5, 2048)
	vm := testVM("web", 128, shape{level: 0.3, spread: 0.01})
	src.VMs = []VM{vm, testVM("db", 128, shape{level: 0.3, spread: 0.01})}
	offer := MakeOffer(epoch, *testHost("b", 0.5, 2048), NeedOf(vm, *src), p)
	base := EvaluateMigration(vm, *src, offer, p)
	src.Learned = src.Learned.Note(MigrationResult{At: epoch, VM: "web", To: "b", Why: "time-out"})
	failed := EvaluateMigration(vm, *src, offer, p)
	if want := base.Cost.Total + base.Cost.Resource + base.Cost.Network + base.Cost.Overhead; math.Abs(float64(failed.Cost.Total-want)) > 1e-9 {
		t.Errorf("cost %v after a failure, %v before: one failure adds the unscaled cost once", failed.Cost.Total, base.Cost.Total)
	}
	offer.Age = p.MaxOfferAge / 2
	if older := EvaluateMigration(vm, *src, offer, p); older.Cost.Total <= failed.Cost.Total {
		t.Errorf("an older offer costs %v, a fresh one %v", older.Cost.Total, failed.Cost.Total)
	}
	offer.Age = p.MaxOfferAge + 1
	if stale := EvaluateMigration(vm, *src, offer, p); !hasKind(stale.Refusals, RefuseStale) {
		t.Errorf("a stale offer is used: %v", stale.Refusals)
	}
}

func TestCostTermsAddUp(t *testing.T) {
	p := LabPolicy()
	src := testHost("a", 0.5, 2048)
	vm := testVM("web", 128, shape{level: 0.3, spread: 0.05})
	vm.Policy.Partners = []string{"db"}
	src.VMs = []VM{vm, testVM("db", 128, shape{level: 0.3, spread: 0.01})}
	dst := testHost("b", 0.6, 2048)
	dst.VMs = []VM{testVM("other", 128, shape{level: 0.3, spread: 0.05})}
	offer := MakeOffer(epoch, *dst, NeedOf(vm, *src), p)
	offer.Age = time.Second
	e := EvaluateMigration(vm, *src, offer, p)
	var sum CoreSeconds
	seen := map[string]bool{}
	for _, term := range e.Cost.Terms {
		sum += term.Value
		seen[term.Name] = true
	}
	if math.Abs(float64(sum-e.Cost.Total)) > 1e-9 {
		t.Errorf("terms add up to %v, total is %v", sum, e.Cost.Total)
	}
	for _, name := range []string{"transfer", "partners", "copy", "blackout", "copy-in", "spread", "offer-age"} {
		if !seen[name] {
			t.Errorf("no term %q", name)
		}
	}
	if e.Destination.With <= e.Destination.Without {
		t.Errorf("destination's unserved demand %+v should rise", e.Destination)
	}
	if avoided := e.Source.Without - e.Source.With + e.Destination.Without - e.Destination.With; math.Abs(float64(avoided-e.Gain)) > 1e-9 {
		t.Errorf("gain %v, both hosts together are spared %v", e.Gain, avoided)
	}
}

func TestStateIsBoundedAndExpires(t *testing.T) {
	p := LabPolicy()
	var s State
	for i := range 1000 {
		s = s.NoteRefused(epoch, VMID(fmt.Sprint(i)), []RefusedDestination{{Host: "b"}}, p)
		s = s.Answer(epoch, VMID(fmt.Sprint(i)), true, epoch.Add(time.Minute))
	}
	if len(s.Rests) != maxRests || len(s.Orders) != maxOrders {
		t.Errorf("%d rests, %d orders", len(s.Rests), len(s.Orders))
	}
	if s = s.expire(epoch.Add(time.Minute)); len(s.Rests)+len(s.Orders) != 0 {
		t.Errorf("after a minute: %d rests, %d orders left", len(s.Rests), len(s.Orders))
	}
}

func TestKindsAreClosedAndUnique(t *testing.T) {
	kinds := Kinds()
	slices.Sort(kinds)
	if n := len(slices.Compact(slices.Clone(kinds))); n != len(kinds) || n != 30 {
		t.Errorf("%d kinds, %d distinct, want 30", len(kinds), n)
	}
}

// FindBestTargetHost is for questions about whole hosts.
