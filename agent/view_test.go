package agent

import (
	"testing"

	"headroom/agent/config"
	"headroom/agent/hypervisor"
)

// TestArrivalIsNotedFirst: a VM that still carries the stamp under which it came
// here has no history that the planner could let it rest by.
func TestArrivalIsNotedFirst(t *testing.T) {
	a := &Agent{o: Options{ID: "b"}, cfg: config.Config{Handover: config.Handover{Guard: "paused"}}}
	for _, c := range []struct {
		why  string
		meta hypervisor.Metadata
		job  string
		busy string
	}{
		{"never moved", hypervisor.Metadata{}, "", ""},
		{"arrived", hypervisor.Metadata{Attempt: 1, Lease: "1-a", From: "a", To: "b"}, "", "the note of its arrival in its metadata"},
		{"arrived and busy", hypervisor.Metadata{Attempt: 1, Lease: "1-a", From: "a", To: "b"}, "backup", "backup"},
		{"arrived and noted", hypervisor.Metadata{Attempt: 1, From: "a", To: "b", LastFrom: "a"}, "", ""},
		{"stamped to leave", hypervisor.Metadata{Attempt: 2, Lease: "2-b", From: "b", To: "c"}, "", ""},
		{"kept", hypervisor.Metadata{Attempt: 2, From: "b"}, "", ""},
	} {
		vm := a.plannerVM(&vm{dom: hypervisor.Domain{Metadata: c.meta, Job: c.job}})
		if vm.Busy != c.busy {
			t.Errorf("%s: waits for %q, want %q", c.why, vm.Busy, c.busy)
		}
	}
}

// TestOperatorNeedNotWaitForTheNote of a VM's arrival, as the planner must; for a job
// both wait.
func TestOperatorNeedNotWaitForTheNote(t *testing.T) {
	a := &Agent{o: Options{ID: "b"}, cfg: config.Config{Handover: config.Handover{Guard: "paused"}}}
	dom := hypervisor.Domain{Metadata: hypervisor.Metadata{Attempt: 1, Lease: "1-a", From: "a", To: "b"}, Migratable: true}
	p := a.plannerVM(&vm{dom: dom})
	if err := movable(p, dom); p.Busy == "" || err != nil {
		t.Errorf("the planner waits for %q; the operator: %v", p.Busy, err)
	}
	dom.Job = "backup"
	if err := movable(p, dom); err == nil {
		t.Error("an operator may move a VM whose backup runs")
	}
	dom.Job, dom.Migratable, dom.Why = "", false, "pass-through device"
	if err := movable(a.plannerVM(&vm{dom: dom}), dom); err == nil {
		t.Error("an operator may move a VM with a pass-through device")
	}
}
