package planner

import "cmp"

// candidate is an option with the VM it is about.
type candidate struct {
	Option
	vm    *VM
	tired bool // so many hosts refused it lately that another VM's turn has come
}

// tiredAfter is how many hosts are asked for a VM, more than in one round, before others
// have their turn: the VM whose leaving would cure everything is often the one that
// fits nowhere.
const tiredAfter = Probes + 1

// rank orders options: allowed ones first, then what the mode lets the agent
// do alone, then those that not everybody refuses, then those that cure the
// contention, then those worth most.
func (r *planning) rank(a, b *candidate) int {
	return cmp.Or(r.precede(a, b), worth(a, b), tie(a, b))
}

// rankPerCost is rank but for what is worth most: net gain per cost, whatever cures.
func (r *planning) rankPerCost(a, b *candidate) int {
	return cmp.Or(r.precede(a, b), perCost(a, b), tie(a, b))
}

func (r *planning) precede(a, b *candidate) int {
	return cmp.Or(
		cmp.Compare(b2i(len(a.Refusals) > 0), b2i(len(b.Refusals) > 0)),
		cmp.Compare(r.freedom(b.vm), r.freedom(a.vm)),
		cmp.Compare(b2i(a.tired), b2i(b.tired)),
		cmp.Compare(b2i(b.Cures), b2i(a.Cures)),
	)
}

func tie(a, b *candidate) int {
	return cmp.Or(cmp.Compare(a.vm.Memory, b.vm.Memory), cmp.Compare(a.VM, b.VM))
}

// worth orders options of which all cure the contention, or none does. Of cures, any
// one is enough: that of most net gain per cost. What one VM's leaving does not cure,
// others must leave for, and a small one that gains most per cost would be the first of
// many: the most net gain.
func worth(a, b *candidate) int {
	if a.Cures {
		return perCost(a, b)
	}
	return cmp.Compare(b.Evaluation.Net, a.Evaluation.Net)
}

func perCost(a, b *candidate) int { return cmp.Compare(b.Ratio, a.Ratio) }

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
