package planner

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func numaHost() *Host {
	h := testHost("h", 16, 64<<10)
	h.Nodes = []Node{
		{ID: 0, Memory: 32 << 10, CPUs: []int{0, 1, 2, 3}},
		{ID: 1, Memory: 32 << 10, CPUs: []int{4, 5, 6, 7}},
	}
	return h
}

func TestPlace(t *testing.T) {
	bound := func(mem MiB, nodes ...int) Placement {
		return Placement{Bindings: []Binding{{Nodes: nodes, Memory: mem}}}
	}
	tests := []struct {
		name      string
		residents []Placement
		need      Placement
		refused   string // part of the reason; empty: taken
	}{
		{"not bound", nil, Placement{}, ""},
		{"bound to what there is", nil, bound(32<<10, 1), ""},
		{"to a node that is not there", nil, bound(1, 0, 2, 3), "NUMA node 2-3, which is not there"},
		{"more than the node has", nil, bound(32<<10+1, 1), "32769 MiB would be bound to NUMA node 1, which has 32768"},
		{"beside another one", []Placement{bound(20<<10, 0)}, bound(20<<10, 1), ""},
		{"where another one is", []Placement{bound(20<<10, 1)}, bound(20<<10, 1), "40960 MiB would be bound to NUMA node 1"},
		{"beside one that can give way", []Placement{bound(20<<10, 0, 1)}, bound(30<<10, 1), ""},
		{"beside one that cannot give way enough", []Placement{bound(40<<10, 0, 1)}, bound(30<<10, 1), "71680 MiB would be bound to NUMA node 0-1"},
		{"a preference needs no room", []Placement{bound(32<<10, 1)}, bound(0, 1), ""},
		{"but the node", nil, bound(0, 7), "NUMA node 7, which is not there"},
		{"another node is too full already", []Placement{bound(40<<10, 0)}, bound(1<<10, 1), ""},
		{"pinned to what there is", nil, Placement{CPUs: []int{2, 3, 4}}, ""},
		{"pinned to what there is not", nil, Placement{CPUs: []int{6, 7, 8, 9, 12}}, "pinned to CPU 8-9,12"},
		{"not a number", nil, bound(MiB(math.NaN()), 0), "would be bound"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := numaHost()
			for _, p := range tt.residents {
				vm := testVM("r", 1<<10, shape{level: 0.1})
				vm.Placement = p
				h.VMs = append(h.VMs, vm)
			}
			got := h.place(&Need{Placement: tt.need})
			if tt.refused == "" && len(got) > 0 {
				t.Fatalf("refused: %v", got)
			}
			if tt.refused != "" && (len(got) != 1 || got[0].Kind != RefuseNUMA || !strings.Contains(got[0].Text, tt.refused)) {
				t.Fatalf("got %v, want a refusal that says %q", got, tt.refused)
			}
		})
	}
}

// A probe carries the placement, and what is held for one VM is not given to the next.
func TestOfferCountsBoundLeases(t *testing.T) {
	src, dst := testHost("s", 16, 64<<10), numaHost()
	vm := testVM("v", 20<<10, shape{level: 0.1})
	vm.Placement = Placement{Bindings: []Binding{{Nodes: []int{1}, Memory: 20 << 10}}}
	p := DefaultPolicy()
	p.MaxIncoming = 2
	if o := MakeOffer(epoch, *dst, NeedOf(vm, *src), p); len(o.Refusals) > 0 {
		t.Fatalf("an empty node refuses: %v", o.Refusals)
	}
	dst.Held = []Lease{{ID: "l", Need: NeedOf(vm, *src)}}
	if o := MakeOffer(epoch, *dst, NeedOf(vm, *src), p); len(o.Refusals) > 0 {
		t.Fatalf("its own lease refuses it: %v", o.Refusals)
	}
	other := vm
	other.ID = "w"
	if o := MakeOffer(epoch, *dst, NeedOf(other, *src), p); !hasKind(o.Refusals, RefuseNUMA) {
		t.Fatalf("promised twice: %v", o.Refusals)
	}
}

// What bind takes can be laid out node by node, and what it refuses cannot.
func TestBindIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := testHost("h", 1, 1)
		for id := range rapid.IntRange(1, 3).Draw(t, "nodes") {
			h.Nodes = append(h.Nodes, Node{ID: id, Memory: MiB(rapid.IntRange(0, 4).Draw(t, "memory"))})
		}
		binding := rapid.Custom(func(t *rapid.T) Binding {
			b := Binding{Memory: MiB(rapid.IntRange(1, 4).Draw(t, "bound"))}
			for _, n := range h.Nodes {
				if rapid.Bool().Draw(t, "on") {
					b.Nodes = append(b.Nodes, n.ID)
				}
			}
			if len(b.Nodes) == 0 {
				b.Nodes = []int{0}
			}
			return b
		})
		var all []Binding
		for range rapid.IntRange(1, 4).Draw(t, "bindings") {
			all = append(all, binding.Draw(t, "binding"))
		}
		free := map[int]int{}
		for _, n := range h.Nodes {
			free[n.ID] = int(n.Memory)
		}
		if got, want := len(h.bind(all)) == 0, layOut(all, free); got != want {
			t.Fatalf("bind takes it: %v, it can be laid out: %v", got, want)
		}
	})
}

// layOut tries to place the bindings' memory a MiB at a time.
func layOut(left []Binding, free map[int]int) bool {
	if len(left) == 0 {
		return true
	}
	b := left[0]
	if b.Memory == 0 {
		return layOut(left[1:], free)
	}
	for _, id := range b.Nodes {
		if free[id] == 0 {
			continue
		}
		free[id]--
		ok := layOut(append([]Binding{{Nodes: b.Nodes, Memory: b.Memory - 1}}, left[1:]...), free)
		free[id]++
		if ok {
			return true
		}
	}
	return false
}
