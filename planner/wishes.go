package planner

import (
	"slices"
	"strings"
	"time"
)

// HostWord says how strictly a HostRule binds.
type HostWord string

// The words of a HostRule.
const (
	HostMust      HostWord = "must"       // only hosts with this word, if any has it
	HostMustNot   HostWord = "must-not"   // never
	HostShould    HostWord = "should"     // rather there
	HostShouldNot HostWord = "should-not" // rather elsewhere
)

// HostRule says whether a VM is to run on a host (id or name). Rules choose among
// moves; none causes one.
type HostRule struct {
	Host string   `json:"host"`
	Word HostWord `json:"word"`
}

func (r *HostRule) names(id HostID, name string) bool {
	return r.Host == string(id) || name != "" && r.Host == name
}

// hostRefusal says whether the rules forbid a host.
func hostRefusal(rules []HostRule, id HostID, name string) *Refusal {
	var musts []string
	there := false
	for i := range rules {
		r := &rules[i]
		switch {
		case r.Word == HostMustNot && r.names(id, name):
			out := refuse(RefuseAntiAffinity, "must not run on %s", orElse(name, string(id)))
			return &out
		case r.Word == HostMust:
			musts = append(musts, r.Host)
			there = there || r.names(id, name)
		}
	}
	if len(musts) > 0 && !there {
		out := refuse(RefuseAffinity, "must run on %s", strings.Join(musts, " or "))
		return &out
	}
	return nil
}

// hostWish is 1 on a host where the VM should run, -1 where it should not, else 0.
func hostWish(rules []HostRule, id HostID, name string) int {
	for i := range rules {
		if !rules[i].names(id, name) {
			continue
		}
		switch rules[i].Word {
		case HostShould:
			return 1
		case HostShouldNot:
			return -1
		}
	}
	return 0
}

// bound are the residents that a move of vm must not be separated from: those that
// it names, and those that name it.
func (h *Host) bound(vm *VM) []string {
	out := h.residents(vm.Policy.Affinity)
	for i := range h.VMs {
		o := &h.VMs[i]
		if len(o.Policy.Affinity) > 0 && o.ID != vm.ID && names(o.Policy.Affinity, vm.ID, vm.Name) && !slices.Contains(out, o.label()) {
			out = append(out, o.label())
		}
	}
	return out
}

// company counts the VMs of the host, arriving ones included, near which a VM
// should run, less those that it should keep apart from. Wishes count whichever of
// the two VMs has them, and for a common "group:<label>".
func (h *Host) company(id VMID, name string, near, apart []string) int {
	n := 0
	count := func(oID VMID, oName string, oNear, oApart []string) {
		if oID == id {
			return
		}
		n += b2i(excludes(near, oNear, id, name, oID, oName)) - b2i(excludes(apart, oApart, id, name, oID, oName))
	}
	for i := range h.VMs {
		o := &h.VMs[i]
		if !slices.Contains(h.Outgoing, o.ID) {
			count(o.ID, o.Name, o.Policy.Near, o.Policy.Apart)
		}
	}
	for _, o := range h.pending() {
		count(o.VM, o.Name, o.Near, o.Apart)
	}
	return n
}

// wishTerm prices the wishes that a move breaks, less those that it mends. Like the
// distance between partners it may pay for other cost of the place, and is no
// reason to move.
func (s *source) wishTerm(c *Cost, vm *VM, dst *Offer, horizon time.Duration) {
	v := &vm.Policy
	here := s.h.company(vm.ID, vm.Name, v.Near, v.Apart) + hostWish(v.Hosts, s.h.ID, s.h.Name)
	there := dst.Company + hostWish(v.Hosts, dst.Host, dst.Name)
	if here == 0 && there == 0 {
		return
	}
	c.add(groupNetwork, "wishes", CoreSeconds(float64(s.p.WishCores)*float64(here-there)*horizon.Seconds()),
		"wishes kept less wishes broken: %d here, %d there", here, there)
}
