// Package negotiate holds the hand-over of one VM between two hosts as two
// pure state machines: Source, one for each VM that a host tries to move, and
// Destination, one for each host, which is its lease book as well.
//
// # Shape
//
// Step(moment, event) returns the next state and the effects to perform. There
// is no clock, no randomness, no I/O and no goroutine here: time is a monotonic
// duration since any fixed point of the caller's process, randomness is a
// number, and both come in as a [Moment]. States are values; Step never changes
// its receiver.
//
// # What the caller owes
//
//   - One goroutine owns a state: one event at a time.
//   - Effects are performed in order. A Persist effect is always the first of
//     its list, and must be durable before the next effect starts. When it
//     fails, drop the new state and the rest of the list, keep the old state
//     and step it with [PersistFailed].
//   - Other effects answer with the event named in their documentation, in any
//     later step. An effect that is asked twice must be harmless.
//   - [Send] is one-way: at most once, at least zero times. Whatever matters is
//     resent by a timer.
//   - A [SetTimer] replaces the timer of the same kind and VM; a late
//     [TimerFired] is harmless.
//   - After a restart, [RecoverSource] and [RecoverDestination] turn the records
//     into states and effects, before any other event.
//
// # Consequences
//
// No run state of a VM changes because of a time-out or because a message is
// missing: the destination resumes its copy only for a Commit with the token
// (attempt and lease) of the copy, and destroys it only for an Abort with that
// token; the source sends these only after its own record of the decision is
// durable. A lease without a copy expires; a copy never does. What cannot be
// decided waits, raises an [Alarm] and can be ended by an explicit [Override].
//
// # What a guard is worth
//
// In the paused guard nothing runs at the destination before Commit, whatever
// dies. In the lock guard libvirt starts the copy by itself, and one gap is left
// that no agent can close: the destination runs the VM, its host dies before the
// source heard of it, and the source's libvirt resumes a memory that is older
// than the disk. Prefer the paused guard, also where a lock works.
//
// A stopped copy is the VM only if libvirt handed it over, or if this machine
// destroyed a stopped VM in its favour: a source that was resumed and then died
// has written to the disk since. See [LocalMigrated].
//
// The package imports of the program only package planner, for its ids; nothing
// of the agent, the mesh, the kernel or the database.
package negotiate
