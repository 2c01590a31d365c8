// Package bpf samples what the kernel already counts about VM processes.
//
// # Purpose
//
// A [Sampler] turns a list of processes (one per VM) into one [Sample] each:
// CPU time by thread role, run-queue wait, faults, switches, I/O bytes. It
// hooks nothing for these: tier A runs a BPF program that walks only the VMs'
// threads, tier B filters the kernel's task iterator, tier C reads procfs
// through descriptors kept open. Every tier yields the same Sample. [Links]
// reads the traffic of all taps: by a BPF program that sums what the kernel
// counts on each CPU, or with one netlink dump.
//
// # Consequences
//
//   - Tiers are chosen by loading and trying them, never by kernel version,
//     since distributions backport. [Sampler.Refused] tells why a better tier
//     is not in use and what it needs.
//   - Counters never fall, also when threads exit, and start at 0 when the
//     process is first seen. A delta means something between two samples of
//     equal Since alone.
//   - A value that cannot be had is named in [Sample.Absent]; a process that is
//     gone gives Valid=false and a reason. Neither is ever a zero that looks
//     like data.
//   - Run-queue wait holds the time throttled by a CPU quota: to the guest both
//     are the same steal.
//   - CPU of a thread that runs holds, in tiers A and B, what it used since the
//     last tick. exec_start tells it by a clock that stands still during
//     interrupts and steal, so the run queue's two clocks are compared. In tier C
//     it is up to one tick (4 ms at HZ=250) late, which does not add up.
//   - What the tap program reads is held against netlink again and again. A
//     kernel that counts elsewhere makes Links fall back, and say so.
//   - Tiers A and B need CAP_BPF and CAP_PERFMON, no tracefs and no other
//     right. Those two can read all kernel memory.
//
// # Goroutines
//
// The package starts none. One goroutine at a time may use a Sampler, and one
// a Links.
//
// It must not import predict, planner, mesh or agent: it is the bottom of the
// house. No type of cilium/ebpf appears in what it exports.
package bpf
