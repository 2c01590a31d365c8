// Command demo tells headroom's story twice on the same demand: once with agents
// that only watch, once with agents that act. It shows live what happens, and at
// the end what it cost the guests.
//
// The stage is a lab of three real hypervisors (package tests/lab) with the
// built program on each. Without root, libvirt or QEMU the same story is played
// on the simulated driver, in one process, with real gossip, RPC, planner and
// forecasts: every screen and the result then say SIMULATED.
//
// The demo ends by itself, cleans up, also on Ctrl-C, and fails when no move
// came or when it came too late. Its last line is one JSON object of its figures.
package main
