package planner

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// packed is a host a under pressure whose VM db fits nowhere but on b, if it were not
// for its memory: idle VMs fill b, and a has memory for some of them.
func packed() (a, b *Host, p Policy) {
	a, _, p = pressed()
	a.VMs[0].Memory = 900
	b = testHost("b", 0.5, 2048)
	b.VMs = []VM{testVM("idle", 600, shape{level: 0.01}), testVM("large", 700, shape{level: 0.01}), testVM("small", 100, shape{level: 0.01})}
	return a, b, p
}

// digestOf is what h would gossip.
func digestOf(h *Host, p Policy) Peer {
	peer := Peer{ID: h.ID, Name: h.Name, Alive: true, Free: map[string]int{}, Pressure: HostPressure(*h)}
	for _, s := range Slots(*h, p.Classes, p.SlotProbability, epoch) {
		peer.Free[s.Class] = s.Free
	}
	return peer
}

// ask lets h plan and probe other, which remembers what it refuses, and returns the
// decision and what came of it.
func ask(t *testing.T, at time.Time, h, other *Host, p Policy) (Decision, HostID, Evaluation) {
	t.Helper()
	d, _ := Decide(at, *h, []Peer{digestOf(other, p)}, State{}, p, rand.New(rand.NewPCG(1, 1)))
	if d.Action != ActionMove {
		return d, "", Evaluation{}
	}
	vm := h.VMs[0]
	for i := range h.VMs {
		if h.VMs[i].ID == d.VM {
			vm = h.VMs[i]
		}
	}
	o := MakeOffer(at, *other, *d.Need, p)
	other.Wanted = NoteWanted(other.Wanted, at, *d.Need, o, p)
	to, e, refused := Choose(vm, *h, []Offer{o}, p)
	return d.Conclude(to, e, refused, p), to, e
}

// move puts a VM of one host on another.
func move(id VMID, from, to *Host) {
	for i := range from.VMs {
		if vm := from.VMs[i]; vm.ID == id {
			vm.History = MoveHistory{LastMoved: epoch, LastFrom: from.ID, Moves: []time.Time{epoch}}
			to.VMs = append(to.VMs, vm)
			from.VMs = append(from.VMs[:i:i], from.VMs[i+1:]...)
			return
		}
	}
}

// TestRoomIsMadeForAVMThatFitsNowhere: the host that had no memory gives an idle VM to
// the one that asked, under pressure as that is, and then takes the VM.
func TestRoomIsMadeForAVMThatFitsNowhere(t *testing.T) {
	a, b, p := packed()
	if d, _, _ := ask(t, epoch, b, a, p); d.Action != ActionStay {
		t.Fatalf("b moves something unasked: %s", d.Explain())
	}
	a.VMs[1].Policy.Pin = PinHere
	if d, to, _ := ask(t, epoch, a, b, p); d.VM != "db" || to != "" || len(b.Wanted) != 1 || b.Wanted[0].Need.Worth < 5 {
		t.Fatalf("to %q, wanted %+v: %s", to, b.Wanted, d.Explain())
	}
	d, to, e := ask(t, epoch.Add(time.Second), b, a, p)
	if to != "a" || d.VM != "idle" || !strings.Contains(d.Reason, "makes room for db of a") {
		t.Fatalf("to %q: %s", to, d.Explain())
	}
	if e.Room != b.Wanted[0].Need.Worth || d.PredictedWaitDrop > 0.5 {
		t.Errorf("worth %v of %v, %v less wait predicted here", e.Room, b.Wanted[0].Need.Worth, d.PredictedWaitDrop)
	}
	if text := strings.Join(d.Story(func(h HostID) string { return string(h) }), "\n"); !strings.Contains(text, "core-seconds of waiting, 5.45 of them where it lets another VM leave") {
		t.Errorf("the story:\n%s", text)
	}
	proposed, _ := Decide(epoch.Add(time.Second), *b, []Peer{digestOf(a, p)}, State{}, p, rand.New(rand.NewPCG(1, 1)))
	if proposed.PredictedWaitDrop > 0.5 {
		t.Errorf("%v less wait predicted of what is not of this host", proposed.PredictedWaitDrop)
	}
	refused := State{}.NoteRefused(epoch, "idle", []RefusedDestination{{Host: "a"}}, p)
	if d, _ := Decide(epoch.Add(time.Second), *b, []Peer{digestOf(a, p)}, refused, p, rand.New(rand.NewPCG(1, 1))); d.VM != "large" {
		t.Errorf("idle was refused a second ago: %s", d.Explain())
	}
	move("idle", b, a)
	if d, _, _ := ask(t, epoch.Add(2*time.Second), b, a, p); d.Action != ActionStay {
		t.Errorf("the room is made, and b goes on: %s", d.Explain())
	}
	if d, to, _ := ask(t, epoch.Add(2*time.Second), a, b, p); d.VM != "db" || to != "b" || len(b.Wanted) != 0 {
		t.Errorf("to %q, still wanted %v: %s", to, b.Wanted, d.Explain())
	}
}

