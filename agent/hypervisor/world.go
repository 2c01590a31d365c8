package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// World is a simulated set of hosts and VMs. Nothing in it is real: it stands in
// where libvirt cannot be had, and says so wherever it shows.
//
// Its hosts serve CPU demand by equal shares: a VM that wants less than its share
// gets what it wants, the others divide the rest. What is not served waits, like a
// thread on a run queue, and its work is lost. A migration copies memory, and what
// the VM writes meanwhile once more, until the rest fits in the allowed downtime.
//
// Time is what Clock says; the model is advanced by whoever looks, in steps of
// 50 ms. The same calls at the same times give the same bits.
type World struct {
	// Clock is the world's time, and Sleep waits in it. The fields are set
	// before the world is used.
	Clock func() time.Time
	Sleep func(ctx context.Context, d time.Duration) error
	// BytesPerSecond is the speed of a host's network, which its migrations
	// share; Switch is the pause of a hand-over beside the last pages.
	BytesPerSecond float64
	Switch         time.Duration

	mu    sync.Mutex
	at    time.Time           // the model stands here; guarded by mu
	hosts map[string]*simHost // guarded by mu
	moves []*simMove          // under way, in the order of their begin; guarded by mu
	fails map[string][]Failure
}

type simHost struct {
	name     string
	capacity float64  // cores
	memory   float64  // MiB
	vms      []*simVM // by id
	feed     *feed
	down     bool // libvirtd does not answer
	hook     func(context.Context, Domain) error
}

type simVM struct {
	dom    Domain
	demand func(sinceStart time.Duration) float64 // cores
	start  time.Time
	dirty  float64 // bytes/s written to memory while it runs
	hung   bool
	// cumulative core-seconds; used and waited are this host's, like a
	// process's counters, the others travel with the VM.
	used, waited         float64
	demanded, done, lost float64
	move                 *simMove // on the source
}

// simStep is the resolution of the model.
const simStep = 50 * time.Millisecond

// errNoHost names a host that the world does not have.
var errNoHost = errors.New("no such simulated host")

// NewWorld returns an empty world in real time.
func NewWorld() *World {
	return &World{Clock: time.Now, Sleep: sleep, BytesPerSecond: 200e6, Switch: 150 * time.Millisecond,
		hosts: map[string]*simHost{}, fails: map[string][]Failure{}}
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
	w.hosts[name] = &simHost{name: name, capacity: cores, memory: memoryMiB, feed: newFeed(func() time.Time { return w.at })}
	return &Sim{w: w, host: name}
}

// AddVM starts a VM whose demand, in cores, follows a function of the time since
// its start; the function must be pure.
func (w *World) AddVM(host string, d Domain, demand func(time.Duration) float64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance()
	h, ok := w.hosts[host]
	if !ok {
		return fmt.Errorf("add VM %s: %w: %s", d.Name, errNoHost, host)
	}
	if h.vm(d.ID) != nil {
		return fmt.Errorf("add VM %s: %s has a VM %s already", d.Name, host, d.ID)
	}
	d.State, d.Migratable, d.Persistent = Running, true, true
	h.add(&simVM{dom: d, demand: demand, start: w.at})
	h.tell(EventStarted, d)
	return nil
}

// SetDirtyRate says how fast a running VM writes to its memory, in bytes/s.
func (w *World) SetDirtyRate(id string, bytesPerSecond float64) {
	w.each(id, func(_ *simHost, v *simVM) { v.dirty = bytesPerSecond })
}

// Work is what a VM's guest has been asked for, has done and has lost since its
// start, in core-seconds, wherever it ran.
func (w *World) Work(id string) (demanded, done, lost float64, ok bool) {
	w.each(id, func(_ *simHost, v *simVM) {
		if !ok || v.demanded > demanded { // an arriving copy has no account yet
			demanded, done, lost, ok = v.demanded, v.done, v.lost, true
		}
	})
	return demanded, done, lost, ok
}

// Runners are the hosts on which the VM's CPUs run: never more than one, or the
// hand-over is wrong.
func (w *World) Runners(id string) []string {
	var out []string
	w.each(id, func(h *simHost, v *simVM) {
		if v.dom.State == Running {
			out = append(out, h.name)
		}
	})
	return out
}

// each visits the VM on every host that has it.
func (w *World) each(id string, fn func(*simHost, *simVM)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance()
	for _, h := range w.sorted() {
		if v := h.vm(id); v != nil {
			fn(h, v)
		}
	}
}

// sorted are the hosts by name; w.mu is held.
func (w *World) sorted() []*simHost {
	out := make([]*simHost, 0, len(w.hosts))
	for _, h := range w.hosts {
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b *simHost) int { return strings.Compare(a.name, b.name) })
	return out
}

// advance brings the model to the present; w.mu is held.
func (w *World) advance() {
	now := w.Clock()
	if w.at.IsZero() {
		w.at = now
	}
	hosts := w.sorted()
	for now.Sub(w.at) >= simStep {
		for _, h := range hosts {
			h.step(w.at, simStep.Seconds())
		}
		w.at = w.at.Add(simStep)
		for _, m := range slices.Clone(w.moves) {
			w.step(m)
		}
	}
}

// step serves one slice of time.
func (h *simHost) step(at time.Time, dt float64) {
	var running []*simVM
	var want []float64
	for _, v := range h.vms {
		d := max(0, v.demand(at.Sub(v.start)))
		switch {
		case v.dom.State == Running:
			running, want = append(running, v), append(want, min(d, float64(v.dom.VCPUs)))
		case v.dom.State == Paused && !v.dom.Incoming:
			v.demanded += d * dt
			v.lost += d * dt // the guest stands still, its users do not
		}
	}
	for i, got := range fairShare(want, h.capacity) {
		running[i].serve(want[i], got, dt)
	}
}

// fairShare divides a capacity: who wants less than an equal share gets what it
// wants, and what is left is divided among the others.
func fairShare(want []float64, capacity float64) []float64 {
	order := make([]int, len(want))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case want[a] < want[b]:
			return -1
		case want[a] > want[b]:
			return 1
		}
		return 0
	})
	got := make([]float64, len(want))
	left := capacity
	for n, i := range order {
		got[i] = min(want[i], left/float64(len(order)-n))
		left -= got[i]
	}
	return got
}

func (v *simVM) serve(demand, served, dt float64) {
	v.used += served * dt
	v.waited += (demand - served) * dt
	v.demanded += demand * dt
	v.done += served * dt
	v.lost += (demand - served) * dt
}

// tell hands an event to the host's driver, unless its libvirtd is gone.
func (h *simHost) tell(kind EventKind, d Domain) {
	if !h.down {
		h.feed.emit(Event{Kind: kind, ID: d.ID, Name: d.Name})
	}
}

func (h *simHost) vm(id string) *simVM {
	for _, v := range h.vms {
		if v.dom.ID == id {
			return v
		}
	}
	return nil
}

func (h *simHost) add(v *simVM) {
	h.vms = append(h.vms, v)
	slices.SortFunc(h.vms, func(a, b *simVM) int { return strings.Compare(a.dom.ID, b.dom.ID) })
}

func (h *simHost) remove(id string) {
	h.vms = slices.DeleteFunc(h.vms, func(v *simVM) bool { return v.dom.ID == id })
}
