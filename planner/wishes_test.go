package planner

import (
	"strings"
	"testing"
)

// TestHostRules: what must hold is refused everywhere it is asked, what should
// hold is not.
func TestHostRules(t *testing.T) {
	for _, c := range []struct {
		rules []HostRule
		kind  Kind // "" when b is allowed
	}{
		{nil, ""},
		{[]HostRule{{"b", HostMust}}, ""},
		{[]HostRule{{"a", HostMust}, {"beta", HostMust}}, ""}, // by name
		{[]HostRule{{"a", HostMust}, {"c", HostMust}}, RefuseAffinity},
		{[]HostRule{{"b", HostMustNot}}, RefuseAntiAffinity},
		{[]HostRule{{"b", HostMust}, {"beta", HostMustNot}}, RefuseAntiAffinity},
		{[]HostRule{{"c", HostMustNot}, {"c", HostShould}, {"b", HostShouldNot}}, ""},
	} {
		h, peer, p := pressed()
		peer.Name = "beta"
		for i := range h.VMs {
			h.VMs[i].Policy.Hosts = c.rules
		}
		d := decide(h, peer, State{}, p)
		moves := d.Action == ActionMove
		if moves != (c.kind == "") || !moves && !hasKind(d.Refused[0].Refusals, c.kind) {
			t.Errorf("%v by gossip: %s", c.rules, d.Explain())
		}
		dst := testHost("b", 0.5, 2048)
		dst.Name = "beta"
		offer := MakeOffer(epoch, *dst, NeedOf(h.VMs[0], *h), p)
		if (len(offer.Refusals) == 0) != (c.kind == "") || c.kind != "" && !hasKind(offer.Refusals, c.kind) {
			t.Errorf("%v at the destination: %v", c.rules, offer.Refusals)
		}
		offer.Refusals = nil // an old agent that does not know the rule
		p.WishCores = 0.01   // a wish may cost a move as small as this one
		if e := EvaluateMigration(h.VMs[0], *h, offer, p); e.Allowed() != (c.kind == "") || c.kind != "" && !hasKind(e.Refusals, c.kind) {
			t.Errorf("%v at the source: %v", c.rules, e.Refusals)
		}
	}
}

// TestAffinityBindsBothWays: it is enough that one of the two asks for it.
func TestAffinityBindsBothWays(t *testing.T) {
	h, peer, p := pressed()
	h.VMs[1].Policy.Affinity = []string{"db"}
	d := decide(h, peer, State{}, p)
	if d.Action != ActionStuck || len(d.Considered) != 2 || !hasKind(d.Considered[0].Refusals, RefuseAffinity) || !hasKind(d.Considered[1].Refusals, RefuseAffinity) {
		t.Errorf("web is bound to db: %s", d.Explain())
	}
	h.Draining = true
	if d := decide(h, peer, State{}, p); d.Action != ActionMove {
		t.Errorf("a drain is bound: %s", d.Explain())
	}
}

// TestWishesChooseTheHost: of two equal hosts the one that keeps more wishes is
// taken, whoever has them.
func TestWishesChooseTheHost(t *testing.T) {
	cases := map[string]func(vm, there *VM){
		"near":              func(vm, _ *VM) { vm.Policy.Near = []string{"there"} },
		"near, its own":     func(vm, there *VM) { there.Policy.Near = []string{vm.Name} },
		"near, one group":   func(vm, there *VM) { vm.Policy.Near, there.Policy.Near = []string{"group:x"}, []string{"group:x"} },
		"apart from other":  func(vm, _ *VM) { vm.Policy.Apart = []string{"other"} },
		"host should":       func(vm, _ *VM) { vm.Policy.Hosts = []HostRule{{"z", HostShould}} },
		"host should not":   func(vm, _ *VM) { vm.Policy.Hosts = []HostRule{{"b", HostShouldNot}} },
		"more than it lost": func(vm, _ *VM) { vm.Policy.Near = []string{"web", "there"} },
	}
	for name, wish := range cases {
		h, _, p := pressed()
		vm := &h.VMs[0]
		hosts := []Host{*testHost("b", 1, 2048), *testHost("z", 1, 2048)}
		hosts[0].VMs = []VM{testVM("other", 128, shape{level: 0.1})}
		hosts[1].VMs = []VM{testVM("there", 128, shape{level: 0.1})}
		if to, _, _ := FindBestTargetHost(epoch, *vm, *h, hosts, p); to != "b" {
			t.Fatalf("control: without wishes the smaller id is taken, not %s", to)
		}
		wish(vm, &hosts[1].VMs[0])
		to, e, refused := FindBestTargetHost(epoch, *vm, *h, hosts, p)
		if to != "z" {
			t.Errorf("%s: chose %s (%v)", name, to, refused)
			continue
		}
		var text string
		for _, term := range e.Cost.Terms {
			if term.Name == "wishes" {
				text = term.Text
			}
		}
		if name != "apart from other" && name != "host should not" && !strings.Contains(text, "1 there") {
			t.Errorf("%s: the cost says %q", name, text)
		}
	}
}

// TestWishesAreNoReasonToMove: a wish that a move would mend does not make a move
// worth it that is not.
func TestWishesAreNoReasonToMove(t *testing.T) {
	h, _, p := pressed()
	p.GainFactor = 1000
	vm := &h.VMs[0]
	dst := testHost("b", 1, 2048)
	without := EvaluateMigration(*vm, *h, MakeOffer(epoch, *dst, NeedOf(*vm, *h), p), p)
	vm.Policy.Hosts = []HostRule{{"b", HostShould}}
	p.WishCores = 100
	with := EvaluateMigration(*vm, *h, MakeOffer(epoch, *dst, NeedOf(*vm, *h), p), p)
	if without.Allowed() || with.Cost.Total <= 0 || with.Gain != without.Gain || with.Cost.Network != 0 {
		t.Errorf("without the wish %v, with it cost %+v", without.Refusals, with.Cost)
	}
}
