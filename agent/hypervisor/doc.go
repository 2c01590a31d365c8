// Package hypervisor drives the host's VMs: Libvirt talks to libvirtd (QEMU; the
// other hypervisors of libvirt's as far as they go), Sim is one host of a
// simulated World, for machines without libvirt and for tests. Both have the same
// methods.
//
// Consequences of libvirt being what it is. A call may block for as long as a
// domain or its daemon hangs: each runs on one of a bounded number of goroutines,
// on a connection of its own, and is given up after a time-out; what was given up
// keeps its place until it returns, is counted (Hanging), and is not asked again
// meanwhile. So one hung domain delays nobody else. The connection breaks when
// libvirtd restarts, and is made anew with a capped back-off; calls meanwhile fail
// with ErrNotConnected, events may have been missed (EventLost). A migration whose
// connection broke has an unknown outcome (ErrUnknownOutcome): the caller has to
// ask what became of it, and must not assume. Neither does a call that timed out
// say that nothing happened.
//
// A VM that headroom cannot move safely (a disk that is not on shared storage, a
// device or folder of the host, an interface that libvirt did not set up, unreadable
// headroom metadata) is listed all the same, as not Migratable, with Why.
//
// The binary is linked without libvirt (build tag libvirt_dlopen): it starts
// where the library is missing, and Open then says so with ErrLibvirtMissing.
//
// Goroutines: libvirt's event loop, one per process, which lives as long as the
// process, as libvirt demands; per driver one that keeps the connection, ended
// by Close, and the bounded calls, for which Close waits a little. World has none:
// it is advanced by whoever looks.
//
// No type of libvirt's appears in what is exported. The package must not import
// planner, mesh or any other folder of headroom.
package hypervisor
