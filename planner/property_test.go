package planner

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"headroom/predict"
)

// Generators. Demands are lines with normal noise, or bursts that are mostly zero.

func genShape(t *rapid.T, scale float64) shape {
	return shape{
		level:  rapid.Float64Range(0, scale).Draw(t, "level"),
		slope:  rapid.Float64Range(-scale/20, scale/10).Draw(t, "slope"),
		spread: rapid.Float64Range(0, scale/4).Draw(t, "spread"),
	}
}

func genVM(t *rapid.T, id VMID, scale float64) VM {
	vm := testVM(id, MiB(rapid.SampledFrom([]int{128, 256, 512}).Draw(t, "memory")), genShape(t, scale))
	if rapid.IntRange(0, 3).Draw(t, "bursty") == 0 {
		burst := rapid.Float64Range(0, scale).Draw(t, "burst")
		for h := range vm.CPU.Steps {
			vm.CPU.Steps[h] = predict.Quantiles{0, 0, burst / 2, burst, burst}
		}
		vm.CPU.Peak = predict.Quantiles{burst, burst, burst, burst, burst}
	}
	vm.HasDirtyRate = rapid.Bool().Draw(t, "has dirty rate")
	vm.DirtyRate = BytesPerSecond(rapid.Float64Range(0, 200e6).Draw(t, "dirty"))
	return vm
}

func genHost(t *rapid.T, id HostID, maxVMs int) *Host {
	h := testHost(id, Cores(rapid.Float64Range(0.3, 4).Draw(t, "cpu")), MiB(rapid.IntRange(256, 8192).Draw(t, "mem")))
	for i := range rapid.IntRange(0, maxVMs).Draw(t, "vms") {
		h.VMs = append(h.VMs, genVM(t, VMID(fmt.Sprintf("%s-vm%d", id, i)), float64(h.Capacity.CPU)/2))
	}
	rho := rapid.Float64Range(0, 1).Draw(t, "correlation")
	h.Correlation = &rho
	if rapid.Bool().Draw(t, "limits traffic") {
		h.Carries = Traffic{Disk: 1e8, Network: 1e9}
		for i := range h.VMs {
			h.VMs[i].Disk = genShape(t, 5e7).forecast()
			h.VMs[i].Network = genShape(t, 5e8).forecast()
		}
	}
	return h
}

// genFlawed makes hosts with everything that may stand against a move.
func genFlawed(t *rapid.T, id HostID, now time.Time) *Host {
	h := genHost(t, id, 6)
	for i := range h.VMs {
		vm := &h.VMs[i]
		switch rapid.IntRange(0, 9).Draw(t, "flaw") {
		case 0:
			vm.Policy.Pin = PinHere
		case 1:
			vm.Busy = "backup"
		case 2:
			vm.Guarded = false
		case 3, 4, 5:
			vm.History.LastMoved = now.Add(-time.Duration(rapid.IntRange(-5, 900).Draw(t, "ago")) * time.Second)
			vm.History.LastFrom = rapid.SampledFrom([]HostID{"h0", "h1", "h2"}).Draw(t, "from")
			vm.History.Moves = []time.Time{vm.History.LastMoved}
		case 6:
			vm.Policy.Mode = rapid.SampledFrom([]Mode{ModeAdvise, ModeApprove, ModeAuto}).Draw(t, "mode")
		}
	}
	h.Complete = rapid.IntRange(0, 9).Draw(t, "complete") > 0
	h.Draining = rapid.IntRange(0, 5).Draw(t, "draining") == 0
	return h
}

func genWorld(t *rapid.T) *world {
	w := newWorld()
	w.policy.Hold, w.policy.Window = 1, 1
	for i := range rapid.IntRange(1, 5).Draw(t, "hosts") {
		id := HostID(fmt.Sprintf("h%d", i))
		w.hosts[id] = genFlawed(t, id, w.now)
	}
	return w
}

func leaseOf(id string, vcpu Cores, mem MiB, steps bool) Lease {
	d := constantDemand(float64(vcpu))
	if steps {
		d = demandOf(ptr(shape{level: float64(vcpu)}.forecast()))
	}
	return Lease{ID: LeaseID(id), Need: Need{VM: VMID(id), From: "elsewhere", Memory: mem, CPU: d}}
}

func ptr[T any](v T) *T { return &v }

// TestSlotConservation: holding one slot of a class uses up at least one, and
// exactly one where the class's own dimension is what limits.
func TestSlotConservation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := genHost(t, "h", 6)
		classes := LabPolicy().Classes
		p := rapid.Float64Range(0.5, 0.99).Draw(t, "p")
		for i, c := range classes {
			before := Slots(*h, classes, p, epoch)[i].Free
			held := *h
			held.Held = []Lease{leaseOf("x", c.VCPU, c.Memory, rapid.Bool().Draw(t, "steps"))}
			after := Slots(held, classes, p, epoch)[i].Free
			want := max(0, before-1)
			if before == MaxSlots {
				continue
			}
			if after > want || after < want-1 {
				t.Fatalf("class %s: %d free, after holding one %d, want %d", c.Name, before, after, want)
			}
		}
	})
}

