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

// Domains lists the host's VMs.
func (s *Sim) Domains(context.Context) ([]Domain, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.advance()
	var out []Domain
	for _, v := range s.w.hosts[s.host].vms {
		out = append(out, v.snapshot())
	}
	slices.SortFunc(out, func(a, b Domain) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func (v *simVM) snapshot() Domain {
	d := v.dom
	d.Taps, d.Disks, d.Networks = slices.Clone(d.Taps), slices.Clone(d.Disks), slices.Clone(d.Networks)
	d.Metadata.Moves = slices.Clone(d.Metadata.Moves)
	return d
}

// Lookup reads one VM.
func (s *Sim) Lookup(_ context.Context, id string) (Domain, bool, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	_, v, err := s.w.find(s.host, id)
	if errors.Is(err, ErrNoSuchDomain) {
		return Domain{}, false, nil
	}
	if err != nil {
		return Domain{}, false, err
	}
	return v.snapshot(), true, nil
}

// Counters are the VM's cumulative CPU time and wait on this host, like a
// process's; ok is false when the VM is not here.
func (s *Sim) Counters(id string) (used, waited time.Duration, ok bool) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	_, v, err := s.w.find(s.host, id)
	if err != nil {
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
	return s.w.hosts[s.host].events
}

// Connected is always true.
func (s *Sim) Connected() (bool, error) { return true, nil }

// Close has nothing to end.
func (s *Sim) Close() error { return nil }

// change does something to one VM.
func (s *Sim) change(id string, fn func(*simHost, *simVM) error) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	h, v, err := s.w.find(s.host, id)
	if err != nil {
		return err
	}
	return fn(h, v)
}

// SetMetadata writes headroom's metadata.
func (s *Sim) SetMetadata(_ context.Context, id string, m Metadata) error {
	return s.change(id, func(_ *simHost, v *simVM) error {
		v.dom.Metadata = m
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
		if v.dom.Incoming || v.dom.State != Paused {
			return fmt.Errorf("resume %s: it is %s", v.dom.Name, v.dom.State)
		}
		v.dom.State, v.dom.Reason = Running, ""
		h.tell(EventResumed, v.dom, s.w.at)
		return nil
	})
}

// Destroy ends a VM.
func (s *Sim) Destroy(_ context.Context, id string) error {
	return s.change(id, func(h *simHost, v *simVM) error {
		delete(h.vms, id)
		h.tell(EventStopped, v.dom, s.w.at)
		return nil
	})
}

// Progress says how far a migration is.
func (s *Sim) Progress(_ context.Context, id string) (JobProgress, error) {
	var p JobProgress
	err := s.change(id, func(_ *simHost, v *simVM) error {
		if v.job != nil {
			p = *v.job
		}
		return nil
	})
	return p, err
}

// AbortJob cancels a migration. No migration is no error.
func (s *Sim) AbortJob(_ context.Context, id string) error {
	return s.change(id, func(_ *simHost, v *simVM) error {
		if v.cancel != nil {
			v.cancel()
		}
		return nil
	})
}

// Migrate copies the VM to the host of r.DestURI (sim://NAME), stops it, and
// starts it there, or leaves it paused.
func (s *Sim) Migrate(ctx context.Context, r MigrateRequest) (MigrateResult, error) {
	to := strings.TrimPrefix(r.DestURI, simScheme)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	bytes, err := s.beginMove(r.ID, to, cancel)
	if err != nil {
		return MigrateResult{}, fmt.Errorf("migrate domain %s: %w", r.ID, err)
	}
	speed := s.w.BytesPerSecond
	if limit := r.BandwidthMiBps * (1 << 20); limit > 0 {
		speed = min(speed, limit)
	}
	copyTime := time.Duration(bytes / speed * float64(time.Second))
	if err := s.w.Sleep(ctx, copyTime); err != nil {
		return MigrateResult{}, errors.Join(fmt.Errorf("migrate domain %s: aborted: %w", r.ID, err), s.giveUp(r.ID, to))
	}
	if err := s.suspend(r.ID); err != nil {
		return MigrateResult{}, fmt.Errorf("migrate domain %s: %w", r.ID, err)
	}
	// From here on nothing is aborted.
	_ = s.w.Sleep(context.WithoutCancel(ctx), s.w.Switch)
	if err := s.handOver(r.ID, to, r.Paused); err != nil {
		return MigrateResult{}, fmt.Errorf("migrate domain %s: %w", r.ID, err)
	}
	return MigrateResult{CopyTime: copyTime + s.w.Switch, Blackout: s.w.Switch, Bytes: uint64(bytes)}, nil
}

// beginMove shows the arriving VM at the destination.
func (s *Sim) beginMove(id, to string, cancel context.CancelFunc) (bytes float64, err error) {
	err = s.change(id, func(h *simHost, v *simVM) error {
		dst, ok := s.w.hosts[to]
		switch {
		case !ok || to == h.name:
			return fmt.Errorf("%w: %q", errNoHost, to)
		case v.job != nil:
			return ErrJobActive
		}
		bytes = v.dom.MemoryMiB * (1 << 20)
		v.job, v.cancel = &JobProgress{Active: true, Kind: outgoing, Total: uint64(bytes), Remaining: uint64(bytes)}, cancel
		arriving := *v
		arriving.job, arriving.cancel, arriving.used, arriving.waited = nil, nil, 0, 0
		arriving.dom.State, arriving.dom.Reason, arriving.dom.Incoming = Paused, "migration", true
		dst.vms[id] = &arriving
		dst.tell(EventStarted, arriving.dom, s.w.at)
		return nil
	})
	return bytes, err
}

// giveUp undoes beginMove.
func (s *Sim) giveUp(id, to string) error {
	return s.change(id, func(_ *simHost, v *simVM) error {
		v.job, v.cancel = nil, nil
		if dst := s.w.hosts[to]; dst.vms[id] != nil && dst.vms[id].dom.Incoming {
			dst.tell(EventStopped, dst.vms[id].dom, s.w.at)
			delete(dst.vms, id)
		}
		return nil
	})
}

func (s *Sim) suspend(id string) error {
	return s.change(id, func(h *simHost, v *simVM) error {
		v.dom.State, v.dom.Reason = Paused, "migration"
		h.tell(EventSuspended, v.dom, s.w.at)
		return nil
	})
}

// handOver ends the VM here and completes it there, with its guest's account.
func (s *Sim) handOver(id, to string, paused bool) error {
	return s.change(id, func(h *simHost, v *simVM) error {
		dst := s.w.hosts[to]
		n := dst.vms[id]
		if n == nil {
			return fmt.Errorf("%w at the destination", ErrNoSuchDomain)
		}
		n.demanded, n.done, n.lost, n.dom.Incoming = v.demanded, v.done, v.lost, false
		n.dom.Metadata = v.dom.Metadata
		if paused {
			n.dom.Reason = "user"
			dst.tell(EventSuspended, n.dom, s.w.at)
		} else {
			n.dom.State, n.dom.Reason = Running, ""
			dst.tell(EventResumed, n.dom, s.w.at)
		}
		delete(h.vms, id)
		h.tell(EventStopped, v.dom, s.w.at)
		return nil
	})
}
