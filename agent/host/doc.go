// Package host reads what one hypervisor has to give and how it fares: CPU and
// memory capacity, pressure, load, disk, network links, and the agent's own cost.
//
// Capacity is what the VMs may really use. The CPUs that are online are cut down by
// every CPU quota and cpuset of the configured VM cgroup and its ancestors, in
// cgroup v1 and v2, and the memory by their memory limits: on a host whose
// machine.slice is capped, the caps are the capacity, and planning with the bare
// machine would cause the contention that headroom is there to prevent.
//
// Consequences. What cannot be read is absent, with its reason in [Status.Absent],
// and never zero. Only a missing CPU count or memory size is an error: without them
// a host neither moves nor accepts a VM. Reading needs no privilege.
//
// The package starts no goroutine, keeps no state between two reads and takes no
// clock: rates are the caller's business. All paths start at [Options.ProcRoot] and
// [Options.SysRoot], so that tests run on fixtures. It imports no other package of
// headroom.
package host
