// Package e2e tests the built program end to end on a lab of real hypervisors:
// real libvirt, QEMU, eBPF, Serf, Badger and mutual TLS. It needs what the lab
// needs (root, libvirt, QEMU) and skips with the reason where that is missing,
// unless HEADROOM_REQUIRE names lab.
//
// The tests share one lab and run one after the other: they measure CPU time.
package e2e
