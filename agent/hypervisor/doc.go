// Package hypervisor drives the host's VMs: Libvirt talks to libvirtd (KVM and
// Xen alike), Sim is a simulated hypervisor beside it, for machines without
// libvirt and for tests. Both have the same methods.
//
// Consequences of libvirt being what it is. A call may block for as long as a
// domain or its daemon hangs: each runs on one of a bounded number of
// goroutines and is given up after a time-out, so that one hung domain delays
// nobody else; what was given up still occupies its place until it returns, and
// is counted. A connection breaks when libvirtd restarts, and is made anew with
// a capped back-off; calls meanwhile fail with ErrNotConnected. A migration whose
// connection broke has an unknown outcome (ErrUnknownOutcome): the caller has to
// ask what became of it, and must not assume.
//
// The binary is linked without libvirt (build tag libvirt_dlopen): it starts
// where the library is missing, and Open then says so with ErrLibvirtMissing.
//
// Goroutines: libvirt's event loop, one per process, which lives as long as the
// process, as libvirt demands; per driver one that keeps the connection, ended
// by Close, and the bounded calls.
//
// No type of libvirt's appears in what is exported. The package must not import
// planner, mesh or any other folder of headroom.
package hypervisor