// TestMoreLoadNeverYieldsMoreSlots: another VM, a raised demand, a lease or an
// incoming VM never adds a slot of any class.
func TestMoreLoadNeverYieldsMoreSlots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := genHost(t, "h", 6)
		classes := LabPolicy().Classes
		p := rapid.Float64Range(0.5, 0.99).Draw(t, "p")
		more := *h
		more.VMs = slices.Clone(h.VMs)
		switch what := rapid.IntRange(0, 3).Draw(t, "what"); {
		case what == 0 || len(h.VMs) == 0:
			more.VMs = append(more.VMs, genVM(t, "extra", 1))
		case what == 1:
			i := rapid.IntRange(0, len(h.VMs)-1).Draw(t, "which")
			more.VMs[i].CPU = raised(h.VMs[i].CPU, rapid.Float64Range(1, 2).Draw(t, "factor"), rapid.Float64Range(0, 0.2).Draw(t, "shift"))
		case what == 2:
			more.Held = []Lease{leaseOf("x", 0.1, 128, true)}
		default:
			more.Incoming = []Incoming{{Need: leaseOf("x", 0.1, 128, true).Need}}
		}
		a, b := Slots(*h, classes, p, epoch), Slots(more, classes, p, epoch)
		for i := range classes {
			if b[i].Free > a[i].Free {
				t.Fatalf("class %s: %d free with less load, %d with more", classes[i].Name, a[i].Free, b[i].Free)
			}
		}
	})
}

func raised(f predict.Forecast, factor, shift float64) predict.Forecast {
	up := func(q predict.Quantiles) predict.Quantiles {
		for i := range q {
			q[i] = q[i]*factor + shift
		}
		return q
	}
	f.Steps = slices.Clone(f.Steps)
	for h := range f.Steps {
		f.Steps[h] = up(f.Steps[h])
	}
	f.Peak = up(f.Peak)
	return f
}

// TestNoOvercommit: sources probe and reserve at one destination in any
// order; leases are granted when the offer made at that moment has no refusal.
// What is granted never passes LOW in expected CPU demand nor memory, whatever
// was offered before.
func TestNoOvercommit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := LabPolicy()
		p.MaxIncoming = rapid.IntRange(1, 6).Draw(t, "max incoming")
		h := genHost(t, "dst", 3)
		var asked []Need
		for step := range rapid.IntRange(1, 25).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "act") {
			case 0, 1: // a probe, which holds nothing
				vm := genVM(t, VMID(fmt.Sprintf("vm%d", step)), 0.5)
				need := NeedOf(vm, *testHost(HostID(fmt.Sprintf("src%d", step)), 1, 1))
				MakeOffer(epoch, *h, need, p)
				asked = append(asked, need)
			case 2, 3: // a reservation, perhaps of a stale or repeated probe
				if len(asked) == 0 {
					continue
				}
				need := rapid.SampledFrom(asked).Draw(t, "need")
				if len(MakeOffer(epoch, *h, need, p).Refusals) == 0 && !holds(h, need.VM) {
					h.Held = append(h.Held, Lease{ID: LeaseID(need.VM), Need: need})
				}
			case 4: // a lease turns into an incoming copy
				if len(h.Held) > 0 {
					h.Incoming = append(h.Incoming, Incoming{Lease: h.Held[0].ID, Need: h.Held[0].Need})
					h.Held = slices.Delete(slices.Clone(h.Held), 0, 1)
				}
			}
			checkNoOvercommit(t, h, p)
		}
	})
}

func holds(h *Host, vm VMID) bool {
	return slices.ContainsFunc(h.pending(), func(n Need) bool { return n.VM == vm })
}

func checkNoOvercommit(t *rapid.T, h *Host, p Policy) {
	pending := h.pending()
	if len(pending) == 0 {
		return
	}
	if len(pending) > p.MaxIncoming {
		t.Fatalf("%d leases and incoming VMs, at most %d", len(pending), p.MaxIncoming)
	}
	memory := MiB(0)
	for i := range h.VMs {
		memory += h.VMs[i].Memory
	}
	for _, n := range pending {
		memory += n.Memory
	}
	if memory > h.usable().Memory {
		t.Fatalf("%.0f MiB are promised of %.0f", memory, h.usable().Memory)
	}
	if level := h.cpuLoad(h.grid()).level(); level > p.Low*float64(h.usable().CPU)+1e-6 {
		t.Fatalf("%.4f cores are expected to be wanted, LOW is %.4f", level, p.Low*float64(h.usable().CPU))
	}
}

