// Package model is a small world in which the real negotiation code of
// headroom/planner/negotiate moves VMs: hosts with an agent, a journal and a
// libvirt each, a network that loses, repeats and reorders, and faults.
//
// A World offers its possible actions and performs one at a time. That makes it
// two test benches: the exhaustive search in this package visits every order of
// actions within bounds, and the seeded simulator in planner/negotiate walks
// bigger worlds at random. Time is not modelled but by its effect: any timer that
// is set may fire at any moment.
//
// The libvirt here behaves as its source and manual say: a peer-to-peer
// migration has two halves that fail apart, a lost Finish reply resumes the
// source while the destination may have the complete copy, and a migrate call
// that was accepted may begin late.
//
// One corruption is libvirt's own and not the protocol's, and the checks leave it
// out: with a disk lock and without the paused guard, the destination runs the VM
// from Finish on; when its host dies before the source has heard of Finish, the
// lock is free, and the source's libvirt resumes a memory that is older than the
// disk; likewise with the hosts exchanged, when Finish is late. The paused guard has no such gap.
//
// A Mutant breaks one rule of the protocol from outside the negotiation code; the
// tests show that each is caught. The package is for tests only; nothing of the
// program imports it.
package model
