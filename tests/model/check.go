package model

import (
	"fmt"
	"strings"

	"headroom/planner/negotiate"
)

// used counts the places taken at a host by other VMs than this: those that are
// here, and those that hold a lease.
func (w *World) used(h, except int) int {
	n := 0
	for v := range w.VMs {
		if v == except {
			continue
		}
		if w.Hosts[h].Domains[v].Run != None || w.leased(h, v) {
			n++
		}
	}
	return n
}

// leased reads the journal, which is what remains when the agent is down.
func (w *World) leased(h, v int) bool {
	switch w.Hosts[h].DestJournal[v].State {
	case negotiate.DestHeld, negotiate.DestIncoming, negotiate.DestCommitted, negotiate.DestAborting:
		return true
	}
	return false
}

// check looks at the whole world after an action.
func (w *World) check() {
	for v := range w.VMs {
		running, alive := 0, false
		for h := range w.Hosts {
			d := w.Hosts[h].Domains[v]
			if d.Run == Running {
				running++
			}
			current := d.Epoch == w.VMs[v].Epoch
			alive = alive || current && (d.Run == Running || d.Run == Paused || d.Run == Ready)
			w.checkSlot(h, v, d)
		}
		if running > 1 {
			w.violate("OneRunner: %s runs on %d hosts", w.VMs[v].ID, running)
		}
		if !alive && !w.Crashed {
			w.violate("NoLostVM: %s is complete nowhere, and no host crashed", w.VMs[v].ID)
		}
	}
	for h := range w.Hosts {
		if n := w.used(h, -1); n > w.cfg.Capacity {
			w.violate("NoOvercommit: %s holds %d of %d", w.Hosts[h].ID, n, w.cfg.Capacity)
		}
	}
}

// checkSlot: every copy that comes in has a lease in the journal, with its token.
func (w *World) checkSlot(h, v int, d Domain) {
	if d.Run == None || d.Session == 0 {
		return
	}
	r := w.Hosts[h].DestJournal[v]
	if d.Lease == "" && r.State == negotiate.DestOwned {
		return // stamped as owned
	}
	own := r.Attempt == d.Attempt && r.Lease == d.Lease
	switch {
	case own && (w.leased(h, v) || r.State == negotiate.DestOwned):
	case own && r.Aborted && d.Run != Running: // came late and is on its way out
	case r.Attempt > d.Attempt && d.Run <= Incoming && w.orphaned(h, v):
		// libvirt let it in late, its source half is over, libvirt drops it
	case r.State == negotiate.DestOwned && r.Attempt <= d.Attempt, w.Hosts[h].SourceJournal[v].Attempt > d.Session:
		// owned, and stamped since for a move onwards
	default:
		w.violate("SlotConservation: %s is %s at %s for %d/%s, and the journal has %d/%s %s", w.VMs[v].ID, d.Run,
			w.Hosts[h].ID, d.Attempt, d.Lease, r.Attempt, r.Lease, r.State)
	}
}

// Settled reports whether all hand-overs are over: each VM runs once, or, if a
// host crashed, at most once; no agent is busy, no lease is held. If not, why.
func (w *World) Settled() (bool, string) {
	for h := range w.Hosts {
		host := &w.Hosts[h]
		if !host.Agent || !host.Libvirtd || !host.Up {
			return false, fmt.Sprintf("%s is down", host.ID)
		}
		for v := range w.VMs {
			switch {
			case host.Sources[v].Busy():
				return false, fmt.Sprintf("%s of %s is %s", w.VMs[v].ID, host.ID, host.Sources[v].Phase)
			case w.leased(h, v):
				return false, fmt.Sprintf("%s has a lease for %s", host.ID, w.VMs[v].ID)
			case host.Jobs[v].Phase != NoJob:
				return false, fmt.Sprintf("%s migrates from %s", w.VMs[v].ID, host.ID)
			case host.Domains[v].Run != None && host.Domains[v].Run != Running:
				return false, fmt.Sprintf("%s is %s at %s", w.VMs[v].ID, host.Domains[v].Run, host.ID)
			}
		}
	}
	for v := range w.VMs {
		n := 0
		for h := range w.Hosts {
			if w.Hosts[h].Domains[v].Run == Running {
				n++
			}
		}
		if n != 1 && !w.Crashed {
			return false, fmt.Sprintf("%s runs on %d hosts", w.VMs[v].ID, n)
		}
	}
	return true, ""
}

// describe is an event or effect for a trace, without the package name.
func describe(x any) string {
	s := fmt.Sprintf("%T", x)
	s = s[strings.LastIndexByte(s, '.')+1:]
	switch x := x.(type) {
	case negotiate.Received:
		return fmt.Sprintf("received from %s %s", x.From, message(x.Message))
	case negotiate.Send:
		return fmt.Sprintf("send to %s %s", x.To, message(x.Message))
	case negotiate.PersistSource:
		return fmt.Sprintf("persist source %s %d/%s to %s closed=%t discard=%t resume=%t", x.Record.State, x.Record.Attempt,
			x.Record.Lease, x.Record.To, x.Record.Closed, x.Record.Discard, x.Record.Resume)
	case negotiate.PersistDestination:
		return fmt.Sprintf("persist destination %s %d/%s from %s aborted=%t", x.Record.State, x.Record.Attempt,
			x.Record.Lease, x.Record.Source, x.Record.Aborted)
	}
	return s + fmt.Sprintf("%+v", x)
}

func message(m negotiate.Message) string {
	s := fmt.Sprintf("%s %s %d/%s", m.Kind, m.VM, m.Attempt, m.Lease)
	if m.Refusal != nil {
		s += " " + string(m.Refusal.Kind)
	}
	if m.Copy != "" {
		s += fmt.Sprintf(" copy=%s record=%s", m.Copy, m.Record)
	}
	return s
}
