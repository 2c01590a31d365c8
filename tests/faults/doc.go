// Package faults breaks real hand-overs and counts what is left: agents, libvirtd
// and QEMU killed with -9, links cut and healed, at each phase of a migration
// between two hypervisors of the lab, with headroom's guard and with bare libvirt.
//
// Running copies are counted twice. From outside: both libvirts are asked all the
// time, and a copy counts as double when one runs before and after the other was
// seen running. From inside: the guest numbers its reports, a number goes on from
// the memory that was copied, and two copies that run print the same number; one
// number on two consoles is a fork.
//
// The package drives the lab, the cluster of real agents and the driver of
// agent/hypervisor, which it uses to watch libvirt from outside. A Rig owns the lab
// and its watchers; Close ends them.
package faults
