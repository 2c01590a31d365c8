package e2e

import (
	"fmt"
	"testing"
	"time"

	"headroom/agent/api"
	"headroom/planner/negotiate"
	"headroom/tests/cluster"
	"headroom/tests/lab"
)

// slowly makes a copy last long enough to be disturbed: a guest of the lab has some
// 60 MiB to copy.
var slowly = map[string]string{"handover.bandwidth_mibs": "8"}

// TestAgentsEndWhileCopying ends agents in the middle of a copy. The VM goes on
// working in one place, and the agents that come back end the attempt and give the
// lease back.
func TestAgentsEndWhileCopying(t *testing.T) {
	for _, scene := range []struct {
		name    string
		end     func(*cluster.Node) error
		victims []int
	}{
		{"kill -9 of the source", (*cluster.Node).Kill, []int{0}},
		{"kill -9 of the destination", (*cluster.Node).Kill, []int{2}},
		{"kill -9 of both", (*cluster.Node).Kill, []int{0, 2}},
		{"SIGTERM of the source", terminate, []int{0}},
	} {
		t.Run(scene.name, func(t *testing.T) {
			c := need(t, "advise", slowly)
			create(t, c, 0, lab.VMOptions{Name: "app", Demand: "constant:0.10"})
			waitReady(t, c.Nodes[0].Client, c.Nodes[2].Client)
			if _, err := c.Nodes[0].Client.Migrate(t.Context(), "app", "h2"); err != nil {
				t.Fatal(err)
			}
			eventually(t, 20*time.Second, "the copy runs", func() bool {
				m, ok := last(t, c.Nodes[0])
				return ok && m.Phase == string(negotiate.SourceMigrating)
			})
			for _, i := range scene.victims {
				if err := scene.end(c.Nodes[i]); err != nil {
					t.Fatal(err)
				}
			}
			for _, i := range scene.victims {
				if err := c.Nodes[i].Start(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			settles(t, c)
		})
	}
}

// terminate stops an agent as systemd would, and holds it to its five seconds.
func terminate(n *cluster.Node) error {
	took, err := n.Stop()
	if err == nil && took > 5*time.Second {
		err = fmt.Errorf("SIGTERM took %v, at most 5 s", took)
	}
	return err
}

// last is the newest migration that a node knows.
func last(t *testing.T, n *cluster.Node) (api.Migration, bool) {
	t.Helper()
	list, err := n.Client.Migrations(t.Context(), api.Query{Limit: 1})
	if err != nil || len(list) == 0 {
		return api.Migration{}, false
	}
	return list[0], true
}

// settles waits until app runs once, works, and nothing is promised any more.
func settles(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	eventually(t, 60*time.Second, "the attempt ends and the lease is given back", func() bool {
		m, ok := last(t, c.Nodes[0])
		if !ok || m.Ended == nil {
			return false
		}
		for _, n := range c.Nodes {
			s, err := n.Client.Status(t.Context())
			if err != nil || s.Host.Held+s.Host.Incoming > 0 {
				return false
			}
		}
		return true
	})
	m, _ := last(t, c.Nodes[0])
	where, err := c.Lab.Where("app")
	if err != nil || len(where) != 1 {
		t.Fatalf("app runs on %v, %v: want one host", where, err)
	}
	t.Logf("%s: app runs on %s", m.Outcome, where[0].Name())
	if want := map[bool]string{true: "h2", false: "h0"}[m.Outcome == "moved"]; where[0].Name() != want {
		t.Errorf("the attempt ended as %q, and app runs on %s", m.Outcome, where[0].Name())
	}
	before, err := c.Lab.Progress("app")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "app works on", func() bool {
		p, err := c.Lab.Progress("app")
		return err == nil && p.Live && p.Done > before.Done
	})
}
