package model

import (
	"fmt"
	"slices"
	"time"

	"headroom/planner/negotiate"
)

// Mutant names a rule of the protocol that is broken on purpose.
type Mutant string

// The mutants.
const (
	MutantNone              Mutant = ""
	MutantNoHookCheck       Mutant = "no-hook-check"
	MutantMemoryJournal     Mutant = "memory-journal"
	MutantTokensNotCompared Mutant = "tokens-not-compared"
	MutantActOnTimeouts     Mutant = "acting-on-timeouts"
	MutantNoLock            Mutant = "no-lock"
)

// Mutants are all of them.
func Mutants() []Mutant {
	return []Mutant{MutantNoHookCheck, MutantMemoryJournal, MutantTokensNotCompared, MutantActOnTimeouts, MutantNoLock}
}

// Budget bounds what may still go wrong or be begun.
type Budget struct {
	Attempts, Duplicates, Cuts, Cancels                        uint8
	AgentCrashes, LibvirtCrashes, HostCrashes, JournalFailures uint8
}

// Config is a world to build.
type Config struct {
	Hosts, VMs int               // the VMs start on the hosts in turn
	Capacity   int               // VMs a host can hold, leases included
	Guards     []negotiate.Guard // of each VM, repeated as needed
	Budget     Budget
	Mutant     Mutant
	Timing     negotiate.Timing
	Limits     negotiate.Limits
	// Untimed keeps the clock at zero, for a finite number of states: a timer
	// fires at the moment it is due, and no time passes otherwise.
	Untimed bool
	// Restart lets a host start a VM from its disk when its journal allows.
	Restart bool
	// Record, when set, gets each step of a state machine.
	Record func(negotiate.Transition)
	// Trace, when set, gets a line for each action, message and act.
	Trace func(format string, args ...any)
}

// World is the state of everything. Only Do changes it.
type World struct {
	cfg     *Config
	Hosts   []Host
	VMs     []VM
	Net     []Packet
	Budget  Budget
	Clock   time.Duration
	Seed    uint64 // state of the randomness handed to Step
	Crashed bool   // some host crashed
	broken  string // the first violation
}

// VM is what is true of a VM wherever it is.
type VM struct {
	ID    negotiate.VMID
	Guard negotiate.Guard
	Epoch int // of the disk: a memory image older than the disk must not run
}

// Host is a machine. What is durable survives Agent, Libvirtd and Up.
type Host struct {
	ID       negotiate.HostID
	Up       bool
	Agent    bool
	Libvirtd bool
	Boot     time.Duration // when the agent's clock began

	Sources []negotiate.Source // one for each VM
	Dest    negotiate.Destination
	Inbox   []Input
	Timers  []Timer

	SourceJournal []negotiate.SourceRecord // one for each VM; attempt 0: none
	DestJournal   []negotiate.DestRecord

	Domains []Domain // one for each VM
	Jobs    []Job    // outgoing, one for each VM
}

// Run is the state of a QEMU.
type Run uint8

// The states. Allowed is the gap between the hook's yes and the QEMU; nobody can
// see it. Ready is a copy with all memory, before Finish.
const (
	None Run = iota
	Allowed
	Incoming
	Ready
	Paused
	Running
)

var runNames = [...]string{"none", "allowed", "incoming", "ready", "paused", "running"}

func (r Run) String() string { return runNames[r] }

// Domain is a VM's QEMU on a host, and the stamp in its metadata.
type Domain struct {
	Run     Run
	Attempt negotiate.Attempt
	Lease   negotiate.LeaseID
	From    negotiate.HostID
	Session negotiate.Attempt // of the migration that it belongs to; 0: none
	Epoch   int
	Left    bool // none, because libvirt handed it over or the agent undefined it
}

// Phase is how far a migration is at its source.
type Phase uint8

// The phases. Called is accepted by libvirt and not begun.
const (
	NoJob Phase = iota
	Called
	Copying
	Switched
)

// Job is libvirt's outgoing migration.
type Job struct {
	Phase   Phase
	To      int
	Session negotiate.Attempt
	Paused  bool
	Cut     bool // the two libvirts lost each other
	Waiting bool // the agent that called is alive and hears the end
}

// Packet is a message under way.
type Packet struct {
	From, To int
	Message  negotiate.Message
}

// Input is an event on its way to an agent, for one of its two sides.
type Input struct {
	Source      negotiate.SourceEvent
	Destination negotiate.DestinationEvent
	VM          int
}

// Timer is a timer that is set.
type Timer struct {
	Source bool
	Kind   negotiate.TimerKind
	VM     int
	Due    time.Duration
}

// New builds a world in which every VM runs and every agent is up.
func New(cfg Config, seed uint64) *World {
	w := &World{cfg: &cfg, Budget: cfg.Budget, Seed: seed}
	for v := range cfg.VMs {
		w.VMs = append(w.VMs, VM{ID: negotiate.VMID(fmt.Sprintf("vm%d", v+1)), Guard: cfg.Guards[v%len(cfg.Guards)], Epoch: 1})
	}
	for h := range cfg.Hosts {
		id := negotiate.HostID(rune('A' + h))
		host := Host{ID: id, Up: true, Agent: true, Libvirtd: true, Dest: negotiate.NewDestination(id, cfg.Limits)}
		for range cfg.VMs {
			host.Sources = append(host.Sources, negotiate.NewSource(id, cfg.Timing))
		}
		host.SourceJournal = make([]negotiate.SourceRecord, cfg.VMs)
		host.DestJournal = make([]negotiate.DestRecord, cfg.VMs)
		host.Domains = make([]Domain, cfg.VMs)
		host.Jobs = make([]Job, cfg.VMs)
		w.Hosts = append(w.Hosts, host)
	}
	for v := range cfg.VMs {
		w.Hosts[v%cfg.Hosts].Domains[v] = Domain{Run: Running, Epoch: 1}
	}
	return w
}

// Clone returns an independent copy. Source and Destination are values that
// share nothing mutable.
func (w *World) Clone() *World {
	c := *w
	c.Hosts = slices.Clone(w.Hosts)
	for i := range c.Hosts {
		h := &c.Hosts[i]
		h.Sources = slices.Clone(h.Sources)
		h.Inbox = slices.Clone(h.Inbox)
		h.Timers = slices.Clone(h.Timers)
		h.SourceJournal = slices.Clone(h.SourceJournal)
		h.DestJournal = slices.Clone(h.DestJournal)
		h.Domains = slices.Clone(h.Domains)
		h.Jobs = slices.Clone(h.Jobs)
	}
	c.VMs = slices.Clone(w.VMs)
	c.Net = slices.Clone(w.Net)
	return &c
}

func (w *World) host(id negotiate.HostID) int { return int(id[0] - 'A') }

func (w *World) vm(id negotiate.VMID) int {
	return slices.IndexFunc(w.VMs, func(v VM) bool { return v.ID == id })
}

func (w *World) tracef(format string, args ...any) {
	if w.cfg.Trace != nil {
		w.cfg.Trace(format, args...)
	}
}

// random is splitmix64: the world's own, so that a copy continues alike. An
// untimed world needs none.
func (w *World) random() uint64 {
	if w.cfg.Untimed {
		return 0
	}
	w.Seed += 0x9e3779b97f4a7c15
	z := w.Seed
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
