package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Sim is a simulated driver: one host of a World. It has the methods of Libvirt.
type Sim struct {
	w    *World
	host string
}

// simScheme addresses a simulated host as a migration's destination: sim://NAME.
const simScheme = "sim://"

// here returns the host at the present; w.mu is held.
func (s *Sim) here() (*simHost, error) {
	s.w.advance()
	h := s.w.hosts[s.host]
	if h.down {
		return nil, fmt.Errorf("%w (simulated)", ErrNotConnected)
	}
	return h, nil
}

// change does something to one VM.
func (s *Sim) change(id string, fn func(*simHost, *simVM) error) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	h, err := s.here()
	if err != nil {
		return err
	}
	v := h.vm(id)
	switch {
	case v == nil:
		return fmt.Errorf("%w: %s on %s", ErrNoSuchDomain, id, s.host)
	case v.hung:
		return fmt.Errorf("%w (simulated)", ErrTimeout)
	}
	return fn(h, v)
}

// Domains lists the host's VMs.
func (s *Sim) Domains(context.Context) ([]Domain, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	h, err := s.here()
	if err != nil {
		return nil, err
	}
	out := make([]Domain, 0, len(h.vms))
	for _, v := range h.vms {
		d := v.snapshot()
		if v.hung {
			d = Domain{ID: d.ID, Name: d.Name, State: NoState, Why: "it does not answer (simulated)"}
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b Domain) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func (v *simVM) snapshot() Domain {
	d := v.dom
	d.Taps, d.Disks, d.Networks = slices.Clone(d.Taps), slices.Clone(d.Disks), slices.Clone(d.Networks)
	d.Metadata = d.Metadata.clone()
	return d
}

// Lookup reads one VM; ok is false when it is not here.
func (s *Sim) Lookup(_ context.Context, id string) (dom Domain, ok bool, err error) {
	err = s.change(id, func(_ *simHost, v *simVM) error {
		dom = v.snapshot()
		return nil
	})
	if errors.Is(err, ErrNoSuchDomain) {
		return Domain{}, false, nil
	}
	return dom, err == nil, err
}

// Counters are the VM's cumulative CPU time and wait on this host, like a
// process's; ok is false when the VM is not here.
func (s *Sim) Counters(id string) (used, waited time.Duration, ok bool) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.advance()
	v := s.w.hosts[s.host].vm(id)
	if v == nil {
		return 0, 0, false
	}
	return time.Duration(v.used * float64(time.Second)), time.Duration(v.waited * float64(time.Second)), true
}

// Capacity is the host's cores and MiB.
func (s *Sim) Capacity() (cores, memoryMiB float64) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	h := s.w.hosts[s.host]
	return h.capacity, h.memory
}

// Memory is absent: simulated guests tell nothing of it.
func (s *Sim) Memory(context.Context) (map[string]MemoryStats, error) {
	return map[string]MemoryStats{}, nil
}

// HostInfo describes the simulated host.
func (s *Sim) HostInfo(context.Context) (HostInfo, error) {
	cores, memory := s.Capacity()
	return HostInfo{UUID: s.host, CPUModel: "simulated", CPUs: int(cores + 0.999), MemoryMiB: memory, Version: "simulated"}, nil
}

// Events are what happened to the host's VMs.
func (s *Sim) Events() <-chan Event {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.w.hosts[s.host].feed.ch
}

// Connected says whether the host's simulated libvirtd is there.
func (s *Sim) Connected() (bool, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	_, err := s.here()
	return err == nil, err
}

// Close has nothing to end.
func (s *Sim) Close() error { return nil }

// SetMetadata writes headroom's metadata.
func (s *Sim) SetMetadata(_ context.Context, id string, m Metadata) error {
	if _, err := m.Encode(); err != nil {
		return err
	}
	return s.change(id, func(_ *simHost, v *simVM) error {
		v.dom.Metadata = m.clone()
		return nil
	})
}

// SetAutostart sets the flag.
func (s *Sim) SetAutostart(_ context.Context, id string, on bool) error {
	return s.change(id, func(_ *simHost, v *simVM) error {
		v.dom.Autostart = on
		return nil
	})
}

// Resume starts a paused VM.
func (s *Sim) Resume(_ context.Context, id string) error {
	return s.change(id, func(h *simHost, v *simVM) error {
		if v.dom.Incoming || v.dom.State != Paused || v.move != nil {
			return fmt.Errorf("resume %s: it is %s (%s)", v.dom.Name, v.dom.State, v.dom.Reason)
		}
		v.dom.State, v.dom.Reason = Running, ""
		h.tell(EventResumed, v.dom)
		return nil
	})
}

// Destroy ends a VM, and a migration of it.
func (s *Sim) Destroy(_ context.Context, id string) error {
	return s.change(id, func(h *simHost, v *simVM) error {
		for _, m := range slices.Clone(s.w.moves) {
			if m.v == v || m.copy == v {
				s.w.abort(m, errors.New("the VM was destroyed (simulated)"))
			}
		}
		h.remove(id)
		h.tell(EventStopped, v.dom)
		return nil
	})
}

// Progress says how far a migration is.
func (s *Sim) Progress(_ context.Context, id string) (JobProgress, error) {
	var p JobProgress
	err := s.change(id, func(_ *simHost, v *simVM) error {
		switch {
		case v.move != nil:
			p = v.move.progress(s.w.at)
		case v.dom.Incoming:
			p = JobProgress{Active: true, Kind: incoming}
		}
		return nil
	})
	return p, err
}

// AbortJob cancels a migration whose VM has not been stopped yet. No migration is
// no error.
func (s *Sim) AbortJob(_ context.Context, id string) error {
	return s.change(id, func(_ *simHost, v *simVM) error {
		if v.move != nil && !v.move.switching {
			s.w.abort(v.move, errors.New("aborted (simulated)"))
		}
		return nil
	})
}

// DirtyRate is how fast the VM writes to its memory, in bytes/s.
func (s *Sim) DirtyRate(_ context.Context, id string) (rate float64, err error) {
	err = s.change(id, func(_ *simHost, v *simVM) error {
		if v.move != nil {
			return fmt.Errorf("%w: %s", ErrJobActive, outgoing)
		}
		rate = v.dirty
		return nil
	})
	return rate, err
}
