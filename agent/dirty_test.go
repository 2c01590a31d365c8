package agent

import (
	"testing"
	"time"

	"headroom/agent/api"
)

func TestNextDirtyIsTheOldestThatMayBeAsked(t *testing.T) {
	now := time.Unix(10000, 0)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	vm := func(id string) api.VM { return api.VM{ID: id, State: "running"} }
	busy, paused := vm("a"), vm("a")
	busy.Job, paused.State = "backup", "paused"
	for _, c := range []struct {
		name   string
		vms    []api.VM
		moving []string
		asked  map[string]time.Time
		want   string
	}{
		{"nobody", nil, nil, nil, ""},
		{"never asked", []api.VM{vm("a")}, nil, nil, "a"},
		{"asked lately", []api.VM{vm("a")}, nil, map[string]time.Time{"a": ago(dirtyEvery - time.Second)}, ""},
		{"asked long ago", []api.VM{vm("a")}, nil, map[string]time.Time{"a": ago(dirtyEvery)}, "a"},
		{"the oldest first", []api.VM{vm("a"), vm("b"), vm("c")}, nil,
			map[string]time.Time{"a": ago(6 * time.Minute), "b": ago(9 * time.Minute), "c": ago(7 * time.Minute)}, "b"},
		{"never asked before old", []api.VM{vm("a"), vm("b")}, nil, map[string]time.Time{"a": ago(time.Hour)}, "b"},
		{"never in a migration", []api.VM{vm("a")}, []string{"a"}, nil, ""},
		{"another one while it moves", []api.VM{vm("a"), vm("b")}, []string{"a"}, nil, "b"},
		{"not during a job", []api.VM{busy}, nil, nil, ""},
		{"not while paused", []api.VM{paused}, nil, nil, ""},
	} {
		if got := nextDirty(c.vms, c.moving, c.asked, now); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// Over a long run each of many VMs is asked, and none within dirtyEvery.
func TestDirtyRatesAreRateLimitedAndFair(t *testing.T) {
	var vms []api.VM
	for _, id := range []string{"a", "b", "c", "d"} {
		vms = append(vms, api.VM{ID: id, State: "running"})
	}
	asked := map[string]time.Time{}
	times := map[string]int{}
	now := time.Unix(10000, 0)
	for end := now.Add(time.Hour); now.Before(end); now = now.Add(dirtyTurn) {
		id := nextDirty(vms, nil, asked, now)
		if id == "" {
			continue
		}
		if at, ok := asked[id]; ok && now.Sub(at) < dirtyEvery {
			t.Fatalf("%s asked again after %v", id, now.Sub(at))
		}
		asked[id] = now
		times[id]++
	}
	for _, v := range vms {
		if n := times[v.ID]; n != 12 {
			t.Errorf("%s asked %d times in an hour, want 12", v.ID, n)
		}
	}
	forgetGone(asked, vms[:1])
	if len(asked) != 1 {
		t.Errorf("%d VMs remembered, 1 is left", len(asked))
	}
}
