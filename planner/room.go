package planner

import (
	"cmp"
	"slices"
	"time"
)

// A VM that should leave a host under pressure often fits everywhere but for its
// memory. The host that has no room for it is asked in vain again and again, while
// idle VMs fill it. So a probe says what the move is worth, a host remembers those
// that it refused for want of memory alone, and, when it is calm itself, may let a
// VM leave to make the room: by the same rules and the same negotiation, the worth
// of the move that becomes possible added to the gain. Nothing is promised by that;
// the host that asked asks again.

const (
	maxWanted = 16
	// wantedFor is how long a refused need is remembered: twice as long as the pair
	// of VM and host rests after such a refusal at most.
	wantedFor = 2 * maxBackoffs
)

// Wanted is a need that was refused for want of memory alone.
type Wanted struct {
	Need Need      `json:"need"`
	At   time.Time `json:"at"`
}

// FreshWanted are those of list that may still be asked for.
func FreshWanted(list []Wanted, now time.Time, p Policy) []Wanted {
	return slices.DeleteFunc(slices.Clone(list), func(w Wanted) bool { return now.Sub(w.At) > wantedFor*p.RefusalBackoff })
}

// NoteWanted remembers a need that was refused as the offer says, or forgets it: the
// latest answer counts. Old ones go, and the least worth when there are too many.
func NoteWanted(list []Wanted, now time.Time, need Need, o Offer, p Policy) []Wanted {
	out := slices.DeleteFunc(FreshWanted(list, now, p), func(w Wanted) bool { return w.Need.VM == need.VM })
	memoryAlone := len(o.Refusals) > 0 && !slices.ContainsFunc(o.Refusals, func(r Refusal) bool { return r.Kind != RefuseMemory })
	if !memoryAlone || !(need.Worth > 0) || need.Drain {
		return out
	}
	if len(out) == maxWanted {
		least := 0
		for i := range out {
			if out[i].Need.Worth < out[least].Need.Worth {
				least = i
			}
		}
		out = slices.Delete(out, least, least+1)
	}
	return append(out, Wanted{Need: need, At: now})
}

// maxRoomMoves is how many VMs may leave at most to make the room for one.
const maxRoomMoves = 4

// roomFor is the need of most worth that h has no memory for now and that the leaving
// of vm would let in, or bring nearer, and vm's part of that worth. A VM has a part
// only if few VMs like it are enough. Where memory is overcommitted, allocations do
// not tell.
func (s *source) roomFor(vm *VM) (*Need, CoreSeconds) {
	if len(s.h.Wanted) == 0 || s.h.overcommits() {
		return nil, 0
	}
	// No move is worth more than all that this host's cores can do: so much for what
	// others claim.
	ceiling := CoreSeconds(float64(s.usable) * s.h.horizon(s.grid).Seconds())
	var best *Need
	most := CoreSeconds(0)
	for i := range s.h.Wanted {
		n := &s.h.Wanted[i].Need
		lacks := n.Memory - s.free
		if n.VM == vm.ID || !(lacks > 0) || !s.h.canGive(vm, lacks) {
			continue
		}
		if part := min(n.Worth, ceiling) * CoreSeconds(min(1, vm.Memory/lacks)); part > most {
			best, most = n, part
		}
	}
	return best, most
}

// asked says whether the host asked in vain for room.
func (h *Host) asked(host HostID) bool {
	return slices.ContainsFunc(h.Wanted, func(w Wanted) bool { return w.Need.From == host })
}

// askedFor says whether the host asked in vain for room for that VM: its pressure is
// what the room would cure, and no reason against it.
func (h *Host) askedFor(host HostID, vm VMID) bool {
	return slices.ContainsFunc(h.Wanted, func(w Wanted) bool { return w.Need.From == host && w.Need.VM == vm })
}

// canGive says whether vm, with others of h if need be, gives back that much memory
// in at most maxRoomMoves moves.
func (h *Host) canGive(vm *VM, lacks MiB) bool {
	least := lacks / maxRoomMoves
	if vm.Memory < least {
		return false
	}
	sum := vm.Memory
	for i := range h.VMs {
		if other := &h.VMs[i]; other.ID != vm.ID && other.Memory >= least && len(other.immovable()) == 0 {
			sum += other.Memory
		}
	}
	return sum >= lacks
}

// makeRoom proposes the VM whose leaving lets in what was refused for want of memory:
// one that is enough by itself before those that are not, then the cheapest.
func (r *planning) makeRoom() {
	if r.src == nil || len(r.h.Wanted) == 0 {
		return
	}
	options := slices.DeleteFunc(r.options(), func(o candidate) bool { return len(o.Refusals) > 0 || o.Evaluation.Room == 0 })
	if !r.enough(options) {
		return
	}
	slices.SortFunc(options, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.Evaluation.Room, a.Evaluation.Room), r.rankPerCost(&a, &b))
	})
	for _, o := range options[:min(len(options), r.p.MaxConsidered)] {
		if r.propose(&o) {
			r.keep(options)
			return
		}
	}
}

// enough says whether the VMs that may leave now make the room together: part of it
// helps nobody.
func (r *planning) enough(options []candidate) bool {
	if len(options) == 0 {
		return false
	}
	lacks := -r.src.free
	if need, _ := r.src.roomFor(options[0].vm); need != nil {
		lacks += need.Memory
	}
	for _, o := range options {
		lacks -= o.vm.Memory
	}
	return lacks <= 0
}
