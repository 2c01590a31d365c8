package planner

import "testing"

// TestOnlyACureComesFirst: a VM that gains most per cost but leaves the host
// overloaded comes after one that cures it.
func TestOnlyACureComesFirst(t *testing.T) {
	h, _, p := pressed()
	h.Capacity.CPU = 1
	h.VMs = []VM{
		testVM("tiny", 16, shape{level: 0.1, spread: 0.005}), // cheap, not enough
		testVM("enough", 1024, shape{level: 0.5, spread: 0.005}),
		testVM("rest", 128, shape{level: 0.7, spread: 0.005}),
	}
	h.VMs[2].Policy.Pin = PinHere
	d := decide(h, &Peer{ID: "b", Alive: true, Free: map[string]int{"large": 9}}, State{}, p)
	if d.VM != "enough" || d.Considered[0].Ratio > d.Considered[1].Ratio {
		t.Errorf("chose %q: %s", d.VM, d.Explain())
	}
}

// TestTheGreatestGainComesFirst: where no VM's leaving is enough, a small one that gains
// most per cost would only be the first of many moves.
func TestTheGreatestGainComesFirst(t *testing.T) {
	h, _, p := pressed()
	h.Capacity.CPU = 1
	h.VMs = []VM{
		testVM("small", 128, shape{level: 0.1, spread: 0.005}),
		testVM("most", 2048, shape{level: 0.5, spread: 0.005}),
		testVM("rest", 128, shape{level: 1.5, spread: 0.005}),
	}
	h.VMs[2].Policy.Pin = PinHere
	d := decide(h, &Peer{ID: "b", Alive: true, Free: map[string]int{"large": 9}}, State{}, p)
	if d.VM != "most" || d.Considered[0].Cures || d.Considered[0].Ratio > d.Considered[1].Ratio {
		t.Errorf("chose %q: %s", d.VM, d.Explain())
	}
}

// TestTheCheapestCureComesFirst: where either VM's leaving is enough, what the dearer one
// would gain beyond that does not count.
func TestTheCheapestCureComesFirst(t *testing.T) {
	h, peer, p := pressed()
	h.VMs = []VM{testVM("cheap", 128, shape{level: 0.2, spread: 0.005}), testVM("dear", 140, shape{level: 0.45, spread: 0.06})}
	d := decide(h, peer, State{}, p)
	if d.VM != "cheap" || !d.Considered[1].Cures || d.Considered[0].Evaluation.Net > d.Considered[1].Evaluation.Net {
		t.Errorf("chose %q: %s", d.VM, d.Explain())
	}
}
