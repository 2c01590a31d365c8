package simulate

import (
	"math"
	"slices"
)

// Move is one migration that a policy asks for: indices of a VM and a host.
type Move struct{ VM, To int }

// flight is a migration under way.
type flight struct {
	vm, from, to int
	started, end float64 // s
	bytes        float64 // MiB
	blackout     float64 // s
	fails        bool
}

// Pre-copy as the simulator performs it: what was dirtied during a round is sent
// in the next, until the rest fits into the pause.
const (
	blackoutBase   = 0.1 // s, what a switch costs beside the last pages
	targetDowntime = 0.3 // s
	maxCopyRounds  = 30
)

// precopy is what one migration sends in MiB, and its pause in s.
func (st *stage) precopy(g *guest, h *machine) (sent, blackout float64) {
	size := g.Memory
	if g.Resident != nil {
		size = math.Min(size, math.Max(1, float64(g.Resident[min(st.tick, len(g.Resident)-1)])))
	}
	ratio := st.setup.DirtyShare * size / h.Bandwidth
	sent = size
	last := size
	for range maxCopyRounds {
		if last*ratio <= targetDowntime*h.Bandwidth {
			break
		}
		last *= math.Min(1, ratio)
		sent += last
	}
	return sent, blackoutBase + math.Min(size, last*ratio)/h.Bandwidth
}

// start begins a migration, and says whether it could begin: a VM that is gone
// or already there cannot, nor one that does not fit.
func (st *stage) start(m Move) bool {
	g, h := &st.guests[m.VM], &st.hosts[m.To]
	if g.gone || g.home < 0 || g.home == m.To || !h.receives(m.VM) && !st.memoryFits(m.To, m.VM) {
		st.log.impossible++
		return false
	}
	f := flight{vm: m.VM, from: g.home, to: m.To, started: st.now}
	f.bytes, f.blackout = st.precopy(g, h)
	f.end = st.now + f.bytes/h.Bandwidth*st.log.slow()
	f.fails = st.log.fails()
	g.moving = true
	if !h.receives(m.VM) {
		h.incoming = append(h.incoming, m.VM)
		h.vms = append(h.vms, m.VM)
	}
	st.share(m.To, st.now)
	st.share(g.home, st.now)
	st.settle(m.To)
	st.settle(g.home)
	st.flights = append(st.flights, f)
	st.log.started(st, f)
	return true
}

// land ends every migration that is due until t, in order of time, and tells
// the policy.
func (st *stage) land(t float64, p policy) {
	for {
		next := math.Inf(1)
		for _, f := range st.flights {
			next = math.Min(next, f.end)
		}
		if next > t {
			return
		}
		st.update(math.Max(next, st.now), false)
		var due []flight
		st.flights = slices.DeleteFunc(st.flights, func(f flight) bool {
			if f.end == next {
				due = append(due, f)
			}
			return f.end == next
		})
		for _, f := range due {
			st.arrive(f)
		}
		st.update(st.now, false)
		if w, ok := p.(watcher); ok {
			for _, f := range due {
				w.landed(st, f)
			}
		}
	}
}

// arrive moves the VM of one finished migration to its new host, or leaves it
// where it was when the migration failed.
func (st *stage) arrive(f flight) {
	g, to := &st.guests[f.vm], &st.hosts[f.to]
	same := func(v int) bool { return v == f.vm }
	to.incoming = slices.DeleteFunc(to.incoming, same)
	to.vms = slices.DeleteFunc(to.vms, same)
	g.moving = false
	if !f.fails {
		if g.home >= 0 {
			from := &st.hosts[g.home]
			from.vms = slices.DeleteFunc(from.vms, same)
			st.settle(g.home)
		}
		st.log.landed(st, f)
		g.lastFrom, g.leftAt = f.from, st.now
		g.home = f.to
		to.vms = append(to.vms, f.vm)
	}
	st.settle(f.to)
}
