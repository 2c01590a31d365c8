package planner

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"headroom/predict"
)

// flat is a demand that does not vary.
func flat(v float64) predict.Forecast {
	f := shape{level: v}.forecast()
	for i := range f.Peak {
		f.Peak[i] = v
	}
	return f
}

// busyDisk is a host of 2 cores, nearly idle, whose VMs ask its disk of 100 MB/s
// for 110, and a peer. One round of pressure is enough.
func busyDisk() (*Host, *Peer, Policy) {
	h, peer, p := pressed()
	h.Capacity.CPU = 2
	h.Carries.Disk = 100e6
	for i, rate := range []float64{60e6, 50e6} {
		h.VMs[i].CPU = shape{level: 0.1}.forecast()
		h.VMs[i].Disk = flat(rate)
	}
	return h, peer, p
}

// TestShortageOfADiskInCoreSeconds: what is asked beyond a limit, as a share of the
// limit, counts as that share of the host's cores.
func TestShortageOfADiskInCoreSeconds(t *testing.T) {
	h, peer, p := busyDisk()
	d := decide(h, peer, State{}, p)
	in := d.Inputs
	if want := 0.1 * 2 * (testSteps * testStep).Seconds(); math.Abs(float64(in.Starved)-want) > 1e-9 || in.Unserved != in.Starved {
		t.Errorf("starved %v of %v core-s, want %v", in.Starved, in.Unserved, want)
	}
	if in.Shortest != "disk" || math.Abs(in.Pressure-1.1) > 1e-9 {
		t.Errorf("pressure %.2f of %q, want 1.10 of disk", in.Pressure, in.Shortest)
	}
	if d.Action != ActionMove || !strings.Contains(d.Reason, "short of disk") {
		t.Errorf("%s", d.Explain())
	}
	if d.PredictedWaitDrop > 1e-6 {
		t.Errorf("a move for the disk predicts %.2f core-s less wait for cores", d.PredictedWaitDrop)
	}
	if d.Need.Disk == nil || d.Need.Network != nil || d.Need.Mem != nil {
		t.Errorf("need %+v", d.Need)
	}
	h.Carries.Disk = 0
	if d := decide(h, peer, State{}, p); d.Action != ActionStay {
		t.Errorf("without a limit: %s", d.Explain())
	}
}

// TestCoresDiskAndNetworkTogether: a VM that relieves two shortages at once leaves
// before one that relieves the larger of them alone.
func TestCoresDiskAndNetworkTogether(t *testing.T) {
	h, peer, p := busyDisk()
	h.Carries.Network = 100e6
	h.VMs[0].Disk, h.VMs[0].Network = flat(70e6), flat(20e6)
	h.VMs[1].Disk, h.VMs[1].Network = flat(40e6), flat(85e6)
	third := testVM("third", 128, shape{level: 0.1})
	third.Disk, third.Network = flat(12e6), flat(6e6)
	h.VMs = append(h.VMs, third)
	d := decide(h, peer, State{}, p)
	if d.Action != ActionMove || d.VM != "third" && d.VM != h.VMs[0].ID && d.VM != h.VMs[1].ID {
		t.Fatal(d.Explain())
	}
	// 122 of 100 on the disk, 111 on the network: 0.33 of 2 cores for a minute.
	if want := 0.33 * 2 * 60; math.Abs(float64(d.Inputs.Starved)-want) > 1e-6 {
		t.Errorf("starved %.3f core-s, want %.3f", d.Inputs.Starved, want)
	}
	if d.VM == "third" {
		t.Errorf("the VM that leaves a shortage on both was chosen: %s", d.Explain())
	}
}

// TestMemoryShortageWhereItIsOvercommitted: demand beyond the memory is a shortage
// like any other; without overcommit no VM has less than its own.
func TestMemoryShortageWhereItIsOvercommitted(t *testing.T) {
	h, peer, p := pressed()
	h.Capacity = Capacity{CPU: 2, Memory: 1000}
	for i := range h.VMs {
		h.VMs[i].Memory, h.VMs[i].CPU, h.VMs[i].Mem = 600, shape{level: 0.1}.forecast(), flat(550)
	}
	h.MemoryOvercommit = 1.5
	d := decide(h, peer, State{}, p)
	if d.Action != ActionMove || d.Inputs.Shortest != "memory" {
		t.Errorf("%s", d.Explain())
	}
	h.Capacity.Memory, h.MemoryOvercommit = 1200, 0
	if d := decide(h, peer, State{}, p); d.Action != ActionStay || d.Inputs.Starved != 0 {
		t.Errorf("without overcommit: %s", d.Explain())
	}
}

