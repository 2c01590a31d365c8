package planner

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// pressed is a host that must lose web or db, one good peer, and a policy
// under which one round is enough.
func pressed() (*Host, *Peer, Policy) {
	p := LabPolicy()
	p.Hold, p.Window = 1, 1
	h := testHost("a", 0.5, 2048)
	h.VMs = []VM{testVM("db", 128, shape{level: 0.3, spread: 0.01}), testVM("web", 128, shape{level: 0.3, spread: 0.01})}
	return h, &Peer{ID: "b", Name: "b", Alive: true, Free: map[string]int{"small": 5}}, p
}

func decide(h *Host, peer *Peer, st State, p Policy) Decision {
	d, _ := Decide(epoch, *h, []Peer{*peer}, st, p, rand.New(rand.NewPCG(1, 1)))
	return d
}

// TestEachPeerRule spoils a feasible peer in one way at a time.
func TestEachPeerRule(t *testing.T) {
	cases := []struct {
		want  Kind
		spoil func(h *Host, peer *Peer, st *State)
	}{
		{RefuseUnreachable, func(_ *Host, p *Peer, _ *State) { p.Alive = false }},
		{RefuseMissingData, func(_ *Host, p *Peer, _ *State) { p.Free = nil }},
		{RefuseStale, func(_ *Host, p *Peer, _ *State) { p.DigestAge = time.Minute }},
		{RefuseStale, func(_ *Host, p *Peer, _ *State) { p.DigestAge, p.ValidFor = 3*time.Second, 2*time.Second }},
		{RefuseDraining, func(_ *Host, p *Peer, _ *State) { p.Draining = true }},
		{RefuseDistance, func(_ *Host, p *Peer, _ *State) { p.RTT, p.RTTKnown = time.Second, true }},
		{RefuseCPU, func(_ *Host, p *Peer, _ *State) { p.Pressure = 1.5 }},
		{RefuseConcurrency, func(_ *Host, p *Peer, _ *State) { p.Incoming = 1 }},
		{RefuseCPUModel, func(_ *Host, p *Peer, _ *State) { p.CPUModel = "other" }},
		{RefusePool, func(_ *Host, p *Peer, _ *State) { p.Pools = []string{"other"} }},
		{RefuseNetwork, func(_ *Host, p *Peer, _ *State) { p.Networks = []string{"other"} }},
		{RefuseBackoff, func(_ *Host, _ *Peer, st *State) {
			st.Rests = []Rest{{VM: "db", Host: "b", Until: epoch.Add(time.Second), Why: "refused"}, {VM: "web", Host: "b", Until: epoch.Add(time.Second), Why: "refused"}}
		}},
		{RefusePinned, func(h *Host, _ *Peer, _ *State) { h.VMs[0].Policy.Pin, h.VMs[1].Policy.Pin = "c", "c" }},
		{RefuseReturn, func(h *Host, _ *Peer, _ *State) {
			for i := range h.VMs {
				h.VMs[i].History = MoveHistory{LastFrom: "b", LastMoved: epoch.Add(-2 * time.Minute)}
			}
		}},
	}
	for _, c := range cases {
		h, peer, p := pressed()
		var st State
		if d := decide(h, peer, st, p); d.Action != ActionMove {
			t.Fatalf("control: %s", d.Explain())
		}
		c.spoil(h, peer, &st)
		d := decide(h, peer, st, p)
		if d.Action != ActionStuck || len(d.Refused) != 1 || !hasKind(d.Refused[0].Refusals, c.want) {
			t.Errorf("%s: %s", c.want, d.Explain())
		}
	}
	h, peer, p := pressed()
	peer.DigestAge, peer.ValidFor = 2*p.MaxDigestAge, 3*p.MaxDigestAge // a large cluster's hosts tell rarely
	if d := decide(h, peer, State{}, p); d.Action != ActionMove {
		t.Errorf("a digest that lives longer than usual: %s", d.Explain())
	}
	h, peer, p = pressed()
	peer.RTT = time.Second // a coordinate not to be trusted yet
	if d := decide(h, peer, State{}, p); d.Action != ActionMove {
		t.Errorf("unknown round trip: %s", d.Explain())
	}
}