// TestDecideIsDeterministic: the same arguments give the same record and
// state, the order of peers notwithstanding, and the arguments stay untouched.
func TestDecideIsDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := genWorld(t)
		seed := rapid.Uint64().Draw(t, "seed")
		peers := w.peers("h0")
		before := fmt.Sprintf("%+v", *w.hosts["h0"])
		d1, s1 := Decide(w.now, *w.hosts["h0"], peers, State{}, w.policy, rand.New(rand.NewPCG(seed, 0)))
		reversed := slices.Clone(peers)
		slices.Reverse(reversed)
		d2, s2 := Decide(w.now, *w.hosts["h0"], reversed, State{}, w.policy, rand.New(rand.NewPCG(seed, 0)))
		if diff := cmp.Diff(d1, d2, cmpopts.EquateNaNs()); diff != "" {
			t.Fatalf("two decisions from the same arguments:\n%s", diff)
		}
		if diff := cmp.Diff(s1, s2); diff != "" {
			t.Fatalf("two states from the same arguments:\n%s", diff)
		}
		if after := fmt.Sprintf("%+v", *w.hosts["h0"]); after != before {
			t.Fatalf("Decide changed its argument")
		}
	})
}

// TestNoMoveUnderCooldown: whatever the pressure, no VM in its cool-down is
// chosen, none returns to its last host too early, and no VM that is pinned,
// busy or unguarded leaves; only a drain lifts the first two.
func TestNoMoveUnderCooldown(t *testing.T) {
	moves := 0
	rapid.Check(t, func(t *rapid.T) {
		w := genWorld(t)
		h := w.hosts["h0"]
		d := w.round("h0")
		if len(d.Candidates) == 0 {
			return
		}
		moves++
		vm := h.vm(d.VM)
		if vm.Policy.Pin != "" || vm.Busy != "" || !vm.Guarded {
			t.Fatalf("chose %s: pin %q, busy %q, guarded %v", vm.ID, vm.Policy.Pin, vm.Busy, vm.Guarded)
		}
		if len(h.missing()) > 0 && !h.Draining {
			t.Fatalf("planned although %v is missing", h.missing())
		}
		if h.Draining {
			return
		}
		if left := CooldownLeft(vm.History, w.now, w.policy); left > 0 {
			t.Fatalf("chose %s, which cools down for another %s", vm.ID, left)
		}
		if since := w.now.Sub(vm.History.LastMoved); since < w.policy.ReturnAfter && slices.Contains(d.Candidates, vm.History.LastFrom) {
			t.Fatalf("%s would return to %s after %s", vm.ID, vm.History.LastFrom, since)
		}
	})
	if moves == 0 {
		t.Error("no generated world moved anything: the property was not tested")
	}
}

// TestRefusalsAreComplete: after a round that looked for a way out, every VM
// that was not chosen and every peer that was not a candidate has a reason of
// a known kind with a text, or was feasible and not drawn.
func TestRefusalsAreComplete(t *testing.T) {
	known := Kinds()
	check := func(t *rapid.T, what string, rs []Refusal) {
		if len(rs) == 0 {
			t.Fatalf("%s: no reason", what)
		}
		for _, r := range rs {
			if !slices.Contains(known, r.Kind) || r.Text == "" {
				t.Fatalf("%s: refusal %+v", what, r)
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		w := genWorld(t)
		d := w.round("h0")
		if d.Reason == "" || d.Action == "" {
			t.Fatalf("decision without reason or action: %+v", d)
		}
		for _, o := range d.Considered {
			// A VM without refusals may lose to a better one, which the order shows.
			if o.VM != d.VM && len(o.Refusals) > 0 {
				check(t, "VM "+string(o.VM), o.Refusals)
			}
		}
		for _, r := range d.Refused {
			check(t, "host "+string(r.Host), r.Refusals)
		}
		if d.VM == "" {
			return
		}
		refused := len(d.Refused)
		for _, c := range d.Candidates {
			if c != d.To && !slices.ContainsFunc(d.Refused, func(r RefusedDestination) bool { return r.Host == c }) {
				t.Fatalf("candidate %s was neither chosen nor refused", c)
			}
		}
		unprobed := d.Feasible - len(d.Candidates)
		chosen := b2i(d.To != "")
		if refused+unprobed+chosen != len(w.hosts)-1 {
			t.Fatalf("%d refused + %d not drawn + %d chosen, of %d peers", refused, unprobed, chosen, len(w.hosts)-1)
		}
	})
}

// TestMoveHelps: a move that the rules allow never raises the expected
// unserved demand of both hosts together, and gains GainFactor times its cost.
func TestMoveHelps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := genWorld(t)
		d := w.round("h0")
		if d.To == "" || d.Drain {
			return
		}
		e := d.Evaluation
		if e.Gain < CoreSeconds(w.policy.GainFactor)*e.Cost.Total || e.Gain < w.policy.MinGain {
			t.Fatalf("gain %v at cost %v", e.Gain, e.Cost.Total)
		}
		if e.Source.With+e.Destination.With > e.Source.Without+e.Destination.Without+1e-9 {
			t.Fatalf("expected wait rises: source %+v, destination %+v", e.Source, e.Destination)
		}
		if passed := e.Destination.With - e.Destination.Without; passed > (e.Source.Without-e.Source.With)/2+1e-9 {
			t.Fatalf("the destination falls short by %v more, the source is spared %v", passed, e.Source.Without-e.Source.With)
		}
	})
}
