package simulation

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"headroom/planner"
	"headroom/planner/negotiate"
	"headroom/tests/model"
)

// Config is a run. Its zero fields are drawn from the seed.
type Config struct {
	Seed   uint64
	Agents int // 5..500
	Hot    int // hosts whose demand exceeds their cores from the start; 0: a tenth
	Scale  int // times which hosts have 8 cores, and hot ones 4 VMs; 0: once
	// MaxIncoming is the policy's and the lease book's when it is not 0.
	MaxIncoming int
	Calm        bool         // nothing goes wrong, and no operator gives orders
	Mutant      model.Mutant // a rule broken on purpose
	// Trace, when set, gets a line for each event.
	Trace func(format string, args ...any)
	// Record, when set, gets each step of a state machine, as a journal or a log
	// of the agent would tell it.
	Record func(negotiate.Transition)
}

// Result is what a run came to.
type Result struct {
	Seed      uint64
	Agents    int
	Violation string // «Invariant: what», or ""
	// SettleS is how many virtual seconds the last hand-over needed after the
	// faults had stopped.
	SettleS   float64
	Events    int
	Attempts  int // hand-overs begun
	Moved     int
	Refusals  int // Reserve refused
	Crashes   int // of agents
	Operators int // hand-overs that an operator had to decide
	// FirstRefusals are attempts whose first choice refused the lease.
	Asked, FirstRefusals int
}

// maxEvents bounds a run: some 20,000 are usual for 500 agents.
const maxEvents = 1_000_000

// event is something that happens at a moment of true time.
type event struct {
	at  time.Duration
	seq int
	do  func()
}

type eventQueue []event

func (q eventQueue) Len() int { return len(q) }
func (q eventQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *eventQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

// world is the truth about everything.
type world struct {
	cfg     Config
	rng     *rand.Rand
	now     time.Duration // true time
	queue   eventQueue
	seq     int
	hosts   []*host
	vms     []*vm
	hostOf  map[negotiate.HostID]int
	vmOf    map[negotiate.VMID]int
	rates   rates
	policy  planner.Policy
	timing  negotiate.Timing
	limits  negotiate.Limits
	parted  func(a, b int) bool // messages from a to b do not arrive
	healing int                 // which rule of parted holds
	scratch []planner.Peer
	quiet   bool // faults are over, nothing new begins
	leases  map[negotiate.LeaseID]grant
	stats   Result
	broken  string
}

// vm is what is true of a VM wherever it is.
type vm struct {
	id      negotiate.VMID
	guard   negotiate.Guard
	epoch   int // of the disk: a memory image older than the disk must not run
	running int // hosts on which its CPUs run
	home    int // where it runs, or ran last
	excused bool
	plan    planner.VM
	moves   []moved // by the planner
}

// grant is a lease as its host's journal gave it.
type grant struct {
	at       time.Duration
	host, vm int
	source   negotiate.HostID
	attempt  negotiate.Attempt
}

// moved is a finished move, as it was in truth.
type moved struct {
	at       time.Duration
	from, to int
}

// rates says how often what goes wrong. Probabilities are per message, call or
// step; intervals are mean times between two faults in the whole fleet.
type rates struct {
	loss, duplicate, late float64
	maxLate               time.Duration
	crash                 float64       // of an agent at an effect's boundary
	fault                 time.Duration // between two faults of hosts, links and disks
	order                 time.Duration // between two orders of operators
	forged                float64       // of a digest
	wallJump              time.Duration // the most a wall clock is wrong
	drift                 float64       // the most a monotonic clock is
}

func newWorld(cfg Config) *world {
	rng := rand.New(rand.NewPCG(cfg.Seed, 0x6865616472))
	w := &world{cfg: cfg, rng: rng, hostOf: map[negotiate.HostID]int{}, vmOf: map[negotiate.VMID]int{},
		policy: planner.DefaultPolicy(), leases: map[negotiate.LeaseID]grant{}, parted: func(int, int) bool { return false }}
	w.policy.Mode = planner.ModeAuto
	if cfg.MaxIncoming > 0 {
		w.policy.MaxIncoming, w.limits.MaxIncoming = cfg.MaxIncoming, cfg.MaxIncoming
	}
	if w.cfg.Agents == 0 {
		w.cfg.Agents = drawAgents(rng)
	}
	w.stats = Result{Seed: cfg.Seed, Agents: w.cfg.Agents}
	if w.rates = drawRates(rng); cfg.Calm {
		w.rates = rates{}
	}
	w.build()
	return w
}

// drawAgents is log-uniform between 5 and 100 for seven fleets of eight, which are
// quick to run, and up to 500 for the eighth.
func drawAgents(rng *rand.Rand) int {
	if rng.IntN(8) == 0 {
		return 101 + rng.IntN(400)
	}
	return int(5 * math.Exp(rng.Float64()*math.Log(20)))
}

func drawRates(rng *rand.Rand) rates {
	r := rates{
		loss: 0.2 * rng.Float64(), duplicate: 0.1 * rng.Float64(), late: 0.1 * rng.Float64(), maxLate: 45 * time.Second,
		crash: 0.02 * rng.Float64(), fault: time.Duration(2+rng.IntN(15)) * time.Second,
		order: time.Duration(2+rng.IntN(10)) * time.Second, drift: 0.01 * rng.Float64(),
	}
	if rng.IntN(2) == 0 {
		r.forged = rng.Float64()
	}
	if rng.IntN(3) == 0 {
		r.wallJump = time.Hour
	}
	return r
}

// after runs do once the time has passed.
func (w *world) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.queue, event{w.now + max(0, d), w.seq, do})
}

// run lets time go on until a moment.
func (w *world) run(until time.Duration) {
	for w.broken == "" && len(w.queue) > 0 && w.queue[0].at <= until {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		if w.stats.Events++; w.stats.Events > maxEvents {
			w.violate("Runaway: %d events", w.stats.Events)
		}
		e.do()
	}
	w.now = max(w.now, until)
}

// between draws a duration.
func (w *world) between(low, high time.Duration) time.Duration {
	return low + time.Duration(w.rng.Int64N(int64(high-low)+1))
}

// chance is true with a probability, and never when all is quiet.
func (w *world) chance(p float64) bool { return !w.quiet && w.rng.Float64() < p }

func (w *world) tracef(format string, args ...any) {
	if w.cfg.Trace != nil {
		w.cfg.Trace("%12.6f "+format, append([]any{w.now.Seconds()}, args...)...)
	}
}

// violate notes the first broken invariant; the run ends there.
func (w *world) violate(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...) + fmt.Sprintf(" (%.3f s, seed %d, %d agents)", w.now.Seconds(), w.cfg.Seed, w.cfg.Agents)
		w.tracef("VIOLATION %s", w.broken)
	}
}
