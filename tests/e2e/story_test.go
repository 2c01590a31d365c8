package e2e

import (
	"testing"
	"time"

	"headroom/agent/api"
	"headroom/tests/lab"
)

// TestMovesBeforeContention is the program's main job: a VM whose demand climbs
// towards the host's capacity is foreseen, and one VM leaves before demand has to
// wait.
func TestMovesBeforeContention(t *testing.T) {
	c := need(t, "auto", nil)
	create(t, c, 1, lab.VMOptions{Name: "mail", Demand: "constant:0.05"})
	create(t, c, 2, lab.VMOptions{Name: "wiki", Demand: "constant:0.06"})
	create(t, c, 0,
		lab.VMOptions{Name: "db", Demand: "constant:0.20"},
		lab.VMOptions{Name: "cache", Demand: "constant:0.14"},
		lab.VMOptions{Name: "web", Demand: "ramp:0.08,0.56,36s,42s"})
	var moved api.Migration
	eventually(t, 90*time.Second, "a VM leaves h0", func() bool {
		list, err := c.Nodes[0].Client.Migrations(t.Context(), api.Query{Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			if m.Ended != nil && m.Outcome == "moved" {
				moved = m
				return true
			}
		}
		return false
	})
	t.Logf("moved %s to %s: negotiate %v ms, copy %v s, blackout %v ms, lead %v s", moved.VMName, moved.To,
		deref(moved.NegotiateMS), deref(moved.CopyS), deref(moved.BlackoutMS), deref(moved.LeadS))
	if moved.LeadS == nil || *moved.LeadS <= 0 {
		t.Errorf("the move ended after the predicted contention: lead %v s", deref(moved.LeadS))
	}
	where, err := c.Lab.Where(moved.VMName)
	if err != nil || len(where) != 1 || where[0].Name() != moved.To {
		t.Errorf("the VM runs on %v (%v), want %s alone", where, err, moved.To)
	}
}

func deref(v *float64) float64 {
	if v == nil {
		return -1
	}
	return *v
}
