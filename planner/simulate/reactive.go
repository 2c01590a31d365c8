package simulate

import (
	"math"
	"slices"
)

// The reactive policies do not consolidate: they move VMs off hosts that are too
// full, to the host with the most room, as today's balancers do. They differ in
// what they call too full and which VM they take.

// relief is their common part.
type relief struct {
	// hot says whether host i has to be relieved, given the state of the VMs
	// that it would keep.
	hot func(st *stage, i int, vms []int) bool
	// order sorts the VMs of a host, the first to leave first.
	order func(st *stage, i int, vms []int)
	// limit is the utilisation that a destination may reach, 0..1.
	limit float64
	// load is the demand that a VM is reckoned with.
	load func(st *stage, v int) wants
	// observe is called once a sample.
	observe func(st *stage)
}

// wants is a demand for cores in MIPS, and for each kind of traffic in MB/s.
type wants [1 + flows]float64

func (w *wants) add(x wants, sign float64) {
	for k := range w {
		w[k] += sign * x[k]
	}
}

// fullest is the largest share that w takes of what host h has, 0..1, and of what.
func (h *machine) fullest(w wants) (which int, share float64) {
	share = w[0] / h.capacity
	for f := range flows {
		if limit := h.carries(f); limit > 0 && w[1+f]/limit > share {
			which, share = 1+f, w[1+f]/limit
		}
	}
	return which, share
}

func (r *relief) rounds() int { return 1 }

func (r *relief) round(st *stage, sample bool) []Move {
	if r.observe != nil && sample {
		r.observe(st)
	}
	planned := make([]wants, len(st.hosts))
	memory := make([]float64, len(st.hosts))
	for i := range st.hosts {
		for _, v := range st.hosts[i].vms {
			planned[i].add(r.load(st, v), 1)
		}
		memory[i] = st.hosts[i].memory
	}
	var moves []Move
	for i := range st.hosts {
		stay := slices.DeleteFunc(slices.Clone(st.hosts[i].vms), func(v int) bool { return st.guests[v].moving })
		if len(stay) == 0 || !r.hot(st, i, stay) {
			continue
		}
		leave := slices.Clone(stay)
		r.order(st, i, leave)
		for _, v := range leave {
			to := r.roomiest(st, i, v, planned, memory)
			if to < 0 {
				continue
			}
			moves = append(moves, Move{VM: v, To: to})
			planned[to].add(r.load(st, v), 1)
			memory[to] += st.guests[v].Memory
			planned[i].add(r.load(st, v), -1)
			stay = slices.DeleteFunc(stay, func(w int) bool { return w == v })
			if len(stay) == 0 || !r.hot(st, i, stay) {
				break
			}
		}
	}
	return moves
}

// roomiest is the host with the smallest share in use, of that which is fullest, once
// VM v is there, within the limit; -1 for none.
func (r *relief) roomiest(st *stage, from, v int, planned []wants, memory []float64) int {
	best, least := -1, r.limit
	for i := range st.hosts {
		h := &st.hosts[i]
		if i == from || st.setup.EnforceMemory && memory[i]+st.guests[v].Memory > h.Memory {
			continue
		}
		after := planned[i]
		after.add(r.load(st, v), 1)
		if _, u := h.fullest(after); u < least {
			best, least = i, u
		}
	}
	return best
}

func now(st *stage, v int) float64 { return st.guests[v].req }

// cpu is a demand for cores alone.
func cpu(of func(*stage, int) float64) func(*stage, int) wants {
	return func(st *stage, v int) wants { return wants{of(st, v)} }
}

// all is what a VM wants now of everything.
func all(st *stage, v int) wants {
	g := &st.guests[v]
	w := wants{g.req}
	copy(w[1:], g.asks[:])
	return w
}

func sumOf(st *stage, vms []int, load func(*stage, int) float64) float64 {
	sum := 0.0
	for _, v := range vms {
		sum += load(st, v)
	}
	return sum
}

