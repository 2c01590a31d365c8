package agent

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"headroom/agent/api"
)

// pressed is a fleet whose first host's VMs want more than its one core: "steady"
// half a core, "growing" from 0.2 to all of its virtual CPU within two minutes, after one.
func pressed(f *fleet) (growing, still string) {
	still = f.vm(0, "steady", steady(0.5))
	growing = f.vm(0, "growing", func(at time.Duration) float64 {
		return 0.2 + 0.8*min(1, max(0, (at-time.Minute).Seconds()/120))
	})
	return growing, still
}

// TestContentionMovesAVM: a VM leaves before its host is short of CPU for long; both
// hosts, the record of the decision and its verdict tell of it; and it rests.
func TestContentionMovesAVM(t *testing.T) {
	inFleet(t, 3, "auto", func(f *fleet) {
		growing, still := pressed(f)
		moved := func() bool { return f.on(growing) != "h0" || f.on(still) != "h0" }
		f.until(5*time.Minute, "a VM leaves the pressed host", moved, growing, still)
		f.pass(5*time.Minute, growing, still)
		for _, id := range []string{growing, still} {
			if _, _, lost, _ := f.world.Work(id); lost > 30 {
				t.Errorf("%s lost %.1f core-seconds", id, lost)
			}
		}
		list, err := f.hosts[0].Migrations(api.Query{Limit: 10})
		if err != nil || len(list) != 1 || list[0].Outcome != "moved" || list[0].Cause != "planner" || list[0].DecisionID == "" {
			t.Fatalf("migrations of the source: %+v, %v", list, err)
		}
		d, err := f.hosts[0].Decision(list[0].DecisionID)
		if err != nil || d.Verdict != "move" || d.GainCS == nil || *d.GainCS <= 0 || d.Outcome == "" {
			t.Errorf("decision %+v, %v", d, err)
		}
		i := slices.IndexFunc(f.hosts, func(m *machine) bool { return m.name == list[0].To })
		if there, err := f.hosts[i].Migrations(api.Query{Limit: 10}); err != nil || len(there) != 1 || there[0].Role != "destination" {
			t.Errorf("migrations of the destination: %+v, %v", there, err)
		}
		if s := f.hosts[0].Status(); !s.Ready || s.Host.Held+s.Host.Incoming > 0 {
			t.Errorf("status %+v", s)
		}
	})
}

// TestAdviceMovesNothing: what would be done is shown, and not done.
func TestAdviceMovesNothing(t *testing.T) {
	inFleet(t, 2, "advise", func(f *fleet) {
		growing, still := pressed(f)
		f.pass(6*time.Minute, growing, still)
		if f.on(growing) != "h0" || f.on(still) != "h0" {
			t.Errorf("moved: %s, %s", f.on(growing), f.on(still))
		}
		list, err := f.hosts[0].Decisions(api.Query{Limit: 50})
		if err != nil || !slices.ContainsFunc(list, func(d api.Decision) bool { return d.Verdict == "advise" && d.To == "h1" }) {
			t.Errorf("no advice among %+v, %v", list, err)
		}
	})
}

// TestNothingIsPlannedOnMissingData: a host that cannot be measured moves nothing,
// takes nothing, and says why.
func TestNothingIsPlannedOnMissingData(t *testing.T) {
	for what, broken := range map[string][2]error{"capacity": {errors.New("no /proc")}, "sampling": {nil, errors.New("no counters")}} {
		t.Run(what, func(t *testing.T) {
			inFleet(t, 2, "auto", func(f *fleet) {
				id := f.vm(0, "web", steady(0.3))
				f.until(3*time.Minute, "both are ready", func() bool { return f.hosts[0].Status().Ready && f.hosts[1].Status().Ready })
				f.vm(1, "db", steady(0.1)) // a host without VMs has nothing to sample
				f.hosts[1].broken.set(broken[0], broken[1])
				f.pass(time.Minute)
				if s := f.hosts[1].Status(); s.Ready || !strings.Contains(strings.Join(s.NotReady, "; "), what[:4]) {
					t.Errorf("ready %v, because %q", s.Ready, s.NotReady)
				}
				if _, err := f.hosts[0].Migrate(f.t.Context(), "web", "h1"); !errors.Is(err, api.ErrConflict) {
					t.Errorf("an operator's move to it: %v", err)
				}
				f.pass(time.Minute, id)
				if f.on(id) != "h0" {
					t.Errorf("the VM is on %q", f.on(id))
				}
			})
		})
	}
}

