package simulation

import (
	"fmt"
	"time"

	"headroom/planner"
	"headroom/planner/negotiate"
	"headroom/predict"
)

// host is a machine and its agent. What is durable survives agent and up.
type host struct {
	id   negotiate.HostID
	n    int
	up   bool // the machine runs
	virt bool // libvirtd runs

	agent agent

	srcJournal map[int]negotiate.SourceRecord
	dstJournal map[int]negotiate.DestRecord
	disk       disk
	wall       time.Duration // what its wall clock is ahead
	drift      float64       // its monotonic clock runs 1+drift times too fast

	domains map[int]*domain
	jobs    map[int]*job
	meta    map[int]metadata // of each VM that is defined here

	capacity planner.Capacity
	digests  []digest // told by gossip, the latest last
	order    int      // digests told so far
}

// agent is the process: all of it is lost when it dies.
type agent struct {
	alive   bool
	life    int // how often it has started: what an earlier life began is not heard
	boot    time.Duration
	since   time.Duration // alive and its disk well since
	sources map[int]negotiate.Source
	dest    negotiate.Destination
	timers  map[timerKey]int
	inbox   []input
	busy    bool
	writing func() // makes the record durable that is being written
	needs   map[asked]planner.Need
	wanted  []planner.Wanted
	state   planner.State
	probing bool
}

type disk struct {
	slow time.Duration
	full bool
}

type timerKey struct {
	source bool
	kind   negotiate.TimerKind
	vm     int
}

type asked struct{ vm, from int }

// input is an event on its way to one of the agent's state machines.
type input struct {
	vm     int
	src    negotiate.SourceEvent
	dst    negotiate.DestinationEvent
	hooked func(allowed bool) // who waits for the hook's answer
}

// domain is a VM's QEMU on a host.
type domain struct {
	run     runState
	session int // of the migration that it belongs to; 0: none
	epoch   int
}

// metadata is what libvirt keeps with a VM's definition and carries along.
type metadata struct {
	attempt  negotiate.Attempt
	lease    negotiate.LeaseID
	to       negotiate.HostID // where it goes under the lease
	lastFrom negotiate.HostID
	movedAt  time.Time
	moves    []time.Time
}

type runState uint8

// The states. Allowed is the gap between the hook's yes and the QEMU; nobody can
// see it. Ready is a copy with all memory, before Finish.
const (
	none runState = iota
	allowed
	incoming
	ready
	paused
	running
)

func (r runState) String() string {
	return [...]string{"none", "allowed", "incoming", "ready", "paused", "running"}[r]
}

// copyDelay is libvirt's time for the parts of a migration.
const (
	hookTimeout = 2 * time.Second
	rpcTimeout  = 3 * time.Second
	maxAppear   = 3 * time.Second // from the hook's yes to a QEMU that can be seen
)

// build makes the hosts and their VMs: a tenth of the hosts is about to be hot.
func (w *world) build() {
	hot := w.cfg.Hot
	if hot == 0 {
		hot = 1 + w.cfg.Agents/10
	}
	scale := max(1, w.cfg.Scale)
	for n := range w.cfg.Agents {
		id := negotiate.HostID(fmt.Sprintf("h%03d", n))
		w.hostOf[id] = n
		h := &host{id: id, n: n, up: true, virt: true, capacity: planner.Capacity{CPU: planner.Cores(8 * scale), Memory: 64 << 10},
			srcJournal: map[int]negotiate.SourceRecord{}, dstJournal: map[int]negotiate.DestRecord{},
			domains: map[int]*domain{}, jobs: map[int]*job{}, meta: map[int]metadata{},
			drift: w.rates.drift * (2*w.rng.Float64() - 1)}
		if w.rates.wallJump > 0 {
			h.wall = w.between(-w.rates.wallJump, w.rates.wallJump)
		}
		w.hosts = append(w.hosts, h)
		h.agent = w.freshAgent(h, 1)
		vms := 2 + w.rng.IntN(2)
		level := 1.0
		if n < hot {
			vms, level = 4*scale, 2.3 // 9.2 of 8 cores
		}
		for range vms {
			w.addVM(h, level*(0.95+0.1*w.rng.Float64()))
		}
	}
}

// addVM defines a VM that runs on a host and needs so many cores.
func (w *world) addVM(h *host, cores float64) {
	v := len(w.vms)
	id := negotiate.VMID(fmt.Sprintf("vm%04d", v))
	guard := negotiate.GuardPaused
	if w.rng.IntN(4) == 0 {
		guard = negotiate.GuardLock
	}
	w.vmOf[id] = v
	w.vms = append(w.vms, &vm{id: id, guard: guard, epoch: 1, running: 1, home: h.n, plan: planner.VM{
		ID: id, Name: string(id), VCPUs: 4, Memory: 2048, Measured: true, Guarded: true,
		CPU: flat(cores), NowCPU: planner.Cores(cores), DirtyRate: 5 << 20, HasDirtyRate: true,
	}})
	h.domains[v] = &domain{run: running, epoch: 1}
	h.meta[v] = metadata{}
}

// flat is the forecast of a demand that stays, with normal noise.
func flat(level float64) predict.Forecast {
	z := predict.Quantiles{0, 0.6745, 1.2816, 1.6449, 2.3263}
	f := predict.Forecast{Step: 10 * time.Second, Method: "flat", Observed: 100, Ready: true}
	var q predict.Quantiles
	for i := range q {
		q[i] = level + 0.03*level*z[i]
	}
	for range 12 {
		f.Steps = append(f.Steps, q)
	}
	f.Peak = q
	return f
}

// local is the host's monotonic clock since its agent's start.
func (w *world) local(h *host) time.Duration {
	return time.Duration(float64(w.now-h.agent.boot) * (1 + h.drift))
}

// truly is how long a duration of the host's clock lasts, rounded up: a timer
// never fires early.
func (h *host) truly(d time.Duration) time.Duration {
	return time.Duration(float64(d)/(1+h.drift)) + 2
}

// epoch is when the fleet starts; wall clocks are of no consequence to a
// hand-over, only to cool-downs.
var epoch = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

// date is the host's wall clock.
func (w *world) date(h *host) time.Time { return epoch.Add(w.now + h.wall) }
