// Package handover performs what package planner/negotiate decides: it feeds
// the two state machines with events, makes their records durable before the
// acts that these allow, talks to the peer's desk and to the hypervisor.
//
// The Desk is the only writer of the host's negotiation journal and the only
// part of the agent that changes a VM's run state. One goroutine owns all
// states and performs the effects of each step in order; calls that may take
// long (libvirt, the peer) run on a bounded number of goroutines, and come back
// as events. Run owns them all and waits for them when it stops. One exception:
// a live migration under way is left to libvirt when the agent stops, because a
// peer-to-peer migration does not need the agent, and aborting it would undo
// good work; the agent that starts next finds it by its journal.
//
// The package imports planner/negotiate and the types of agent/hypervisor. It
// must not import agent, mesh or history: these come as small interfaces.
package handover
