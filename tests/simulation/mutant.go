package simulation

import (
	"headroom/planner/negotiate"
	"headroom/tests/model"
)

// MutantNotedOnce takes out the mending of what these fleets found first: it asks
// once for the stamp of a finished move, in the step that makes the VM this host's,
// and lets the VM move on whether or not the stamp was written.
const MutantNotedOnce model.Mutant = "noted-once"

// Mutants are the rules that fleets can be run without: those of the model, and
// those whose breach takes a planner, wall clocks and metadata to show.
func Mutants() []model.Mutant { return append(model.Mutants(), MutantNotedOnce) }

// notes reports whether a step's StampOwned is done; a recovery has no step.
func (w *world) notes(s *stepping) bool {
	return w.cfg.Mutant != MutantNotedOnce || s != nil && persists(s.effects)
}

// mayMove reports whether the lease book lets the VM leave.
func (w *world) mayMove(h *host, id negotiate.VMID) bool {
	if e, ok := h.agent.dest.Entry(id); ok && w.cfg.Mutant == MutantNotedOnce {
		return !active(e.Record.State)
	}
	may, _ := h.agent.dest.MayMove(id)
	return may
}
