package e2e

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"headroom/agent/api"
	"headroom/tests/cluster"
	"headroom/tests/lab"
)

// TestOperatorsOrders pauses the cluster while a host is overloaded, lets one agent
// miss the order and another one lose its memory, resumes, rejects one move and
// approves another, and drains the host over a restart.
func TestOperatorsOrders(t *testing.T) {
	// With a reserve the host is overloaded on paper alone: nobody waits, and what the
	// VMs want stays known while the test takes its time.
	c := need(t, "approve", map[string]string{"planner.rejection_holds": `"10s"`, "forecast.warmup": "10", "planner.reserve_cores": "0.30"})
	busy, other, late := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	create(t, c, 0,
		lab.VMOptions{Name: "db", Demand: "constant:0.22"},
		lab.VMOptions{Name: "web", Demand: "constant:0.20"})
	if err := late.Kill(); err != nil {
		t.Fatal(err)
	}
	if out, err := other.Headroom(t.Context(), "pause", "--reason", "new switch"); err != nil || !strings.Contains(out, "new switch") {
		t.Fatalf("pause: %v\n%s", err, out)
	}
	heldBy(t, busy, "new switch") // heard as news
	if err := errors.Join(other.Kill(), other.Start(t.Context()), late.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	heldBy(t, other, "new switch") // read from its disk
	heldBy(t, late, "new switch")  // asked of the peers whose tags tell of it
	if _, err := late.Headroom(t.Context(), "resume", "--wait"); err != nil {
		t.Fatal(err)
	}
	answerTheMoves(t, busy)
	eventually(t, 20*time.Second, "the approved VM has left", func() bool { return len(namesOn(t, c, 0)) == 1 })
	drainOverARestart(t, c, busy)
	if _, err := other.Client.Migrate(t.Context(), append(namesOn(t, c, 1), namesOn(t, c, 2)...)[0], "h0"); err == nil {
		t.Error("a drained host took a VM")
	}
	if out, err := busy.Headroom(t.Context(), "undrain"); err != nil || !strings.Contains(out, "not drained") {
		t.Errorf("undrain: %v\n%s", err, out)
	}
}

// heldBy waits until the agent says that it plans nothing, and why.
func heldBy(t *testing.T, n *cluster.Node, why string) {
	t.Helper()
	eventually(t, 15*time.Second, n.Host.Name()+" holds its moves", func() bool {
		s, err := n.Client.Status(t.Context())
		return err == nil && slices.ContainsFunc(s.NotReady, func(r string) bool { return strings.Contains(r, why) })
	})
}

// answerTheMoves rejects the first move that waits, and approves one of another VM.
func answerTheMoves(t *testing.T, n *cluster.Node) {
	t.Helper()
	first := waiting(t, n, "")
	if out, err := n.Headroom(t.Context(), "reject", first.ID); err != nil || !strings.Contains(out, first.VMName+" stays") {
		t.Fatalf("reject: %v\n%s", err, out)
	}
	second := waiting(t, n, first.VMName)
	if out, err := n.Headroom(t.Context(), "approve", second.ID, "--json"); err != nil || !strings.Contains(out, `"approved": true`) {
		t.Fatalf("approve: %v\n%s", err, out)
	}
	if _, err := n.Headroom(t.Context(), "approve", "1"); exitCode(err) != 4 {
		t.Errorf("approve an unknown decision: %v, want exit code 4", err)
	}
}

// waiting is a decision that waits for approval, of another VM than one.
func waiting(t *testing.T, n *cluster.Node, notOf string) (found api.Decision) {
	t.Helper()
	eventually(t, 60*time.Second, "a move waits for approval", func() bool {
		list, err := n.Client.Decisions(t.Context(), api.Query{Limit: 1})
		if err != nil || len(list) == 0 || list[0].Verdict != "wait-approval" || list[0].VMName == notOf {
			return false
		}
		found = list[0]
		return true
	})
	return found
}

// drainOverARestart empties the host; its agent restarts on the way.
func drainOverARestart(t *testing.T, c *cluster.Cluster, n *cluster.Node) {
	t.Helper()
	if out, err := n.Headroom(t.Context(), "drain", "--reason", "new disks"); err != nil || !strings.Contains(out, "being drained") {
		t.Fatalf("drain: %v\n%s", err, out)
	}
	if _, err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, err := n.Headroom(t.Context(), "drain", "--wait", "--timeout", "45s"); err != nil || !strings.Contains(out, "drained and empty") {
		t.Fatalf("drain --wait: %v\n%s", err, out)
	}
	if left := namesOn(t, c, 0); len(left) > 0 {
		t.Errorf("the drained host still runs %v", left)
	}
}

// namesOn are the VMs that run on a host alone.
func namesOn(t *testing.T, c *cluster.Cluster, host int) (names []string) {
	t.Helper()
	for _, vm := range []string{"web", "db"} {
		where, err := c.Lab.Where(vm)
		if err != nil {
			t.Fatal(err)
		}
		if len(where) == 1 && where[0].Name() == c.Lab.Host(host).Name() {
			names = append(names, vm)
		}
	}
	return names
}