// newReactive is the threshold of oVirt and others: a host of which anything, cores,
// disk or network, is used above 85 % now gives the VMs that ask for most of it to the
// emptiest host until it is below.
func newReactive() policy {
	fullest := func(st *stage, i int, vms []int) (int, float64) {
		var sum wants
		for _, v := range vms {
			sum.add(all(st, v), 1)
		}
		return st.hosts[i].fullest(sum)
	}
	return &relief{
		hot: func(st *stage, i int, vms []int) bool {
			_, share := fullest(st, i, vms)
			return share > 0.85
		},
		order: func(st *stage, i int, vms []int) {
			which, _ := fullest(st, i, vms)
			sortStable(vms, func(a, b int) bool { return all(st, a)[which] > all(st, b)[which] })
		},
		limit: 0.85,
		load:  all,
	}
}

// newSandpiper follows Wood et al. (NSDI 2007): a host is hot when k of its
// last n samples and the value that an autoregression of order one predicts lie
// above the threshold; the VM with the highest volume per memory leaves, the
// volume being 1/(1-cpu) here: it and N-sigma look at cores alone.
func newSandpiper() policy {
	const high, k, n = 0.75, 3, 5
	past := func(st *stage, vms []int, i, ago int) float64 {
		return sumOf(st, vms, func(st *stage, v int) float64 { return st.guests[v].history[ago] * st.guests[v].MIPS }) / st.hosts[i].capacity
	}
	return &relief{
		hot: func(st *stage, i int, vms []int) bool {
			above := 0
			var x [historyLength]float64
			length := historyLength
			for _, v := range vms {
				length = min(length, st.guests[v].samples)
			}
			for ago := range length {
				x[ago] = past(st, vms, i, ago)
				if ago < n && x[ago] > high {
					above++
				}
			}
			return length >= n && above >= k && nextByAR1(x[:length]) > high
		},
		order: func(st *stage, i int, vms []int) {
			value := func(v int) float64 {
				g := &st.guests[v]
				return 1 / (1 - math.Min(0.99, g.req/st.hosts[i].capacity)) / g.Memory
			}
			sortStable(vms, func(a, b int) bool { return value(a) > value(b) })
		},
		limit: high,
		load:  cpu(now),
	}
}

// nextByAR1 predicts the value after x, newest first, by an autoregression of
// order one around the mean.
func nextByAR1(x []float64) float64 {
	mean := 0.0
	for _, v := range x {
		mean += v / float64(len(x))
	}
	var with, of float64
	for i := 1; i < len(x); i++ {
		with += (x[i-1] - mean) * (x[i] - mean)
		of += (x[i] - mean) * (x[i] - mean)
	}
	if of == 0 {
		return mean
	}
	return mean + math.Max(-1, math.Min(1, with/of))*(x[0]-mean)
}

// newNSigma is the peak prediction of Bashir et al. (EuroSys 2021): the demand
// that a host must be able to serve is mean plus N standard deviations of the
// sum of its VMs over the last 30 samples, with N of 3 here.
func newNSigma() policy {
	const sigmas = 3
	peak := func(st *stage, vms []int) float64 {
		length := historyLength
		for _, v := range vms {
			length = min(length, st.guests[v].samples)
		}
		if length < 2 {
			return 0
		}
		var mean, square float64
		for ago := range length {
			x := sumOf(st, vms, func(st *stage, v int) float64 { return st.guests[v].history[ago] * st.guests[v].MIPS })
			mean += x
			square += x * x
		}
		n := float64(length)
		mean /= n
		return mean + sigmas*math.Sqrt(math.Max(0, square/n-mean*mean))
	}
	own := func(st *stage, v int) float64 { return peak(st, []int{v}) }
	return &relief{
		hot: func(st *stage, i int, vms []int) bool { return peak(st, vms) > st.hosts[i].capacity },
		order: func(st *stage, _ int, vms []int) {
			sortStable(vms, func(a, b int) bool { return own(st, a) > own(st, b) })
		},
		limit: 1,
		load:  cpu(own),
	}
}
