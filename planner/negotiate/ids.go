package negotiate

import (
	"time"

	"headroom/planner"
)

// HostID identifies a host: its machine-id.
type HostID = planner.HostID

// VMID identifies a VM: its libvirt UUID.
type VMID = planner.VMID

// Attempt counts the tries to move one VM; it only grows, travels in the VM's
// metadata, and is one half of the fencing token.
type Attempt = planner.Attempt

// LeaseID names a lease, unique at its destination; the other half of the token.
type LeaseID = planner.LeaseID

// Guard says what keeps a VM from running on both hosts.
type Guard string

// The guards. Plain is no guard: libvirt starts the VM at the destination by
// itself; it is accepted only when an operator asked for the move.
const (
	GuardPaused Guard = "paused" // the destination holds a stopped copy until Commit
	GuardLock   Guard = "lock"   // a disk lock proven to refuse a second open
	GuardPlain  Guard = "plain"
)

// Valid reports whether g is one of the guards.
func (g Guard) Valid() bool {
	return g == GuardPaused || g == GuardLock || g == GuardPlain
}

// Need is what the VM asks of its destination, for the destination's books.
type Need struct {
	Cores     float64 `json:"cores"`      // forecast CPU demand
	MemoryMiB float64 `json:"memory_mib"` // allocated memory
	Class     string  `json:"class,omitempty"`
}

// Moment is the time and the randomness of one step.
type Moment struct {
	// Now is a monotonic duration since a fixed point of this process's life.
	// It is compared only with other moments of the same process.
	Now time.Duration
	// Random is fresh and uniform: it makes lease ids unguessable and spreads
	// resends. It need not be secret.
	Random uint64
}

// Timing holds the durations of a source. The zero value of a field means its
// default.
type Timing struct {
	ReserveTimeout time.Duration // wait for an answer to Reserve; default 3 s
	ReserveTries   int           // Reserve sent so often to a candidate; default 3
	BindLimit      time.Duration // Granted to StartMigration, at most; default 20 s
	Poll           time.Duration // between questions while deciding; default 1 s
	ResendMin      time.Duration // shortest pause between resends; default 1 s
	ResendMax      time.Duration // longest pause between resends; default 30 s
}

// Limits bounds a destination. The zero value of a field means its default.
type Limits struct {
	LeaseTTL     time.Duration // life of a lease without a copy; default 30 s
	MaxIncoming  int           // leases and copies not yet owned, at most; default 1
	MaxRecords   int           // records kept, finished ones included; default 256
	PausedAlarm  time.Duration // a copy paused so long raises an alarm; default 5 s
	Retry        time.Duration // between tries of a failing act; default 2 s
	RetryAfter   time.Duration // advice to a refused source; default 15 s
	MaxQuestions int           // Status questions waiting for libvirt; default 64
}

func (t Timing) withDefaults() Timing {
	t.ReserveTimeout = orDefault(t.ReserveTimeout, 3*time.Second)
	t.ReserveTries = orDefault(t.ReserveTries, 3)
	t.BindLimit = orDefault(t.BindLimit, 20*time.Second)
	t.Poll = orDefault(t.Poll, time.Second)
	t.ResendMin = orDefault(t.ResendMin, time.Second)
	t.ResendMax = orDefault(t.ResendMax, 30*time.Second)
	return t
}

func (l Limits) withDefaults() Limits {
	l.LeaseTTL = orDefault(l.LeaseTTL, 30*time.Second)
	l.MaxIncoming = orDefault(l.MaxIncoming, 1)
	l.MaxRecords = orDefault(l.MaxRecords, 256)
	l.PausedAlarm = orDefault(l.PausedAlarm, 5*time.Second)
	l.Retry = orDefault(l.Retry, 2*time.Second)
	l.RetryAfter = orDefault(l.RetryAfter, 15*time.Second)
	l.MaxQuestions = orDefault(l.MaxQuestions, 64)
	return l
}

// orDefault is v, or def when v is not positive.
func orDefault[T ~int | ~int64](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// backoff is the pause before resend number n: between ResendMin and a bound
// that doubles up to ResendMax, spread evenly so that peers do not resend as one.
func (t Timing) backoff(n int, random uint64) time.Duration {
	bound := t.ResendMin << min(n, 20)
	bound = max(t.ResendMin, min(bound, t.ResendMax))
	share := float64(random>>11) / (1 << 53)
	return t.ResendMin + time.Duration(share*float64(bound-t.ResendMin))
}
