package agent

import (
	"testing"

	"headroom/planner"
)

// TestTheDecisionThatConcernsAVM: the one that chose or weighed it; a later round
// that weighed nobody counts for every VM that is here.
func TestTheDecisionThatConcernsAVM(t *testing.T) {
	b := newBook(&memStore{})
	find := func(name string, id planner.VMID) string {
		e, ok := b.concerning(name, id)
		if !ok {
			return ""
		}
		return e.Decision.ID
	}
	if got := find("web", "id-web"); got != "" {
		t.Errorf("before any round: %s", got)
	}
	moved := decision(1, planner.ActionMove)
	moved.VM, moved.VMName = "id-web", "web"
	moved.Considered = []planner.Option{{VM: "id-web", Name: "web"}, {VM: "id-db", Name: "db"}}
	other := decision(2, planner.ActionStuck)
	other.VM, other.Considered = "id-new", []planner.Option{{VM: "id-new", Name: "new"}}
	b.add(moved)
	b.add(other)
	for name, want := range map[string]string{"web": moved.ID, "id-web": moved.ID, "db": moved.ID, "new": other.ID, "nobody": ""} {
		if got := find(name, ""); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if got := find("idle", "id-idle"); got != other.ID {
		t.Errorf("a VM that no round weighed: %s, want the latest", got)
	}
	calm := decision(3, planner.ActionStay)
	b.add(calm)
	if got := find("web", ""); got != moved.ID {
		t.Errorf("a VM that has left: %s, want its move", got)
	}
	if got := find("db", "id-db"); got != calm.ID {
		t.Errorf("a VM that is here: %s, want the calm round", got)
	}
}

// TestWhatCanBeJudged: a move that happened, and a stay of a host that was measured
// and from which nothing was leaving.
func TestWhatCanBeJudged(t *testing.T) {
	stay := decision(1, planner.ActionStay)
	stay.Inputs.VMs, stay.Inputs.Forecast.Ready = 2, true
	move := decision(2, planner.ActionMove)
	move.To = "b"
	for name, c := range map[string]struct {
		change func(d *planner.Decision)
		of     planner.Decision
		want   bool
	}{
		"stay":              {func(*planner.Decision) {}, stay, true},
		"advice":            {func(d *planner.Decision) { d.Action, d.To = planner.ActionAdvise, "b" }, stay, true},
		"empty host":        {func(d *planner.Decision) { d.Inputs.VMs = 0 }, stay, false},
		"unmeasured":        {func(d *planner.Decision) { d.Inputs.Forecast.Ready = false }, stay, false},
		"frozen":            {func(d *planner.Decision) { d.Action = planner.ActionFrozen }, stay, false},
		"a move under way":  {func(d *planner.Decision) { d.Inputs.Outgoing = 1 }, stay, false},
		"move":              {func(*planner.Decision) {}, move, true},
		"move not begun":    {func(d *planner.Decision) { d.Reason += notStarted + "busy" }, move, false},
		"move to no host":   {func(d *planner.Decision) { d.To = "" }, move, false},
		"waits for a human": {func(d *planner.Decision) { d.Action = planner.ActionApprove }, stay, true},
	} {
		d := c.of
		c.change(&d)
		if got := judgeable(&d); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