// TestEachVMRule spoils both VMs in one way at a time.
func TestEachVMRule(t *testing.T) {
	cases := []struct {
		want  Kind
		spoil func(vm *VM, st *State)
	}{
		{RefusePinned, func(vm *VM, _ *State) { vm.Policy.Pin = PinHere }},
		{RefusePinned, func(vm *VM, _ *State) { vm.Policy.Pin = "a" }},
		{RefuseBusy, func(vm *VM, _ *State) { vm.Busy = "backup job" }},
		{RefuseUnmovable, func(vm *VM, _ *State) { vm.Unmovable = "pass-through device" }},
		{RefuseNoGuard, func(vm *VM, _ *State) { vm.Guarded = false }},
		{RefuseCooldown, func(vm *VM, _ *State) { vm.History.LastMoved = epoch.Add(-59 * time.Second) }},
		{RefuseAffinity, func(vm *VM, _ *State) { vm.Policy.Affinity = []string{"db", "web"} }},
		{RefuseNoConverge, func(vm *VM, _ *State) { vm.DirtyRate = 400 << 20 }},
		{RefuseBackoff, func(vm *VM, st *State) {
			st.Rests = append(st.Rests, Rest{VM: vm.ID, Until: epoch.Add(time.Second), Why: "failed"})
		}},
		{RefuseRejected, func(vm *VM, st *State) {
			st.Orders = append(st.Orders, Order{VM: vm.ID, Until: epoch.Add(time.Second)})
		}},
	}
	for _, c := range cases {
		h, peer, p := pressed()
		var st State
		for i := range h.VMs {
			c.spoil(&h.VMs[i], &st)
		}
		d := decide(h, peer, st, p)
		if d.Action != ActionStuck || len(d.Candidates) > 0 {
			t.Errorf("%s: %s", c.want, d.Explain())
		}
		for _, o := range d.Considered {
			if !hasKind(o.Refusals, c.want) {
				t.Errorf("%s: VM %s has %v", c.want, o.VM, o.Refusals)
			}
		}
	}
}

// TestPauseStopsNewMoves: neither contention nor a drain begins a move, and no
// host takes a VM but on a person's word.
func TestPauseStopsNewMoves(t *testing.T) {
	for _, draining := range []bool{false, true} {
		h, peer, p := pressed()
		h.Draining = draining
		if d := decide(h, peer, State{}, p); d.Action != ActionMove {
			t.Fatalf("control: %s", d.Explain())
		}
		h.Paused = "paused on h7 (switch)"
		if d := decide(h, peer, State{}, p); d.Action != ActionFrozen || d.Reason != h.Paused || len(d.Candidates) > 0 {
			t.Errorf("draining %v: %s", draining, d.Explain())
		}
	}
	src, _, p := pressed()
	dst := testHost("b", 0.5, 2048)
	dst.Paused = "paused"
	need := NeedOf(src.VMs[0], *src)
	if o := MakeOffer(epoch, *dst, need, p); !hasKind(o.Refusals, RefusePaused) {
		t.Errorf("a paused host takes a VM: %v", o.Refusals)
	}
	need.Operator = true
	if o := MakeOffer(epoch, *dst, need, p); len(o.Refusals) > 0 {
		t.Errorf("a paused host refuses a person: %v", o.Refusals)
	}
}

func TestLongBlackoutIsRefused(t *testing.T) {
	h, peer, p := pressed()
	p.MaxBlackout = 220 * time.Millisecond
	d := decide(h, peer, State{}, p)
	if len(d.Candidates) > 0 || !hasKind(d.Considered[0].Refusals, RefuseBlackout) {
		t.Errorf("predicted pause of %s above %s: %s", d.Considered[0].Evaluation.Cost.Blackout, p.MaxBlackout, d.Explain())
	}
}

// TestMinGainAlsoBindsCheapMoves: three times next to nothing is still nothing.
func TestMinGainAlsoBindsCheapMoves(t *testing.T) {
	h, peer, p := pressed()
	gain := decide(h, peer, State{}, p).Considered[0].Evaluation.Gain
	src := *h
	offer := MakeOffer(epoch, *testHost("b", 0.5, 2048), NeedOf(h.VMs[0], src), p)
	p.MinGain = gain * 1.01
	if e := EvaluateMigration(h.VMs[0], src, offer, p); !hasKind(e.Refusals, RefuseGain) {
		t.Errorf("gain %v below the least gain %v was accepted", e.Gain, p.MinGain)
	}
	p.MinGain = gain * 0.9
	if e := EvaluateMigration(h.VMs[0], src, offer, p); !e.Allowed() {
		t.Errorf("gain %v above the least gain %v was refused: %v", e.Gain, p.MinGain, e.Refusals)
	}
}