// TestTrafficThatIsNotForecastFreezes: what is unknown is not zero. A VM of which
// nothing is said has no such traffic.
func TestTrafficThatIsNotForecastFreezes(t *testing.T) {
	h, peer, p := busyDisk()
	h.VMs[1].Disk = predict.Forecast{Why: "no I/O counters"}
	if d := decide(h, peer, State{}, p); d.Action != ActionFrozen || !strings.Contains(d.Reason, "disk demand is not forecast: no I/O counters") {
		t.Errorf("%s", d.Explain())
	}
	h.VMs[1].Disk = flat(50e6)
	h.VMs[1].Disk.Steps[3][2] = math.NaN()
	if d := decide(h, peer, State{}, p); d.Action != ActionFrozen || !strings.Contains(d.Reason, "malformed") {
		t.Errorf("%s", d.Explain())
	}
	h.VMs[1].Disk = predict.Forecast{}
	if d := decide(h, peer, State{}, p); d.Action != ActionStay {
		t.Errorf("%s", d.Explain())
	}
}

// TestDestinationMustCarryTheTraffic: up to HIGH of its own limit, held leases
// counted; a VM with next to no traffic is not what fills a disk.
func TestDestinationMustCarryTheTraffic(t *testing.T) {
	src, _, p := busyDisk()
	vm := src.VMs[1]
	dst := testHost("b", 2, 2048)
	offer := func() Offer { return MakeOffer(epoch, *dst, NeedOf(vm, *src), p) }
	if o := offer(); len(o.Refusals) > 0 || o.Disk != nil {
		t.Errorf("without a limit: %+v", o)
	}
	dst.Carries.Disk = 100e6
	resident := testVM("r", 128, shape{level: 0.1})
	resident.Disk = flat(34e6)
	dst.VMs = []VM{resident}
	if o := offer(); len(o.Refusals) > 0 {
		t.Errorf("84 %% of the limit: %v", o.Refusals)
	}
	dst.VMs[0].Disk = flat(36e6)
	if o := offer(); !hasKind(o.Refusals, RefuseTraffic) {
		t.Errorf("86 %% of the limit: %v", o.Refusals)
	}
	dst.VMs[0].Disk = flat(16e6)
	held := NeedOf(resident, *src)
	held.VM = "on its way"
	held.Disk = ptr(demandOf(ptr(flat(20e6))))
	dst.Held = []Lease{{ID: "l", Need: held}}
	p.MaxIncoming = 2
	if o := offer(); !hasKind(o.Refusals, RefuseTraffic) {
		t.Errorf("86 %% of the limit with a lease: %v", o.Refusals)
	}
	dst.Held, dst.VMs[0].Disk = nil, flat(95e6)
	vm.Disk = flat(0.9e6)
	if o := offer(); len(o.Refusals) > 0 {
		t.Errorf("0.9 MB/s more: %v", o.Refusals)
	}
}

// TestDestinationMayBeAsFullAsTheSource of what runs short: on a cluster without room,
// half of a shortage is better than all of it.
func TestDestinationMayBeAsFullAsTheSource(t *testing.T) {
	src, _, p := busyDisk() // at 110 %
	dst := testHost("b", 2, 2048)
	dst.Carries.Disk = 100e6
	dst.VMs = []VM{testVM("r", 128, shape{level: 0.1})}
	need := newSource(src, &p).need(&src.VMs[1])
	for there, refused := range map[float64]bool{58e6: false, 62e6: true} {
		dst.VMs[0].Disk = flat(there)
		if o := MakeOffer(epoch, *dst, need, p); hasKind(o.Refusals, RefuseTraffic) != refused {
			t.Errorf("%.0f MB/s there and 50 more: %v", there/1e6, o.Refusals)
		}
	}
}