// TestSeveralVMsMakeRoomTogether: two are enough, each is worth its part.
func TestSeveralVMsMakeRoomTogether(t *testing.T) {
	a, b, p := packed()
	b.VMs[0].Memory, b.VMs[1].Memory, b.VMs[2].Memory = 400, 500, 700
	b.VMs[2].Unmovable = "a passed-through device"
	b.Wanted = []Wanted{{At: epoch, Need: Need{VM: "db", From: "a", Memory: 1200, Worth: 8}}}
	s := newSource(b, &p)
	// 448 MiB are free, 752 are lacking.
	for i, want := range []CoreSeconds{8 * 400 / 752., 8 * 500 / 752., 0} {
		vm := &b.VMs[i]
		part := CoreSeconds(0)
		if len(vm.immovable()) == 0 {
			_, part = s.roomFor(vm)
		}
		if diff := part - want; diff > 1e-9 || diff < -1e-9 {
			t.Errorf("%s is worth %v, want %v", vm.ID, part, want)
		}
	}
	if d, to, _ := ask(t, epoch, b, a, p); d.VM != "large" || to != "a" {
		t.Errorf("to %q: %s", to, d.Explain())
	}
	b.Wanted[0].Need.Memory = 1400 // more than both give
	if _, part := newSource(b, &p).roomFor(&b.VMs[0]); part != 0 {
		t.Errorf("a part of what cannot be had is worth %v", part)
	}
	if d, _, _ := ask(t, epoch, b, a, p); d.Action != ActionStay {
		t.Errorf("a move that cannot be enough: %s", d.Explain())
	}
}

// TestTheCheapestMakesRoom: of VMs that make the same room, it matters little which one
// would relieve this host most.
func TestTheCheapestMakesRoom(t *testing.T) {
	_, b, p := packed()
	b.VMs = []VM{testVM("busy", 600, shape{level: 0.08, spread: 0.01}), testVM("idle", 600, shape{level: 0.01}), testVM("rest", 600, shape{level: 0.3, spread: 0.1})}
	b.VMs[2].Policy.Pin = PinHere
	b.Wanted = []Wanted{{At: epoch, Need: Need{VM: "db", From: "a", Memory: 800, Worth: 8}}}
	d := decide(b, &Peer{ID: "a", Alive: true, Free: map[string]int{"large": 9}}, State{}, p)
	if d.VM != "idle" || d.Considered[0].Evaluation.Net > d.Considered[1].Evaluation.Net {
		t.Errorf("chose %q: %s", d.VM, d.Explain())
	}
}

