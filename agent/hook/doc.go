// Package hook is libvirt's qemu hook: the fence at the destination. libvirt runs
// it for every operation on every VM of the host; it refuses one, an incoming
// migration («migrate begin») that headroom's agent has not granted a lease for.
// libvirt then cancels the migration, and the VM keeps running where it is.
//
// Consequences. Every other operation is allowed without looking at anything,
// also when the agent is dead or the program is gone: a hook that fails at
// «reconnect» would kill running guests. The answer comes within [Limit]: an agent
// that does not answer in time counts as dead. The hook calls nothing of libvirt,
// which waits for it; neither does the agent before it answers.
//
// A VM that carries no lease is moved by hand (virsh, virt-manager). By default that
// is the administrator's own business and is let in, also when the agent is dead: an
// emergency must not need headroom. Two things are refused all the same: a VM whose
// hand-over is under way on this host, and one whose stamp was taken back from a
// migration that may still be on its way here. See [Judge].
//
// The package owns no goroutine but the one that reads the VM's description, which
// ends with the program. It must not import mesh, planner or handover: it runs in
// the time that libvirt waits.
package hook
