// Package planner decides, for one host, how much room it may promise, which
// VM should leave before demand exceeds capacity, and where it may go.
//
// Everything is a pure function of its arguments: there is no clock, no I/O,
// no goroutine and no hidden randomness. Time is an argument, and so is the
// random source that draws the peers to probe. The same arguments give the
// same answer on every host, which is what makes a recorded decision replayable.
//
// One unit carries every gain and every cost: the core-second, one second of
// one core's demand that a host could not serve. The steps of a move are
//
//	Decide             source: should a VM leave, and which peers to probe
//	MakeOffer          destination: live headroom less leases less incoming
//	EvaluateMigration  source: gain, cost and refusals against one offer
//	Choose             source: the best of the offers, the others' reasons
//	JudgeOutcome       ten minutes later: did the wait fall as predicted
//
// Consequences for callers: a Decision to move is a wish and reserves nothing;
// a destination has to run MakeOffer again, with its lease book as it is then,
// before it grants a lease. A digest or any other gossip only narrows the
// peers, it never authorises a move. A host about which anything is missing
// makes no move and accepts none, and says what is missing.
//
// Values are treated as immutable: functions that change State or Learned
// return a new value and share no slice with the old one.
//
// The package may import predict and the standard library, and nothing else of
// this module: it must be testable without kernel, hypervisor or network.
package planner