// TestRefusedVMLetsOthersHaveTheirTurn: the best VM is proposed until four hosts have
// refused it lately; then it comes last, and is still proposed when it is alone.
func TestRefusedVMLetsOthersHaveTheirTurn(t *testing.T) {
	h, peer, p := pressed()
	best := decide(h, peer, State{}, p).VM
	var st State
	for n := range tiredAfter + 1 {
		want := n < tiredAfter
		if d := decide(h, peer, st, p); (d.VM == best) != want || d.Action != ActionMove {
			t.Errorf("after %d refusals of %s: %s", n, best, d.Explain())
		}
		st.Rests = append(st.Rests, Rest{VM: best, Host: HostID(fmt.Sprint("r", n)), Until: epoch.Add(time.Minute), Why: "refused"})
	}
	h.VMs = slices.DeleteFunc(h.VMs, func(vm VM) bool { return vm.ID != best })
	h.Capacity.CPU = 0.2
	if d := decide(h, peer, st, p); d.VM != best {
		t.Errorf("alone: %s", d.Explain())
	}
}

// TestMinGainGrowsWithTheHost: what is much for a small host is little for a
// large one, or over a longer horizon.
func TestMinGainGrowsWithTheHost(t *testing.T) {
	h, peer, p := pressed()
	e := decide(h, peer, State{}, p).Considered[0].Evaluation
	src := *h
	offer := MakeOffer(epoch, *testHost("b", 0.5, 2048), NeedOf(h.VMs[0], src), p)
	whole := float64(src.usable().CPU) * e.Horizon.Seconds()
	p.MinGain = 0
	for _, c := range []struct {
		times   float64
		allowed bool
	}{{1.01, false}, {0.99, true}} {
		p.MinGainShare = c.times * float64(e.Gain) / whole
		if got := EvaluateMigration(h.VMs[0], src, offer, p); got.Allowed() != c.allowed || hasKind(got.Refusals, RefuseGain) == c.allowed {
			t.Errorf("gain %v of %.2f core-seconds that the host has, share %v: %v", e.Gain, whole, p.MinGainShare, got.Refusals)
		}
	}
	p.MinGainShare = 1
	d := decide(h, peer, State{}, p)
	if d.Action != ActionStay || math.Abs(float64(d.Inputs.MinGain)-whole) > 1e-9 || d.Deciding.By != DecidedByUnserved {
		t.Errorf("all that the host can do is asked for: %s, least gain %v of %v", d.Explain(), d.Inputs.MinGain, whole)
	}
	for cores, want := range map[Cores]CoreSeconds{4: 10, 64: 38.4} {
		big := *h
		big.Capacity.CPU, big.Reserve.CPU = cores, 0
		if got := DefaultPolicy().scaled(&big).MinGain; math.Abs(float64(got-want)) > 1e-9 {
			t.Errorf("%v cores over %v: least gain %v, want %v", cores, e.Horizon, got, want)
		}
	}
}

// TestGainBeginsAfterTheCopy: while it is copied, the VM still burdens its source.
func TestGainBeginsAfterTheCopy(t *testing.T) {
	h, _, p := pressed()
	h.VMs[0].DirtyRate = 0
	gain := func() CoreSeconds { return newSource(h, &p).leaving(&h.VMs[0], "").Gain }
	fast := gain()
	p.Bandwidth = 13_421_773 // 12.8 MiB/s: 10 s of copying instead of 0.9
	slow := gain()
	if lost := float64(fast - slow); math.Abs(lost-0.1*9) > 0.15 {
		t.Errorf("gain %v with a fast copy, %v with one 9 s longer: want 0.1 cores x 9 s less", fast, slow)
	}
}

func TestChoosePrefersTheGreatestNetGain(t *testing.T) {
	h, _, p := pressed()
	h.Learned.Links = []LinkEstimate{{Peer: "near", Bandwidth: 200e6, Samples: 3}, {Peer: "slow", Bandwidth: 50e6, Samples: 3}}
	need := NeedOf(h.VMs[0], *h)
	var offers []Offer
	for _, id := range []HostID{"slow", "near"} {
		offers = append(offers, MakeOffer(epoch, *testHost(id, 0.5, 2048), need, p))
	}
	for range 2 {
		if to, e, refused := Choose(h.VMs[0], *h, offers, p); to != "near" || e.To != "near" || len(refused) != 1 || refused[0].Host != "slow" {
			t.Errorf("chose %s, refused %v", to, refused)
		}
		slices.Reverse(offers)
	}
}

func TestOneOutgoingMoveAtATime(t *testing.T) {
	h, peer, p := pressed()
	h.Outgoing = []VMID{"web"}
	if d := decide(h, peer, State{}, p); d.Action != ActionStay || len(d.Candidates) > 0 {
		t.Errorf("with a move under way: %s", d.Explain())
	}
	p.MaxOutgoing = 2
	d := decide(h, peer, State{}, p)
	if d.Action != ActionStay || d.Inputs.Unserved != 0 {
		t.Errorf("the VM under way still counts as staying: %s", d.Explain())
	}
}

