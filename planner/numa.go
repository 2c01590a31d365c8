package planner

import (
	"fmt"
	"slices"
	"strings"
)

// Node is one NUMA node of a host.
type Node struct {
	ID     int   `json:"id"`
	Memory MiB   `json:"memory_mib"`
	CPUs   []int `json:"cpus,omitempty"` // that are online
}

// Binding is memory of a VM that may come from the named NUMA nodes alone. A
// binding without memory is a preference: the nodes must exist, and may be full.
type Binding struct {
	Nodes  []int `json:"nodes"` // ascending
	Memory MiB   `json:"memory_mib,omitempty"`
}

// Placement is where on a host a VM insists on being. The hypervisor takes it
// along when the VM moves, and cannot start the copy where it cannot be met.
type Placement struct {
	Bindings []Binding `json:"bindings,omitempty"`
	CPUs     []int     `json:"cpus,omitempty"` // of the host, to which any thread is pinned; ascending
}

// place lists what of the need's placement the host cannot meet. Memory counts
// against a node's whole memory less what is bound to it: where the kernel puts
// the memory of VMs that are not bound, nobody knows.
func (h *Host) place(need *Need) []Refusal {
	var out []Refusal
	if absent := h.lacksCPUs(need.Placement.CPUs); len(absent) > 0 {
		out = append(out, refuse(RefuseNUMA, "is pinned to CPU %s, which is not there", list(absent)))
	}
	for _, b := range need.Placement.Bindings {
		absent := slices.DeleteFunc(slices.Clone(b.Nodes), func(id int) bool { return h.node(id) != nil })
		if len(absent) > 0 {
			out = append(out, refuse(RefuseNUMA, "is bound to NUMA node %s, which is not there", list(absent)))
		}
	}
	if len(out) > 0 {
		return out
	}
	return h.bind(need.Placement.Bindings)
}

func (h *Host) node(id int) *Node {
	if i := slices.IndexFunc(h.Nodes, func(n Node) bool { return n.ID == id }); i >= 0 {
		return &h.Nodes[i]
	}
	return nil
}

func (h *Host) lacksCPUs(want []int) []int {
	return slices.DeleteFunc(slices.Clone(want), func(cpu int) bool {
		return slices.ContainsFunc(h.Nodes, func(n Node) bool { return slices.Contains(n.CPUs, cpu) })
	})
}

// maxNodeSets bounds the sets of nodes that bind looks at. Bindings that overlap
// in more ways than that are not planned for.
const maxNodeSets = 256

// bind checks that the nodes hold what is bound to them already and extra beside
// it. By Hall's theorem they do if and only if no set of nodes has less memory
// than is bound to nodes of that set alone; it is enough to look at unions of
// overlapping bindings, and at those that extra adds to.
func (h *Host) bind(extra []Binding) []Refusal {
	extra = slices.DeleteFunc(slices.Clone(extra), func(b Binding) bool { return b.Memory <= 0 })
	if len(extra) == 0 {
		return nil
	}
	bound := append(h.bindings(), extra...)
	for _, set := range unions(bound) {
		if !slices.ContainsFunc(extra, func(b Binding) bool { return within(b.Nodes, set) }) {
			continue
		}
		var has, wants MiB
		for _, id := range set {
			if n := h.node(id); n != nil {
				has += n.Memory
			}
		}
		for _, b := range bound {
			if within(b.Nodes, set) {
				wants += b.Memory
			}
		}
		// The negation refuses a NaN too.
		if !(wants <= has) {
			return []Refusal{refuse(RefuseNUMA, "%.0f MiB would be bound to NUMA node %s, which has %.0f", wants, list(set), has)}
		}
	}
	return nil
}

// bindings are those of the VMs here and of those to come.
func (h *Host) bindings() []Binding {
	var out []Binding
	for i := range h.VMs {
		out = append(out, h.VMs[i].Placement.Bindings...)
	}
	for _, n := range h.pending() {
		out = append(out, n.Placement.Bindings...)
	}
	return out
}

// unions are the node sets of the bindings and of all their overlapping unions.
func unions(bindings []Binding) [][]int {
	var out [][]int
	known := map[string]bool{}
	keep := func(set []int) {
		if key := list(set); !known[key] && len(out) < maxNodeSets {
			known[key] = true
			out = append(out, set)
		}
	}
	for _, b := range bindings {
		keep(b.Nodes)
	}
	for i := 0; i < len(out); i++ {
		for _, b := range bindings {
			if slices.ContainsFunc(b.Nodes, func(id int) bool { return slices.Contains(out[i], id) }) {
				set := append(slices.Clone(out[i]), b.Nodes...)
				slices.Sort(set)
				keep(slices.Compact(set))
			}
		}
	}
	return out
}

// within says whether all of part is in set.
func within(part, set []int) bool {
	return !slices.ContainsFunc(part, func(id int) bool { return !slices.Contains(set, id) })
}

// list renders ascending numbers as the kernel does: 0-3,8.
func list(ids []int) string {
	var b strings.Builder
	for i := 0; i < len(ids); {
		j := i
		for j+1 < len(ids) && ids[j+1] == ids[j]+1 {
			j++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprint(&b, ids[i])
		if j > i {
			fmt.Fprintf(&b, "-%d", ids[j])
		}
		i = j + 1
	}
	return b.String()
}