// TestRoomIsNotMade where something speaks against it.
func TestRoomIsNotMade(t *testing.T) {
	wanted := Wanted{At: epoch, Need: Need{VM: "db", From: "a", Memory: 900, Worth: 8}}
	for name, spoil := range map[string]func(a, b *Host, p *Policy){
		"worth less than three times the cost": func(_, b *Host, _ *Policy) { b.Wanted[0].Need.Worth = 0.1 },
		"asked too long ago":                   func(_, b *Host, p *Policy) { b.Wanted[0].At = epoch.Add(-wantedFor*p.RefusalBackoff - 1) },
		"the VM that would make it cools down": func(_, b *Host, _ *Policy) {
			b.VMs[0].History = MoveHistory{LastMoved: epoch, LastFrom: "z"}
			b.VMs[1].Policy.Pin = PinHere
		},
		"memory is overcommitted":             func(_, b *Host, _ *Policy) { b.MemoryOvercommit = 1.2 },
		"data are missing":                    func(_, b *Host, _ *Policy) { b.VMs[2].Measured = false },
		"the host that asks has no memory":    func(a, _ *Host, _ *Policy) { a.Capacity.Memory = 1200 },
		"another host asked":                  func(_, b *Host, _ *Policy) { b.Wanted[0].Need.From = "z" },
		"it would be as hot there without db": func(a, _ *Host, _ *Policy) { a.VMs[1].CPU = shape{level: 0.6, spread: 0.01}.forecast() },
	} {
		a, b, p := packed()
		b.Wanted = []Wanted{wanted}
		spoil(a, b, &p)
		for i := range b.VMs { // forecasts of memory, which only overcommitment asks for
			b.VMs[i].Mem = shape{level: 50}.forecast()
		}
		if d, to, _ := ask(t, epoch, b, a, p); to != "" {
			t.Errorf("%s: %s", name, d.Explain())
		}
	}
}

// TestClaimsOfWorthAreBounded: a peer may claim what it likes.
func TestClaimsOfWorthAreBounded(t *testing.T) {
	_, b, p := packed()
	b.Wanted = []Wanted{{At: epoch, Need: Need{VM: "db", From: "a", Memory: 900, Worth: 1e300}}}
	if _, worth := newSource(b, &p).roomFor(&b.VMs[0]); worth != 0.5*60 {
		t.Errorf("worth %v, all cores do 30 core-s in the horizon", worth)
	}
	b.Wanted[0].Need.VM = "idle"
	if _, worth := newSource(b, &p).roomFor(&b.VMs[0]); worth != 0 {
		t.Errorf("a VM makes room for itself, worth %v", worth)
	}
	b.Wanted[0].Need.VM, b.MemoryOvercommit = "db", 1.01
	if _, worth := newSource(b, &p).roomFor(&b.VMs[0]); worth != 0 {
		t.Errorf("allocations tell of demand for memory, worth %v", worth)
	}
}

// TestWantedIsBounded: the latest answer counts, the least worth goes.
func TestWantedIsBounded(t *testing.T) {
	p := DefaultPolicy()
	full := Offer{Refusals: []Refusal{refuse(RefuseMemory, "full")}}
	var list []Wanted
	for i := range 2 * maxWanted {
		list = NoteWanted(list, epoch, Need{VM: VMID(fmt.Sprint(i)), Worth: CoreSeconds(1 + i)}, full, p)
	}
	if len(list) != maxWanted || list[0].Need.Worth != maxWanted+1 {
		t.Errorf("%d kept, from %v on", len(list), list[0].Need.Worth)
	}
	last := list[len(list)-1].Need
	for name, o := range map[string]Offer{"taken": {}, "hot as well": {Refusals: append(full.Refusals, refuse(RefuseCPU, "hot"))}} {
		if got := NoteWanted(list, epoch, last, o, p); len(got) != maxWanted-1 {
			t.Errorf("%s: %d kept", name, len(got))
		}
	}
	for name, n := range map[string]Need{"worth nothing": {VM: "x"}, "drained": {VM: "x", Worth: 5, Drain: true}} {
		if got := NoteWanted(nil, epoch, n, full, p); len(got) != 0 {
			t.Errorf("%s: %d kept", name, len(got))
		}
	}
	if got := FreshWanted(list, epoch.Add(wantedFor*p.RefusalBackoff+1), p); len(got) != 0 {
		t.Errorf("%d are never forgotten", len(got))
	}
}
