package simulate

// Hosts may have limits for the traffic to disks and over networks of their VMs. What
// is asked beyond a limit, as a share of it, counts as that share of the host's
// capacity: the planner's own rule, so that one figure of contention holds for all.

// flows are the kinds of traffic: disk and network.
const flows = 2

func (v *VM) traffic(f int) []float32 { return [flows][]float32{v.Disk, v.Network}[f] }

func (h *Host) carries(f int) float64 { return [flows]float64{h.Disk, h.Network}[f] }

// hasTraffic says whether any host has a limit for any VM's traffic.
func (s *Setup) hasTraffic() bool {
	for f := range flows {
		limited, recorded := false, false
		for i := range s.Hosts {
			limited = limited || s.Hosts[i].carries(f) > 0
		}
		for i := range s.VMs {
			recorded = recorded || s.VMs[i].traffic(f) != nil
		}
		if limited && recorded {
			return true
		}
	}
	return false
}

// starved is what h cannot carry of a kind of traffic, in MIPS.
func (h *machine) starved(f int, asked float64) float64 {
	limit := h.carries(f)
	if limit <= 0 || asked <= limit {
		return 0
	}
	return (asked/limit - 1) * h.capacity
}

// starvation is what h cannot carry of what its VMs ask for now, in MIPS.
func (st *stage) starvation(h *machine) float64 {
	if !st.traffic {
		return 0
	}
	var asked [flows]float64
	for _, v := range h.vms {
		if h.receives(v) {
			continue
		}
		for f := range flows {
			asked[f] += st.guests[v].asks[f]
		}
	}
	sum := 0.0
	for f, v := range asked {
		sum += h.starved(f, v)
	}
	return sum
}

// trafficAt is what VM g asks for of a kind of traffic at time t, MB/s.
func (st *stage) trafficAt(g *guest, f int, t float64) float64 {
	i := int(t / st.setup.Step)
	from, to := ends(g.traffic(f), i)
	return st.between(from, to, i, t)
}