// TestShortageIsNotHandedOn: a destination that would fall as short as the source is
// no cure, whatever it offers.
func TestShortageIsNotHandedOn(t *testing.T) {
	src, _, p := busyDisk()
	dst := testHost("b", 2, 2048)
	dst.Carries.Disk = 100e6
	dst.VMs = []VM{testVM("r", 128, shape{level: 0.1})}
	dst.VMs[0].Disk = flat(20e6)
	free := MakeOffer(epoch, *dst, NeedOf(src.VMs[0], *src), p)
	e := EvaluateMigration(src.VMs[0], *src, free, p)
	if !e.Allowed() || e.Gain != e.Shared {
		t.Errorf("a free disk: gain %.2f, shared %.2f, %v", e.Gain, e.Shared, e.Refusals)
	}
	full := free
	full.Disk = ptr(demandOf(ptr(flat(48e6))))
	e = EvaluateMigration(src.VMs[0], *src, full, p)
	if passed := e.Destination.With - e.Destination.Without; e.Allowed() || !(passed > 0) || !hasKind(e.Refusals, RefuseGain) {
		t.Errorf("a full disk: passed on %.2f, %v", passed, e.Refusals)
	}
}

// TestNoSlotsWithoutTraffic: a slot promises nothing that the disks will not carry.
func TestNoSlotsWithoutTraffic(t *testing.T) {
	h, _, p := busyDisk()
	for _, s := range Slots(*h, p.Classes, p.SlotProbability, epoch) {
		if s.Free != 0 || s.Why != "disk" {
			t.Errorf("%+v", s)
		}
	}
	if got := HostPressure(*h); math.Abs(got-1.1) > 1e-9 {
		t.Errorf("pressure %.3f, want 1.1", got)
	}
	h.Carries.Disk = 200e6
	if s := Slots(*h, p.Classes, p.SlotProbability, epoch); s[0].Free == 0 {
		t.Errorf("%+v", s)
	}
	h.VMs[0].CPU.Ready = false
	if got := HostPressure(*h); !math.IsNaN(got) {
		t.Errorf("pressure %.3f with a VM that is not forecast", got)
	}
}

// TestNeedOfTrafficTravels: what is sent is what is read, and nonsense is refused.
func TestNeedOfTrafficTravels(t *testing.T) {
	src, _, p := busyDisk()
	need := NeedOf(src.VMs[0], *src)
	b, err := json.Marshal(need)
	if err != nil {
		t.Fatal(err)
	}
	var back Need
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(need, back); diff != "" {
		t.Error(diff)
	}
	back.Disk.Steps[2][1] = -1
	if o := MakeOffer(epoch, *testHost("b", 2, 2048), back, p); !hasKind(o.Refusals, RefuseMissingData) {
		t.Errorf("a falling distribution: %+v", o.Refusals)
	}
	o := MakeOffer(epoch, *testHost("b", 2, 2048), need, p)
	o.Network = &Demand{Step: -time.Second, Steps: []predict.Quantiles{{}}}
	if e := EvaluateMigration(src.VMs[0], *src, o, p); !hasKind(e.Refusals, RefuseMissingData) {
		t.Errorf("an offer with a step of -1 s: %+v", e.Refusals)
	}
}

// TestSharedGainIsNetOfTheDestination: what the disk there falls short of in the
// source's place is no gain either.
func TestSharedGainIsNetOfTheDestination(t *testing.T) {
	src, _, p := busyDisk()
	dst := testHost("b", 2, 2048)
	dst.Carries.Disk = 100e6
	dst.VMs = []VM{testVM("r", 128, shape{level: 0.1})}
	dst.VMs[0].Disk = flat(52e6) // 102 % with 50 more: a fifth of what the source is spared
	e := EvaluateMigration(src.VMs[1], *src, MakeOffer(epoch, *dst, newSource(src, &p).need(&src.VMs[1]), p), p)
	passed := e.Destination.With - e.Destination.Without
	if !e.Allowed() || !(passed > 0) || math.Abs(float64(e.Gain-e.Shared)) > 1e-9 {
		t.Errorf("gain %.2f, of it not of cores %.2f, passed on %.2f, %v", e.Gain, e.Shared, passed, e.Refusals)
	}
}

