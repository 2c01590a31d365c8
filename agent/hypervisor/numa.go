package hypervisor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"libvirt.org/go/libvirtxml"
)

// maxIndex bounds the number of a CPU or NUMA node that is believed.
const maxIndex = 8191

// parseSet reads libvirt's list of CPUs or NUMA nodes («0-3,^2,8»), ascending.
func parseSet(text string) ([]int, error) {
	var out []int
	for _, part := range strings.Split(strings.TrimSpace(text), ",") {
		body, without := strings.CutPrefix(strings.TrimSpace(part), "^")
		from, to, isRange := strings.Cut(body, "-")
		if !isRange {
			to = from
		}
		first, err1 := strconv.ParseUint(from, 10, 32)
		last, err2 := strconv.ParseUint(to, 10, 32)
		if err1 != nil || err2 != nil || first > last || last > maxIndex {
			return nil, fmt.Errorf("%q is no list of numbers up to %d", text, maxIndex)
		}
		if without {
			out = slices.DeleteFunc(out, func(i int) bool { return uint64(i) >= first && uint64(i) <= last })
			continue
		}
		for i := first; i <= last; i++ {
			out = append(out, int(i))
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// place notes the NUMA nodes and CPUs of the host that the description insists
// on: libvirt takes them along, and starts no copy where they are not.
func (d *Domain) place(x *libvirtxml.Domain) {
	if x.VCPU != nil {
		d.pin(x.VCPU.CPUSet)
	}
	if t := x.CPUTune; t != nil {
		for _, p := range t.VCPUPin {
			d.pin(p.CPUSet)
		}
		for _, p := range t.IOThreadPin {
			d.pin(p.CPUSet)
		}
		if t.EmulatorPin != nil {
			d.pin(t.EmulatorPin.CPUSet)
		}
	}
	if x.NUMATune != nil {
		d.bind(x)
	}
}

func (d *Domain) pin(set string) {
	if set == "" {
		return
	}
	cpus, err := parseSet(set)
	if err != nil {
		d.fixed("its CPU pinning: " + err.Error())
		return
	}
	d.Pinned = append(d.Pinned, cpus...)
	slices.Sort(d.Pinned)
	d.Pinned = slices.Compact(d.Pinned)
}

// bind notes the memory of each cell with a node set of its own, and what is
// left of the whole under the node set of all.
func (d *Domain) bind(x *libvirtxml.Domain) {
	left := d.MaxMemoryMiB
	for _, m := range x.NUMATune.MemNodes {
		size := cellMiB(x.CPU, m.CellID)
		left -= size
		d.bound(m.Nodeset, m.Mode, size)
	}
	if m := x.NUMATune.Memory; m != nil && m.Nodeset != "" && m.Placement != "auto" {
		d.bound(m.Nodeset, m.Mode, max(0, left))
	}
}

// bound notes one binding. Only strict and restrictive ones fail for want of
// memory; the nodes must exist in every mode.
func (d *Domain) bound(set, mode string, memory float64) {
	nodes, err := parseSet(set)
	if err != nil {
		d.fixed("its NUMA nodes: " + err.Error())
		return
	}
	if mode != "" && mode != "strict" && mode != "restrictive" {
		memory = 0
	}
	d.Bound = append(d.Bound, Binding{Nodes: nodes, MemoryMiB: memory})
}

// cellMiB is the size of a guest's own NUMA cell. Cells may leave their number to
// their place in the list.
func cellMiB(x *libvirtxml.DomainCPU, id uint) float64 {
	if x == nil || x.Numa == nil {
		return 0
	}
	for i, c := range x.Numa.Cell {
		if (c.ID != nil && *c.ID == id) || (c.ID == nil && uint(i) == id) {
			return inMiB(c.Memory, c.Unit)
		}
	}
	return 0
}

// nodes are the NUMA nodes of a host; one without NUMA has a single one.
func nodes(x *libvirtxml.CapsHost) []Node {
	if x.NUMA == nil || x.NUMA.Cells == nil {
		return nil
	}
	var out []Node
	for _, c := range x.NUMA.Cells.Cells {
		n := Node{ID: c.ID}
		if c.Memory != nil {
			n.MemoryMiB = inMiB(uint(c.Memory.Size), c.Memory.Unit)
		}
		if c.CPUS != nil {
			for _, cpu := range c.CPUS.CPUs {
				n.CPUs = append(n.CPUs, cpu.ID)
			}
		}
		out = append(out, n)
	}
	return out
}