// TestDrainEmptiesTheHost: everything leaves, nothing comes, until it is taken back.
func TestDrainEmptiesTheHost(t *testing.T) {
	inFleet(t, 3, "auto", func(f *fleet) {
		a, b := f.vm(0, "web", steady(0.2)), f.vm(0, "db", steady(0.3))
		c := f.vm(1, "mail", steady(0.1))
		f.until(3*time.Minute, "all are ready", func() bool { return f.hosts[0].Status().Ready && f.hosts[1].Status().Ready })
		if _, err := f.hosts[0].SetDrain(true, "new memory"); err != nil {
			t.Fatal(err)
		}
		f.until(5*time.Minute, "the host is empty", func() bool { return f.on(a) != "h0" && f.on(b) != "h0" && f.hosts[0].Drain().VMs == 0 }, a, b, c)
		if _, err := f.hosts[1].Migrate(f.t.Context(), "mail", "h0"); !errors.Is(err, api.ErrConflict) {
			t.Errorf("a move to the drained host: %v", err)
		}
		f.stop(0) // the order outlives the agent
		f.start(0, "auto")
		f.pass(30*time.Second, a, b, c)
		if d := f.hosts[0].Drain(); !d.Draining || d.Reason != "new memory" {
			t.Errorf("after a restart: %+v", d)
		}
		if _, err := f.hosts[0].SetDrain(false, ""); err != nil {
			t.Fatal(err)
		}
		f.until(2*time.Minute, "mail may come again", func() bool {
			_, err := f.hosts[1].Migrate(f.t.Context(), "mail", "h0")
			return err == nil
		}, a, b, c)
		f.until(time.Minute, "mail is there", func() bool { return f.on(c) == "h0" }, a, b, c)
	})
}

// TestAgentsDieDuringAMove: an operator's move ends when its agents come back.
func TestAgentsDieDuringAMove(t *testing.T) {
	for _, dead := range [][]int{{0}, {1}, {0, 1}} {
		inFleet(t, 2, "advise", func(f *fleet) {
			id := f.vm(0, "web", steady(0.2))
			f.until(3*time.Minute, "both are ready", func() bool { return f.hosts[0].Status().Ready && f.hosts[1].Status().Ready })
			if _, err := f.hosts[0].Migrate(f.t.Context(), "web", "h1"); err != nil {
				t.Fatal(err)
			}
			f.until(time.Minute, "the copy begins", func() bool { return f.hosts[1].Status().Host.Incoming > 0 }, id)
			for _, i := range dead {
				f.stop(i)
			}
			f.pass(5*time.Second, id)
			for _, i := range dead {
				f.start(i, "advise")
			}
			f.pass(2*time.Minute, id)
			if f.on(id) != "h1" {
				t.Errorf("agents %v died: the VM is on %q", dead, f.on(id))
			}
			for _, m := range f.hosts {
				if s := m.Status(); s.Host.Held+s.Host.Incoming > 0 || len(m.Orphans()) > 0 {
					t.Errorf("agents %v died: %s still holds %+v, orphans %v", dead, m.name, s.Host, m.Orphans())
				}
			}
		})
	}
}

// TestPauseReachesAll: an order at one host holds the moves of all, also of an agent
// that was not there when it was given.
func TestPauseReachesAll(t *testing.T) {
	inFleet(t, 3, "auto", func(f *fleet) {
		growing, still := pressed(f)
		f.stop(2)
		if _, err := f.hosts[1].SetPause(true, "storage works", 0); err != nil {
			t.Fatal(err)
		}
		f.pass(5*time.Second, growing, still)
		f.start(2, "auto")
		f.pass(5*time.Minute, growing, still)
		for _, m := range f.hosts {
			if p := m.Pause(); !p.Paused || p.Reason != "storage works" || p.Aware != 3 {
				t.Errorf("%s: %+v", m.name, p)
			}
		}
		if f.on(growing) != "h0" || f.on(still) != "h0" {
			t.Errorf("moved: %s, %s", f.on(growing), f.on(still))
		}
		if _, err := f.hosts[2].SetPause(false, "", 0); err != nil {
			t.Fatal(err)
		}
		f.until(5*time.Minute, "a VM leaves the pressed host", func() bool { return f.on(growing) != "h0" || f.on(still) != "h0" }, growing, still)
	})
}
