// Package lab runs real hypervisors on one machine: hosts with their own
// libvirtd, network and identity, and guests under QEMU whose demand for CPU
// follows a script and who measure what they lose.
//
// A host is a network, mount and UTS namespace with its own /etc/libvirt,
// /run, /var/{lib,cache,log}/libvirt and machine-id, joined by a link to a
// bridge in a namespace of the lab's own: the machine's network stays as it
// was, and labs side by side cannot meet. Its QEMU processes run in a cgroup
// of their own, so that a quota there is the host's CPU capacity, while its
// libvirtd and agents run beside it, as on a real host with machine.slice.
//
// Consequences. Everything of a lab is found by ids that derive from its name:
//
//	/run/headroom-lab/NAME       state, and the namespaces, pinned by mounts
//	/var/lib/headroom-lab/NAME   the hosts' data folders
//	cgroup headroom-lab/NAME     every process of the lab
//
// so no process of the lab has to live for it to be used or removed, and Down
// removes all of it after any crash. The lab needs root, libvirtd, QEMU,
// util-linux and the Go toolchain (the guest's init is built from source).
//
// The package owns no goroutine beyond a call. It imports nothing of headroom
// but its own subpackages: the agent is tested from outside.
package lab
