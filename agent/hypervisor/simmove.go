package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Failure is something that goes wrong with a simulated migration.
type Failure string

// The failures.
const (
	// FailCopy breaks the copy half-way: it is gone, the VM runs on.
	FailCopy Failure = "the link broke"
	// FailFinish loses the destination's last word, as libvirt can: the copy
	// stays there, complete, and the source resumes its VM. Without a guard both
	// run.
	FailFinish Failure = "the finish reply was lost"
	// FailCall breaks the connection to the own libvirtd during the call: its
	// outcome is unknown, and the migration goes on.
	FailCall Failure = "libvirtd's connection broke"
)

// Fail makes the VM's next migration fail; failures of several calls queue up.
func (w *World) Fail(id string, f Failure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fails[id] = append(w.fails[id], f)
}

// SetHook installs what libvirt's qemu hook does at «migrate begin» on a host: an
// error refuses the arriving VM. It is called without any lock.
func (w *World) SetHook(host string, hook func(ctx context.Context, arriving Domain) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if h := w.hosts[host]; h != nil {
		h.hook = hook
	}
}

// SetDown takes a host's libvirtd away, or gives it back; its VMs run on.
func (w *World) SetDown(host string, down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance()
	h := w.hosts[host]
	if h == nil || h.down == down {
		return
	}
	h.down = down
	if down {
		h.feed.emit(Event{Kind: EventLost, Detail: "simulated"})
		return
	}
	h.feed.emit(Event{Kind: EventConnected})
}

// SetHung makes every call on a VM fail with ErrTimeout, or ends that.
func (w *World) SetHung(id string, hung bool) {
	w.each(id, func(_ *simHost, v *simVM) { v.hung = hung })
}

// simMove is a migration under way; its fields are guarded by the world's mu.
type simMove struct {
	src, dst  *simHost
	v, copy   *simVM
	was       State // of the VM when the move began
	wasReason string
	request   MigrateRequest
	fail      Failure
	begun     time.Time
	total     float64 // bytes of memory
	left      float64 // bytes of this round
	dirtied   float64 // bytes for the next one
	sent      float64
	speed     float64
	// switching is set once the VM has stopped, until switchedAt.
	switching  bool
	switchedAt time.Time
	blackout   time.Duration
	ended      bool
	result     MigrateResult
	err        error
}

// defaultDowntime is QEMU's.
const defaultDowntime = 300 * time.Millisecond

// Migrate copies the VM to the host of r.DestURI (sim://NAME), stops it, and
// starts it there, or leaves it paused. A cancelled ctx aborts the copy.
func (s *Sim) Migrate(ctx context.Context, r MigrateRequest) (MigrateResult, error) {
	m, err := s.begin(ctx, r)
	if err != nil {
		return MigrateResult{}, fmt.Errorf("migrate domain %s: %w", r.ID, err)
	}
	for {
		waitErr := s.w.Sleep(ctx, simStep)
		s.w.mu.Lock()
		s.w.advance()
		if waitErr != nil && !m.ended && !m.switching {
			s.w.abort(m, waitErr)
		}
		ended, result, err := m.ended, m.result, m.err
		if m.src.down || m.fail == FailCall && (ended || m.left < m.total/2) {
			ended, err = true, fmt.Errorf("%w: %s (simulated)", ErrUnknownOutcome, FailCall)
		}
		s.w.mu.Unlock()
		switch {
		case ended && err != nil:
			return MigrateResult{}, fmt.Errorf("migrate domain %s: %w", r.ID, err)
		case ended:
			return result, nil
		case waitErr != nil: // too late to abort: see it through
			ctx = context.WithoutCancel(ctx)
		}
	}
}

// begin asks the destination's hook and shows the arriving VM there.
func (s *Sim) begin(ctx context.Context, r MigrateRequest) (*simMove, error) {
	to := strings.TrimPrefix(r.DestURI, simScheme)
	var dom Domain
	var hook func(context.Context, Domain) error
	err := s.change(r.ID, func(h *simHost, v *simVM) error {
		dst := s.w.hosts[to]
		switch {
		case dst == nil || dst == h:
			return fmt.Errorf("%w: %q", errNoHost, to)
		case dst.down:
			return fmt.Errorf("the libvirtd of %s does not answer (simulated)", to)
		}
		dom, hook = v.snapshot(), dst.hook
		return nil
	})
	if err != nil {
		return nil, err
	}
	if hook != nil {
		if err := hook(ctx, dom); err != nil {
			return nil, fmt.Errorf("the hook of %s refuses: %w", to, err)
		}
	}
	var m *simMove
	err = s.change(r.ID, func(h *simHost, v *simVM) error {
		dst := s.w.hosts[to]
		switch {
		case v.move != nil:
			return ErrJobActive
		case dst.vm(r.ID) != nil:
			return fmt.Errorf("%s has a VM %s already", to, r.ID)
		case v.dom.State != Running && v.dom.State != Paused:
			return fmt.Errorf("the VM is %s", v.dom.State)
		}
		m = s.w.start(h, dst, v, r)
		return nil
	})
	return m, err
}

