// Package simulation runs fleets of 5 to 500 simulated agents in virtual time:
// the real planner (Decide, MakeOffer, Choose) chooses what moves, the real state
// machines of planner/negotiate hand it over, and everything around them, clocks,
// disks, network, gossip and libvirt, is simulated and goes wrong.
//
// A run is a function of its seed, to the last event. For a while messages are
// lost, repeated, late and out of order, links are parted, also in one direction,
// hosts' wall clocks jump and their monotonic clocks run fast or slow, disks are
// slow or full, gossip is old or forged, and agents, libvirtd, QEMU and hosts die:
// agents also between any two effects of a step. Then the faults stop, and every
// hand-over has to come to its end.
//
// The invariants of the design are checked by name at every change: see check.go.
// A violation names the invariant, the virtual moment and the seed. The package
// is for tests and `make bench-mesh`; nothing of the program imports it.
//
// What libvirt does is modelled as in tests/model, whose doc.go names the one
// corruption that a lock alone cannot prevent and that the checks leave out. The
// exhaustive search there visits every order of few events; this package visits
// few orders of many. It imports planner and predict, and of the tests only
// tests/model, its mutants and what both check alike; neither agent nor mesh. One
// mutant is its own: see mutant.go.
package simulation