func TestOwnSingleFailureDoesNotFreeze(t *testing.T) {
	h, peer, p := pressed()
	h.Learned = h.Learned.Note(MigrationResult{At: epoch.Add(-time.Minute), VM: "db", To: "x", Why: "link cut"})
	if d := decide(h, peer, State{}, p); d.Action != ActionMove {
		t.Errorf("one failure of one: %s", d.Explain())
	}
}

func TestOldFailuresAreForgotten(t *testing.T) {
	var l Learned
	l = l.Note(MigrationResult{At: epoch, VM: "db", To: "x", Why: "link cut"})
	if n := l.Forget(epoch.Add(23*time.Hour)).failures("db", "x"); n != 1 {
		t.Errorf("%d failures after 23 h, want 1", n)
	}
	if n := l.Forget(epoch.Add(25*time.Hour)).failures("db", "x"); n != 0 {
		t.Errorf("%d failures after 25 h, want 0", n)
	}
}

// TestFreedomComesBeforeGain: a VM that only advises must not block one that
// may be moved, although its own gain per cost is greater.
func TestFreedomComesBeforeGain(t *testing.T) {
	h, peer, p := pressed()
	h.VMs[1].DirtyRate = 60 << 20 // web is the dearer one
	if d := decide(h, peer, State{}, p); d.VM != "db" {
		t.Fatalf("control: %s", d.Explain())
	}
	h.VMs[0].Policy.Mode = ModeAdvise
	if d := decide(h, peer, State{}, p); d.VM != "web" || d.Action != ActionMove {
		t.Errorf("db only advises: %s", d.Explain())
	}
}

// TestNoReturnWithin2h holds the default policy to its word, urgency aside.
func TestNoReturnWithin2h(t *testing.T) {
	for _, c := range []struct {
		ago  time.Duration
		want Action
	}{{119 * time.Minute, ActionStuck}, {121 * time.Minute, ActionMove}} {
		h, peer, lab := pressed()
		p := DefaultPolicy()
		p.Mode, p.Hold, p.Window, p.MinGain, p.MigrationCores, p.Classes = ModeAuto, 1, 1, 0.5, 0.1, lab.Classes
		p.UrgentFactor = 0
		for i := range h.VMs {
			last := epoch.Add(-c.ago)
			h.VMs[i].History = MoveHistory{LastFrom: "b", LastMoved: last, Moves: []time.Time{last}}
		}
		if d := decide(h, peer, State{}, p); d.Action != c.want {
			t.Errorf("left %s ago: %s", c.ago, d.Explain())
		}
	}
}

func TestReturnToleratesClocksAhead(t *testing.T) {
	h, peer, p := pressed()
	for i := range h.VMs {
		h.VMs[i].History = MoveHistory{LastFrom: "b", LastMoved: epoch.Add(time.Hour)}
	}
	p.Cooldown, p.CooldownCap = 1, 1
	d := decide(h, peer, State{}, p)
	r := &planning{now: epoch, p: &p}
	if left := r.returnLeft(&h.VMs[0], "b"); left != p.ReturnAfter {
		t.Errorf("moved an hour in the future: may return in %s, want at most %s", left, p.ReturnAfter)
	}
	if len(d.Candidates) > 0 {
		t.Errorf("returns: %s", d.Explain())
	}
}

// TestDrainFillsUpToHigh: maintenance may fill a host beyond LOW, not beyond HIGH.
func TestDrainFillsUpToHigh(t *testing.T) {
	h, _, p := pressed()
	dst := testHost("b", 0.5, 2048)
	answer := func(level float64) []Refusal {
		need := NeedOf(testVM("v", 128, shape{level: level}), *h)
		return MakeOffer(epoch, *dst, need, p).Refusals
	}
	if !hasKind(answer(0.40), RefuseCPU) {
		t.Error("80 % was accepted without a drain")
	}
	h.Draining = true
	if rs := answer(0.40); len(rs) > 0 {
		t.Errorf("80 %% was refused to a drain: %v", rs)
	}
	if !hasKind(answer(0.44), RefuseCPU) {
		t.Error("88 % was accepted by a drain")
	}
}