// start puts a move under way; w.mu is held.
func (w *World) start(src, dst *simHost, v *simVM, r MigrateRequest) *simMove {
	bytes := v.dom.MemoryMiB * (1 << 20)
	m := &simMove{src: src, dst: dst, v: v, was: v.dom.State, wasReason: v.dom.Reason, request: r, begun: w.at, total: bytes, left: bytes}
	if f := w.fails[r.ID]; len(f) > 0 {
		m.fail, w.fails[r.ID] = f[0], f[1:]
	}
	arriving := simVM{dom: v.snapshot(), demand: v.demand, start: v.start, dirty: v.dirty}
	arriving.dom.State, arriving.dom.Reason, arriving.dom.Incoming = Paused, reasonMigration, true
	arriving.dom.Autostart = false // it is the host's, not the definition's: it does not travel
	m.copy, v.move = &arriving, m
	dst.add(m.copy)
	dst.tell(EventStarted, arriving.dom)
	w.moves = append(w.moves, m)
	return m
}

// step carries a move on by one step; w.mu is held.
func (w *World) step(m *simMove) {
	if m.switching {
		if !w.at.Before(m.switchedAt) {
			w.finish(m)
		}
		return
	}
	if m.src.down || m.dst.down {
		w.abort(m, errors.New("a libvirtd is gone (simulated)"))
		return
	}
	m.speed = w.share(m)
	dt := simStep.Seconds()
	sent := min(m.left, m.speed*dt)
	m.left -= sent
	m.sent += sent
	if m.v.dom.State == Running {
		m.dirtied = min(m.total, m.dirtied+m.v.dirty*dt)
	}
	if m.fail == FailCopy && m.left < m.total/2 {
		w.abort(m, errors.New(string(FailCopy)+" (simulated)"))
		return
	}
	if m.left > 0 {
		return
	}
	m.left, m.dirtied = m.dirtied, 0
	limit := m.request.MaxDowntime
	if limit <= 0 {
		limit = defaultDowntime
	}
	if rest := time.Duration(m.left / m.speed * float64(time.Second)); rest <= limit {
		w.stop(m, rest)
	}
}

// share is what a move gets of both hosts' networks, in bytes/s; w.mu is held.
func (w *World) share(m *simMove) float64 {
	at := func(h *simHost) int {
		n := 0
		for _, o := range w.moves {
			if o.src == h || o.dst == h {
				n++
			}
		}
		return n
	}
	speed := w.BytesPerSecond / float64(max(at(m.src), at(m.dst)))
	if limit := m.request.BandwidthMiBps * (1 << 20); limit > 0 {
		speed = min(speed, limit)
	}
	return speed
}

// stop ends the copy: the VM stands still until the last pages are across.
func (w *World) stop(m *simMove, rest time.Duration) {
	m.blackout = rest + w.Switch
	m.switching, m.switchedAt = true, w.at.Add(m.blackout)
	m.sent += m.left
	m.v.dom.State, m.v.dom.Reason = Paused, reasonMigration
	m.src.tell(EventSuspended, m.v.dom)
}

// abort ends a move: the copy goes, the VM is as it was.
func (w *World) abort(m *simMove, why error) {
	w.end(m, why)
	if m.switching {
		m.v.dom.State, m.v.dom.Reason = m.was, m.wasReason
	}
	m.dst.remove(m.copy.dom.ID)
	m.dst.tell(EventStopped, m.copy.dom)
}

// finish ends the VM at the source and completes it at the destination, with its
// guest's account.
func (w *World) finish(m *simMove) {
	n := m.copy
	n.demanded, n.done, n.lost, n.dom.Incoming = m.v.demanded, m.v.done, m.v.lost, false
	if m.request.Paused {
		n.dom.Reason = "user"
		m.dst.tell(EventSuspended, n.dom)
	} else {
		n.dom.State, n.dom.Reason = Running, ""
		m.dst.tell(EventResumed, n.dom)
	}
	if m.fail == FailFinish {
		w.end(m, errors.New(string(FailFinish)+" (simulated)"))
		m.v.dom.State, m.v.dom.Reason = m.was, m.wasReason
		m.src.tell(EventResumed, m.v.dom)
		return
	}
	m.result = MigrateResult{CopyTime: w.at.Sub(m.begun), Blackout: m.blackout, BlackoutNet: m.blackout - w.Switch,
		Bytes: uint64(m.sent), DirtyRate: m.v.dirty}
	w.end(m, nil)
	m.src.remove(m.v.dom.ID)
	m.src.tell(EventStopped, m.v.dom)
}

func (w *World) end(m *simMove, err error) {
	m.ended, m.err, m.v.move = true, err, nil
	w.moves = slices.DeleteFunc(w.moves, func(o *simMove) bool { return o == m })
}

// progress is a move as libvirt would show it.
func (m *simMove) progress(now time.Time) JobProgress {
	return JobProgress{Active: true, Kind: outgoing, Elapsed: now.Sub(m.begun), Total: uint64(m.total), Remaining: uint64(m.left),
		BytesPerSecond: m.speed, DirtyRate: m.v.dirty, Sent: uint64(m.sent)}
}
