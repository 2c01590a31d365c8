package e2e

import (
	"testing"
	"time"

	"headroom/tests/faults"
)

// TestFaults breaks one hand-over at each phase, each in another way, and holds every
// step that the agents took against the protocol's table; `make bench-faults` is the
// long version.
func TestFaults(t *testing.T) {
	c := need(t, "advise", faults.Settings())
	r, err := faults.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	ms := time.Millisecond
	for _, trial := range []faults.Trial{
		{Fault: faults.KillDestAgent, Phase: faults.Bind, After: 60 * ms, Hold: 300 * ms},
		{Fault: faults.KillDestQEMU, Phase: faults.Copy, After: 1000 * ms, Hold: 100 * ms},
		// libvirt has let the VM go at the source and dies before it has noted that.
		{Fault: faults.KillSourceLibvirt, Phase: faults.Switch, After: 120 * ms, Hold: 300 * ms},
		{Fault: faults.CutLink, Phase: faults.Switch, After: 120 * ms, Hold: 2000 * ms},
		{Fault: faults.KillBothAgents, Phase: faults.Commit, After: 5 * ms, Hold: 300 * ms},
	} {
		res, err := r.Run(t.Context(), trial)
		if err != nil {
			t.Fatalf("%s at %s: %v", trial.Fault, trial.Phase, err)
		}
		t.Logf("%s at %s: %s, runs on %s, settled after %.1f s", trial.Fault, trial.Phase, res.Outcome, res.Runs, res.SettleS)
		if res.Bad() {
			t.Errorf("%s at %s: %+v", trial.Fault, trial.Phase, res)
		}
	}
	steps, err := r.Steps()
	if err != nil {
		t.Error(err)
	}
	t.Logf("%d steps of the state machines, all in the protocol's table", steps)
	if steps < 50 { // an undisturbed hand-over alone takes more than ten on either side
		t.Errorf("the agents told %d steps of five hand-overs", steps)
	}
}