// TestRepeatedProbeAnswersTheSame: a VM's own lease, copy or paused twin does
// not stand in its own way.
func TestRepeatedProbeAnswersTheSame(t *testing.T) {
	src, _, p := pressed()
	dst := testHost("b", 0.5, 200)
	need := NeedOf(src.VMs[0], *src)
	first := MakeOffer(epoch, *dst, need, p)
	dst.Held = []Lease{{ID: "l", Need: need}}
	held := MakeOffer(epoch, *dst, need, p)
	dst.Incoming = []Incoming{{Lease: "l", Need: need}}
	dst.VMs = []VM{{ID: need.VM, Memory: need.Memory}} // the paused copy, unmeasured
	again := MakeOffer(epoch, *dst, need, p)
	for i, o := range []Offer{first, held, again} {
		if len(o.Refusals) > 0 || o.P90After != first.P90After || o.MemoryFree != first.MemoryFree {
			t.Errorf("probe %d: %v, p90 after %v, %v MiB free", i+1, o.Refusals, o.P90After, o.MemoryFree)
		}
	}
	other := need
	other.VM = "other"
	if o := MakeOffer(epoch, *dst, other, p); !hasKind(o.Refusals, RefuseMemory) || !hasKind(o.Refusals, RefuseConcurrency) {
		t.Errorf("another VM: %v", o.Refusals)
	}
}

// TestSlotsHoldWithTheirProbability: more confidence never gives more slots,
// and what is published holds with at least the asked probability.
func TestSlotsHoldWithTheirProbability(t *testing.T) {
	h := testHost("h", 1, 4096)
	h.VMs = []VM{testVM("v", 128, shape{level: 0.3, spread: 0.15})}
	classes := []Class{{Name: "tenth", VCPU: 0.1, Memory: 16}}
	last := MaxSlots
	var frees []int
	for _, p := range []float64{0.5, 0.9, 0.99} {
		s := Slots(*h, classes, p, epoch)[0]
		if s.Free > last || s.Probability < p {
			t.Errorf("at %v: %+v after %d", p, s, last)
		}
		if s.Until != epoch.Add(time.Minute) {
			t.Errorf("holds until %s", s.Until)
		}
		last = s.Free
		frees = append(frees, s.Free)
	}
	if want := []int{6, 4, 2}; !slices.Equal(frees, want) {
		t.Errorf("%v slots of 0.1 cores at 0.5, 0.9, 0.99, want %v", frees, want)
	}
}

func TestLearnedRatiosScaleThePrediction(t *testing.T) {
	p := LabPolicy()
	vm := testVM("v", 128, shape{})
	plain := planCopy(&vm, LinkEstimate{Bandwidth: 150e6}, &Learned{}, &p)
	scaled := planCopy(&vm, LinkEstimate{Bandwidth: 150e6}, &Learned{CopyRatio: 2, BlackoutRatio: 3}, &p)
	if r := float64(scaled.time) / float64(plain.time); math.Abs(r-2) > 1e-6 {
		t.Errorf("copy time scaled by %v, want 2", r)
	}
	if r := float64(scaled.blackout) / float64(plain.blackout); math.Abs(r-3) > 1e-6 {
		t.Errorf("blackout scaled by %v, want 3", r)
	}
}

// TestIdleSecondsDoNotPayForBusyOnes: the wait without the move is the excess
// of each moment, not of the mean.
func TestIdleSecondsDoNotPayForBusyOnes(t *testing.T) {
	d := Decision{To: "b", PredictedWaitDrop: 3, Inputs: Inputs{Horizon: time.Minute, Usable: Capacity{CPU: 0.5}}}
	o := Outcome{
		Window: 10 * time.Minute, Measured: true,
		SourceDemand: []Cores{0.4, 0.1}, MovedDemand: []Cores{0.2, 0.1},
	}
	v := JudgeOutcome(d, o)
	if math.Abs(float64(v.WithoutMove)-0.05) > 1e-9 || v.Finding != FoundAsPredicted {
		t.Errorf("%+v, want 0.05 cores without the move", v)
	}
}

// TestRestsAsLongAsAsked: a host that refused is not asked again before it wants
// to be, within bounds.
func TestRestsAsLongAsAsked(t *testing.T) {
	p := DefaultPolicy()
	for _, c := range []struct{ asked, want time.Duration }{
		{0, time.Minute}, {time.Second, 15 * time.Second}, {30 * time.Second, 30 * time.Second},
		{5 * time.Minute, 5 * time.Minute}, {time.Hour, 10 * time.Minute},
	} {
		s := State{}.NoteRefused(epoch, "vm", []RefusedDestination{{Host: "b", RetryAfter: c.asked}}, p)
		if got := s.Rests[0].Until.Sub(epoch); got != c.want {
			t.Errorf("asked for %v: rests %v, want %v", c.asked, got, c.want)
		}
	}
}
