package planner

import (
	"fmt"
	"slices"
	"time"
)

// Kind is why something may not be done. The list is closed: do not reorder or
// remove; clients and records depend on the words.
type Kind string

// The refusal kinds.
const (
	RefuseMissingData  Kind = "missing-data"   // an input is unmeasured or malformed
	RefuseSameHost     Kind = "same-host"      // source and destination are one
	RefuseUnreachable  Kind = "unreachable"    // the peer is not alive
	RefuseStale        Kind = "stale"          // digest or offer too old
	RefuseDraining     Kind = "draining"       // the destination is being emptied
	RefuseUnhealthy    Kind = "unhealthy"      // the destination's own health is in doubt
	RefuseCPU          Kind = "cpu"            // forecast demand after the add exceeds the limit
	RefuseMemory       Kind = "memory"         // memory does not fit
	RefuseTraffic      Kind = "traffic"        // disks or networks would not carry it
	RefuseSlots        Kind = "slots"          // the digest shows no free slot of the size
	RefuseCPUModel     Kind = "cpu-model"      // the guest's CPU model is not there
	RefusePool         Kind = "pool"           // a storage pool is not there
	RefuseNetwork      Kind = "network"        // a network is not there
	RefuseNUMA         Kind = "numa"           // the NUMA nodes or CPUs that it is bound to are not there or full
	RefusePinned       Kind = "pinned"         // the owner pinned the VM
	RefuseAffinity     Kind = "affinity"       // would be separated from a partner
	RefuseAntiAffinity Kind = "anti-affinity"  // would join a VM it must avoid
	RefuseCooldown     Kind = "cool-down"      // moved too recently
	RefuseReturn       Kind = "return"         // left that host too recently
	RefuseBackoff      Kind = "back-off"       // the same move was refused or failed a moment ago
	RefuseBusy         Kind = "busy"           // a backup or block job runs
	RefuseUnmovable    Kind = "unmovable"      // can never be migrated
	RefuseNoGuard      Kind = "no-guard"       // no hand-over guard protects it
	RefuseConcurrency  Kind = "concurrency"    // as many moves as allowed are under way
	RefuseDistance     Kind = "distance"       // round trip above the limit
	RefuseNoConverge   Kind = "not-converging" // pre-copy would not finish
	RefuseBlackout     Kind = "blackout"       // predicted pause above the limit
	RefuseGain         Kind = "gain"           // gain below the required multiple of the cost
	RefuseRejected     Kind = "rejected"       // the operator said no
	RefusePaused       Kind = "paused"         // operators have paused the cluster
)

// Kinds returns every refusal kind, in the documented order.
func Kinds() []Kind {
	return []Kind{
		RefuseMissingData, RefuseSameHost, RefuseUnreachable, RefuseStale, RefuseDraining, RefuseUnhealthy,
		RefuseCPU, RefuseMemory, RefuseTraffic, RefuseSlots, RefuseCPUModel, RefusePool, RefuseNetwork, RefuseNUMA, RefusePinned,
		RefuseAffinity, RefuseAntiAffinity, RefuseCooldown, RefuseReturn, RefuseBackoff, RefuseBusy,
		RefuseUnmovable, RefuseNoGuard, RefuseConcurrency, RefuseDistance, RefuseNoConverge,
		RefuseBlackout, RefuseGain, RefuseRejected, RefusePaused,
	}
}

// Refusal is one reason against one VM, host or move, with text for people.
type Refusal struct {
	Kind Kind   `json:"kind"`
	Text string `json:"text"`
}

// String renders kind and text.
func (r Refusal) String() string { return string(r.Kind) + ": " + r.Text }

// lasting says that the reason stays until VMs or the host itself change: asking
// again sooner only keeps the VM in the way of others that do fit.
func (r Refusal) lasting() bool {
	switch r.Kind {
	case RefuseMemory, RefuseCPUModel, RefusePool, RefuseNetwork, RefuseNUMA, RefusePinned, RefuseAntiAffinity:
		return true
	}
	return false
}

// RefusedDestination is a host that may not take the VM, with every reason known.
type RefusedDestination struct {
	Host     HostID    `json:"host"`
	Name     string    `json:"name,omitempty"`
	Refusals []Refusal `json:"refusals"`
	// Gain and Cost of the move there, where it was weighed.
	Gain CoreSeconds `json:"gain_core_s,omitempty"`
	Cost CoreSeconds `json:"cost_core_s,omitempty"`
	// RetryAfter is when the host wants to be asked again; 0: it did not say.
	RetryAfter time.Duration `json:"retry_after_ns,omitempty"`
}

func refuse(k Kind, format string, args ...any) Refusal {
	return Refusal{Kind: k, Text: fmt.Sprintf(format, args...)}
}

func hasKind(rs []Refusal, k Kind) bool {
	return slices.ContainsFunc(rs, func(r Refusal) bool { return r.Kind == k })
}
