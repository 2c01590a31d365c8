package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// World is a simulated set of hosts and VMs. Nothing in it is real: it stands in
// where libvirt cannot be had, and says so wherever it shows. Its hosts serve CPU
// demand by equal shares, and its migrations copy at a fixed bandwidth.
//
// Time is what Clock says; the model is advanced by whoever looks, in steps of
// 50 ms.
type World struct {
	// Clock is the world's time, and Sleep waits in it.
	Clock func() time.Time
	Sleep func(ctx context.Context, d time.Duration) error
	// BytesPerSecond is the speed of copies, Switch the pause of a hand-over
	// beside the last pages.
	BytesPerSecond float64
	Switch         time.Duration

	mu    sync.Mutex
	at    time.Time           // the model stands here; guarded by mu
	hosts map[string]*simHost // guarded by mu
}

type simHost struct {
	name     string
	capacity float64 // cores
	memory   float64 // MiB
	vms      map[string]*simVM
	events   chan Event
}

type simVM struct {
	dom    Domain
	demand func(sinceStart time.Duration) float64 // cores
	start  time.Time
	// cumulative core-seconds; used and waited are this host's, like a
	// process's counters, the others travel with the VM.
	used, waited         float64
	demanded, done, lost float64
	job                  *JobProgress
	cancel               context.CancelFunc
}

// simStep is the resolution of the model.
const simStep = 50 * time.Millisecond

// Errors of the simulated world.
var errNoHost = errors.New("no such simulated host")

// NewWorld returns an empty world in real time.
func NewWorld() *World {
	return &World{Clock: time.Now, Sleep: sleep, BytesPerSecond: 200e6, Switch: 150 * time.Millisecond, hosts: map[string]*simHost{}}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// AddHost makes a host of so many cores and MiB, and returns its driver.
func (w *World) AddHost(name string, cores, memoryMiB float64) *Sim {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hosts[name] = &simHost{name: name, capacity: cores, memory: memoryMiB, vms: map[string]*simVM{}, events: make(chan Event, eventBuffer)}
	return &Sim{w: w, host: name}
}

// AddVM starts a VM whose demand follows a function of the time since its start.
func (w *World) AddVM(host string, d Domain, demand func(time.Duration) float64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance()
	h, ok := w.hosts[host]
	if !ok {
		return fmt.Errorf("add VM %s: %w: %s", d.Name, errNoHost, host)
	}
	d.State, d.Migratable, d.Persistent = Running, true, true
	h.vms[d.ID] = &simVM{dom: d, demand: demand, start: w.at}
	h.tell(EventStarted, d, w.at)
	return nil
}

// Work is what a VM's guest has been asked for, has done and has lost since its
// start, in core-seconds, wherever it ran.
func (w *World) Work(id string) (demanded, done, lost float64, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance()
	for _, h := range w.hosts {
		if v := h.vms[id]; v != nil {
			return v.demanded, v.done, v.lost, true
		}
	}
	return 0, 0, 0, false
}

// advance brings the model to the present; w.mu is held.
func (w *World) advance() {
	now := w.Clock()
	if w.at.IsZero() {
		w.at = now
	}
	for ; now.Sub(w.at) >= simStep; w.at = w.at.Add(simStep) {
		for _, h := range w.hosts {
			h.step(w.at, simStep.Seconds())
		}
	}
}

// step serves one slice of time: demand is met in equal shares until the capacity
// is used up; what is not met waits, and its work is lost.
func (h *simHost) step(at time.Time, dt float64) {
	want := map[*simVM]float64{}
	for _, v := range h.vms {
		d := max(0, v.demand(at.Sub(v.start)))
		if v.dom.State == Running {
			want[v] = min(d, float64(v.dom.VCPUs))
		} else if v.dom.State == Paused && !v.dom.Incoming {
			v.demanded += d * dt
			v.lost += d * dt // the guest stands still, its users do not
		}
	}
	left := h.capacity
	for open := len(want); open > 0; {
		share, met := left/float64(open), 0
		for v, d := range want {
			if d <= share {
				v.serve(d, d, dt)
				left -= d
				delete(want, v)
				met++
			}
		}
		if open -= met; met == 0 {
			for v, d := range want {
				v.serve(d, share, dt)
			}
			return
		}
	}
}

func (v *simVM) serve(demand, served, dt float64) {
	v.used += served * dt
	v.waited += (demand - served) * dt
	v.demanded += demand * dt
	v.done += served * dt
	v.lost += (demand - served) * dt
}

// tell hands an event to the host's driver; a slow consumer loses it.
func (h *simHost) tell(kind EventKind, d Domain, at time.Time) {
	select {
	case h.events <- Event{At: at, Kind: kind, ID: d.ID, Name: d.Name}:
	default:
	}
}

// find returns a VM of a host; w.mu is held.
func (w *World) find(host, id string) (*simHost, *simVM, error) {
	w.advance()
	h, ok := w.hosts[host]
	if !ok {
		return nil, nil, fmt.Errorf("%w: %s", errNoHost, host)
	}
	v, ok := h.vms[id]
	if !ok {
		return h, nil, fmt.Errorf("%w: %s on %s", ErrNoSuchDomain, id, host)
	}
	return h, v, nil
}
