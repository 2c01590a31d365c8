package simulate

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// consolidator is the policy of Beloglazov and Buyya: relieve hosts that a
// detector finds over-utilised, then empty those that are used least, always
// onto the host whose power rises least (power-aware best fit decreasing).
type consolidator struct {
	detector detector
	choose   selector
	// Of the round under way: hosts that are no destination, and the power of
	// each before it in W.
	excluded []bool
	before   []float64
	// weighed is, by class of capacity, the kind of empty host weighed last.
	weighed []*Power
}

// newConsolidator reads names like thr-mmt-0.8.
func newConsolidator(name string) (policy, error) {
	parts := strings.Split(name, "-")
	unknown := fmt.Errorf("%w %q: use one of %s", ErrPolicy, name, strings.Join(Policies(), ", "))
	if len(parts) != 3 {
		return nil, unknown
	}
	x, err := strconv.ParseFloat(parts[2], 64)
	if err != nil || !(x > 0 && x <= 100) {
		return nil, unknown
	}
	c := &consolidator{}
	switch parts[0] {
	case "thr":
		c.detector = threshold(x)
	case "iqr":
		c.detector = quartiles(x)
	case "mad":
		c.detector = deviation(x)
	case "lr":
		c.detector = regression{x}
	default:
		return nil, unknown
	}
	switch parts[1] {
	case "mmt":
		c.choose = leastMemory
	case "mc":
		c.choose = mostCorrelated
	default:
		return nil, unknown
	}
	return c, nil
}

func (c *consolidator) rounds() int { return 1 }

// round plans on the stage itself, with VMs moved as if at once, and puts
// everything back in the end.
func (c *consolidator) round(st *stage, _ bool) []Move {
	over := c.overloaded(st)
	saved := make([][]int, len(st.hosts))
	for i := range st.hosts {
		saved[i] = slices.Clone(st.hosts[i].vms)
	}
	c.afresh(st)
	for _, i := range over {
		c.excluded[i] = true
	}
	moves, _ := c.assign(st, c.relieve(st, over), false)
	moves = append(moves, c.drain(st)...)
	for i := range st.hosts {
		if !slices.Equal(st.hosts[i].vms, saved[i]) {
			st.hosts[i].vms = saved[i]
			st.settle(i)
		}
	}
	return moves
}

// afresh makes every host a destination again.
func (c *consolidator) afresh(st *stage) {
	c.excluded = make([]bool, len(st.hosts))
	c.before = make([]float64, len(st.hosts))
	for i := range st.hosts {
		h := &st.hosts[i]
		c.before[i] = h.Power.At(h.use(h.util))
	}
}

func (c *consolidator) overloaded(st *stage) []int {
	var over []int
	for i := range st.hosts {
		if h := &st.hosts[i]; len(h.vms) > 0 && c.detector.over(h, &h.sums) {
			over = append(over, i)
		}
	}
	return over
}

// relieve takes VMs off every over-utilised host until it no longer is.
func (c *consolidator) relieve(st *stage, over []int) []int {
	var out []int
	for _, i := range over {
		h := &st.hosts[i]
		for {
			v := c.choose(st, i)
			if v < 0 {
				break
			}
			out = append(out, v)
			h.vms = slices.DeleteFunc(h.vms, func(w int) bool { return w == v })
			st.settle(i)
			if !c.detector.over(h, &h.sums) {
				break
			}
		}
	}
	return out
}

// assign finds a host for each VM, the most demanding first. With all set it
// finds one for every VM or for none.
func (c *consolidator) assign(st *stage, vms []int, all bool) ([]Move, bool) {
	vms = slices.Clone(vms)
	sortStable(vms, func(a, b int) bool { return st.guests[a].req > st.guests[b].req })
	var moves []Move
	for _, v := range vms {
		to := c.host(st, v, st.setup.EnforceMemory)
		if to >= 0 {
			h := &st.hosts[to]
			h.vms = append(h.vms, v)
			h.count(h, &st.guests[v], false)
			moves = append(moves, Move{VM: v, To: to})
			continue
		}
		if all {
			c.undo(st, moves)
			return nil, false
		}
	}
	return moves, true
}

// undo takes VMs back from where assign put them.
func (c *consolidator) undo(st *stage, moves []Move) {
	for _, m := range moves {
		h := &st.hosts[m.To]
		at := len(h.vms) - 1
		for h.vms[at] != m.VM {
			at--
		}
		h.vms = slices.Delete(h.vms, at, at+1)
		st.settle(m.To)
	}
}

// host is where VM v would raise power least without over-utilising it; -1 if
// nowhere. As in CloudSim, the rise is from the power before the round, and an
// empty host is not asked whether it would be over-utilised.
func (c *consolidator) host(st *stage, v int, memory bool) int {
	g := &st.guests[v]
	best, least := -1, math.Inf(1)
	c.weighed = slices.Grow(c.weighed[:0], len(st.classes))[:len(st.classes)]
	clear(c.weighed)
	for i := range st.hosts {
		h := &st.hosts[i]
		if c.excluded[i] || !h.suits(g) || memory && h.memory+g.Memory > h.Memory {
			continue
		}
		if h.used == 0 && h.util == 0 {
			if w := c.weighed[h.class]; w == h.Power || w != nil && *w == *h.Power {
				continue // as good as an empty host before it, and later
			}
			c.weighed[h.class] = h.Power
		}
		rise := h.Power.At((h.used+g.req)/h.capacity) - c.before[i]
		if !(rise < least) {
			continue
		}
		if h.used != 0 {
			after := h.sums
			after.count(h, g, false)
			if c.detector.over(h, &after) {
				continue
			}
		}
		best, least = i, rise
	}
	return best
}

// drain empties hosts, the least used first, as long as all VMs of one fit
// elsewhere. CloudSim lets the round's own destinations be drained again.
func (c *consolidator) drain(st *stage) []Move {
	left := make([]bool, len(st.hosts)) // not to be drained (any more)
	for i := range st.hosts {
		if off := st.hosts[i].util == 0; off || c.excluded[i] {
			left[i], c.excluded[i] = true, true
		}
	}
	var moves []Move
	for {
		i := c.leastUsed(st, left)
		if i < 0 {
			return moves
		}
		left[i], c.excluded[i] = true, true
		var vms []int
		for _, v := range st.hosts[i].vms {
			if !st.guests[v].moving {
				vms = append(vms, v)
			}
		}
		more, _ := c.assign(st, vms, true)
		for _, m := range more {
			left[m.To] = true
		}
		moves = append(moves, more...)
	}
}

func (c *consolidator) leastUsed(st *stage, left []bool) int {
	best, least := -1, 1.0
	for i := range st.hosts {
		h := &st.hosts[i]
		if u := h.use(h.util); !left[i] && u > 0 && u < least && len(h.vms) > 0 {
			best, least = i, u
		}
	}
	return best
}
