// Package api is the agent's local socket: HTTP and JSON over a unix socket,
// for the client commands and for an operator's own tools.
//
// The package holds the wire types, the server and the client of one version
// of the interface (v1). openapi.yaml describes the same thing for other
// languages; a test holds the running server against it, so neither can drift
// alone. Reads are answered from what the Source already knows: no handler but
// that of the trial round waits for libvirt, the kernel or a peer, which is why `headroom status`
// answers while a migration runs and while libvirtd is down.
//
// The socket is the boundary of trust: whoever can open it may ask for a
// migration. It is created with mode 0660 for one group, and there is no
// listener on a network address.
//
// Goroutines: Server.Serve owns the listener and its connections; Shutdown
// ends them all, event streams included, and waits.
//
// The package must not import agent (agent implements Source), and none of the
// drivers, stores or mesh: its types are the ones an operator reads.
package api
