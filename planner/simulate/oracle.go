package simulate

// oracle knows the demand to come: each step it looks an hour ahead at every
// host that would fall short, and makes the move that avoids the most unserved
// demand at both hosts together, again and again, as long as a move avoids more
// than it costs. It is greedy, so it is a mark to measure against and no bound.
type oracle struct{}

func newOracle() policy { return oracle{} }

func (oracle) rounds() int { return 1 }

// oracleSteps is how far it looks.
const oracleSteps = 12

// outlook is the demand of one host or VM in the steps to come: MIPS, and MB/s of
// each kind of traffic.
type outlook struct {
	cores   [oracleSteps]float64
	traffic [flows][oracleSteps]float64
}

func (o oracle) round(st *stage, _ bool) []Move {
	hosts := make([]outlook, len(st.hosts))
	vms := make([]outlook, len(st.guests))
	memory := make([]float64, len(st.hosts))
	where := make([]int, len(st.guests))
	for v := range st.guests {
		g := &st.guests[v]
		where[v] = g.home
		if g.gone || g.home < 0 {
			continue
		}
		for k := range oracleSteps {
			t := st.now + float64(k+1)*st.setup.Step
			vms[v].cores[k] = st.demand(g, t) * g.MIPS
			for f := range flows {
				if st.traffic {
					vms[v].traffic[f][k] = st.trafficAt(g, f, t)
				}
			}
		}
		hosts[g.home].add(&vms[v], 1, st.traffic)
	}
	for i := range st.hosts {
		memory[i] = st.hosts[i].memory
	}
	var moves []Move
	moved := map[int]bool{}
	for i := range st.hosts {
		for hosts[i].short(&st.hosts[i]) > 0 {
			v, to := o.best(st, i, hosts, vms, memory, where, moved)
			if v < 0 {
				break
			}
			hosts[i].add(&vms[v], -1, st.traffic)
			hosts[to].add(&vms[v], 1, st.traffic)
			memory[to] += st.guests[v].Memory
			where[v], moved[v] = to, true
			moves = append(moves, Move{VM: v, To: to})
		}
	}
	return moves
}

// best is the move off host i that avoids most; -1 when none is worth it. A move
// must avoid at least what running at 90 % while it is copied costs.
func (o oracle) best(st *stage, i int, hosts, vms []outlook, memory []float64, where []int, moved map[int]bool) (vm, to int) {
	vm, to = -1, -1
	most := 0.0
	short := hosts[i].short(&st.hosts[i])
	for _, v := range st.hosts[i].vms {
		if where[v] != i || moved[v] || st.guests[v].moving {
			continue
		}
		rest := hosts[i]
		rest.add(&vms[v], -1, st.traffic)
		gain := short - rest.short(&st.hosts[i])
		if gain <= most {
			continue
		}
		for j := range st.hosts {
			h := &st.hosts[j]
			if j == i || st.setup.EnforceMemory && memory[j]+st.guests[v].Memory > h.Memory {
				continue
			}
			after := hosts[j]
			after.add(&vms[v], 1, st.traffic)
			sent, _ := st.precopy(&st.guests[v], h)
			cost := 0.1 * vms[v].cores[0] * sent / h.Bandwidth / st.setup.Step
			net := gain - (after.short(h) - hosts[j].short(h)) - cost
			if net > most+1e-9 {
				vm, to, most = v, j, net
			}
		}
	}
	return vm, to
}

func (o *outlook) add(x *outlook, sign float64, traffic bool) {
	for k := range o.cores {
		o.cores[k] += sign * x.cores[k]
	}
	if !traffic {
		return
	}
	for f := range o.traffic {
		for k := range o.traffic[f] {
			o.traffic[f][k] += sign * x.traffic[f][k]
		}
	}
}

// short is what a host leaves unserved, in MIPS * steps.
func (o *outlook) short(h *machine) float64 {
	sum := 0.0
	for _, x := range o.cores {
		sum += h.excess(cores, x)
	}
	for f := range o.traffic {
		if h.carries(f) <= 0 {
			continue
		}
		for _, x := range o.traffic[f] {
			sum += h.excess(f, x)
		}
	}
	return sum
}