// TestMovesUnderWayCountBeforehand: a VM that leaves asks for nothing more here, and
// one that comes without a forecast of its memory may want all of it.
func TestMovesUnderWayCountBeforehand(t *testing.T) {
	h, peer, p := busyDisk()
	p.MaxOutgoing = 2
	h.Outgoing = []VMID{h.VMs[0].ID}
	if d := decide(h, peer, State{}, p); d.Inputs.Starved != 0 || d.Action != ActionStay {
		t.Errorf("with the VM on its way: %s", d.Explain())
	}
	h, peer, p = pressed()
	h.Capacity, h.MemoryOvercommit = Capacity{CPU: 2, Memory: 1000}, 2
	for i := range h.VMs {
		h.VMs[i].Memory, h.VMs[i].CPU, h.VMs[i].Mem = 400, shape{level: 0.1}.forecast(), flat(300)
	}
	h.Incoming = []Incoming{{Need: Need{VM: "new", Memory: 500, CPU: constantDemand(0.1)}}}
	if d := decide(h, peer, State{}, p); !(d.Inputs.Starved > 0) || d.Inputs.Shortest != "memory" {
		t.Errorf("600 MiB here and 500 on their way into 1000: %s", d.Explain())
	}
}

// TestVerdictIsAboutCores: a stay that expected a shortage of disk alone expected no
// wait for cores.
func TestVerdictIsAboutCores(t *testing.T) {
	h, peer, p := busyDisk()
	h.VMs[0].Policy.Pin, h.VMs[1].Policy.Pin = PinHere, PinHere
	d := decide(h, peer, State{}, p)
	v := JudgeOutcome(d, Outcome{Window: time.Minute, Measured: true})
	if d.Action != ActionStuck || v.Finding != FoundAsPredicted {
		t.Errorf("%s: %s", d.Action, v.Text)
	}
}

// TestALoneVMsExcessIsNobodysFault: what one VM asks for beyond a whole limit no host
// could serve. It is no shortage that a move cures, neither here nor at a destination;
// what others ask for beside it is.
func TestALoneVMsExcessIsNobodysFault(t *testing.T) {
	h, peer, p := busyDisk()
	h.VMs[0].Disk, h.VMs[1].Disk = flat(250e6), flat(0)
	d := decide(h, peer, State{}, p)
	if d.Inputs.Starved != 0 || d.Action != ActionStay {
		t.Errorf("alone: starved %v core-s, %s", d.Inputs.Starved, d.Explain())
	}
	h.VMs[1].Disk = flat(30e6)
	if want := CoreSeconds(0.3 * 2 * 60); math.Abs(float64(decide(h, peer, State{}, p).Inputs.Starved-want)) > 1e-6 {
		t.Errorf("starved %v core-s, want %v", decide(h, peer, State{}, p).Inputs.Starved, want)
	}
	dst := testHost("b", 2, 2048)
	dst.Carries.Disk = 100e6
	dst.VMs = []VM{testVM("r", 128, shape{level: 0.1})}
	dst.VMs[0].Disk = flat(5e6)
	need := newSource(h, &p).need(&h.VMs[0])
	e := EvaluateMigration(h.VMs[0], *h, MakeOffer(epoch, *dst, need, p), p)
	if hasKind(e.Refusals, RefuseTraffic) || math.Abs(float64(e.Destination.With-e.Destination.Without)-0.05*2*60) > 1 {
		t.Errorf("beside 5 MB/s: %v, unserved %v", e.Refusals, e.Destination)
	}
	h.VMs[1].Disk = flat(120e6) // cut at 100 as well
	third := testVM("third", 128, shape{level: 0.1})
	third.Disk = flat(20e6)
	h.VMs = append(h.VMs, third)
	left := newSource(h, &p).leaving(&h.VMs[0], "")
	if want := 0.2 * 2 * 60; math.Abs(float64(left.Residual)-want) > 1e-6 {
		t.Errorf("without the hungriest %v core-s are left, want %v", left.Residual, want)
	}
}
