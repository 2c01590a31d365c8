// Package agent is the host's peer: it joins the folders that know nothing of
// each other (bpf, predict, planner, mesh, and the agent's own drivers) into
// the one loop of the program.
//
//	bpf -> rates -> history, forecast -> planner -> probe peers -> hand-over
//
// Two goroutines own all state that decides anything. The loop owns the VMs,
// their forecasters and the planner's memory; the hand-over desk (package
// handover) owns the negotiations and is alone in changing a VM's run state.
// They speak by values: the loop publishes what it sees as an immutable view,
// from which probes are answered and the local socket reads, so that neither a
// slow peer nor a hung libvirt delays a sample or an answer. Beside them run:
// the inventory (lists domains, the only caller of libvirt that repeats), the
// mesh's event pump, the local socket, at most one proposal (probing peers for
// one move) and at most a handful of operator's requests. Run starts them all
// and returns when all have ended, within five seconds of its context's end.
//
// Consequences. Gossip, time-outs and membership never authorise an act on a
// VM: they choose whom to probe. A host with anything unmeasured plans nothing
// and says what is missing. The agent's death leaves VMs and migrations alone.
//
// The package imports every folder; nothing but cmd and tests imports it.
package agent
