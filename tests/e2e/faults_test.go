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
	r := rig(t)
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

// TestFinishReplyLost breaks a move in the moment that libvirt leaves to lock managers:
// the copy is whole at the destination, and its word never reaches the source. With
// headroom's guard the VM runs once, also when the agents do not hear of each other
// either; what bare libvirt makes of it, two running copies, is recorded.
func TestFinishReplyLost(t *testing.T) {
	r := rig(t)
	for _, trial := range []faults.Trial{
		{Fault: faults.CutReply, Phase: faults.Finish, Hold: 36 * time.Second}, // libvirt's keep-alive gives up after 30 s
		{Fault: faults.ResetReply, Phase: faults.Finish, Hold: 2 * time.Second, Bare: true},
	} {
		res, err := r.Run(t.Context(), trial)
		if err != nil {
			t.Fatalf("%s: %v", trial.Fault, err)
		}
		if !res.Hit {
			t.Errorf("%s: the reply was not lost: %+v", trial.Fault, res)
		}
		if !trial.Bare && res.Bad() {
			t.Errorf("%s: %+v", trial.Fault, res)
		}
		t.Logf("%s, bare %v: %s, runs on %s; seen twice by %d looks, %d numbers printed twice; settled %v, %.1f s after the mending",
			trial.Fault, trial.Bare, res.Outcome, res.Runs, res.Doubles, len(res.Forks), res.Settled, res.SettleS)
	}
}

// rig is a cluster with fresh agents that is watched from outside until the test ends.
func rig(t *testing.T) *faults.Rig {
	t.Helper()
	r, err := faults.New(t.Context(), need(t, "advise", faults.Settings()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}
