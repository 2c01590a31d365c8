package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"headroom/tests/cluster"
	"headroom/tests/lab"
)

// TestHook drives libvirt's own hook: what headroom moves comes in only as the
// destination's agent says, what an operator moves with virsh is the operator's
// business, and a libvirtd that restarts finds its guests alive.
func TestHook(t *testing.T) {
	c := need(t, "advise", nil)
	create(t, c, 0, lab.VMOptions{Name: "app", Demand: "constant:0.10"})
	stamp(t, c.Nodes[0], `<vm xmlns="urn:headroom:1"><move attempt="4" lease="9-forged" from="x" to="y"/></vm>`)
	refused(t, c, "is not known here")
	if err := c.Nodes[1].Kill(); err != nil {
		t.Fatal(err)
	}
	refused(t, c, "does not confirm the lease")
	stamp(t, c.Nodes[0], `<vm xmlns="urn:headroom:1"><move attempt="4" from="x"/></vm>`)
	refused(t, c, "gave up attempt 4")
	stamp(t, c.Nodes[0], `<vm xmlns="urn:headroom:1"><move attempt="4" from="x" to="y"/></vm>`)
	if err := byHand(t, c); err != nil {
		t.Errorf("a move by hand, with the agent dead: %v", err)
	}
	if err := c.Lab.KillLibvirtd(t.Context(), c.Nodes[1].Host); err != nil {
		t.Fatal(err)
	}
	if err := c.Nodes[1].Host.StartLibvirtd(t.Context()); err != nil {
		t.Fatal(err)
	}
	worksOn(t, c, "app", "h1")
	if out, err := c.Nodes[1].Headroom(t.Context(), "hook", "status", "--config", c.Nodes[1].Dir()+"/headroom.toml"); err != nil || !strings.Contains(out, "installed") {
		t.Errorf("hook status: %q, %v", out, err)
	}
}

// stamp writes headroom's metadata as virsh does, live and persistent.
func stamp(t *testing.T, n *cluster.Node, text string) {
	t.Helper()
	if _, err := n.Host.Virsh(t.Context(), "metadata", "app", "urn:headroom:1", "--key", "headroom", "--set", text, "--live", "--config"); err != nil {
		t.Fatal(err)
	}
}

func byHand(t *testing.T, c *cluster.Cluster) error {
	_, err := c.Nodes[0].Host.Virsh(t.Context(), "migrate", "--live", "--p2p", "--persistent", "--undefinesource", "app", c.Nodes[1].Host.URI())
	return err
}

// refused tries to move app from h0 to h1 with virsh, and wants libvirt to tell the
// hook's reason, and app to run on.
func refused(t *testing.T, c *cluster.Cluster, why string) {
	t.Helper()
	begun := time.Now()
	err := byHand(t, c)
	if err == nil || !strings.Contains(fmt.Sprint(err), why) {
		t.Errorf("virsh migrate: %v, want a refusal that says %q", err, why)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the refusal took %v", took)
	}
	worksOn(t, c, "app", "h0")
}

// worksOn wants the guest to work, on this host alone.
func worksOn(t *testing.T, c *cluster.Cluster, vm, host string) {
	t.Helper()
	where, err := c.Lab.Where(vm)
	if err != nil || len(where) != 1 || where[0].Name() != host {
		t.Errorf("%s runs on %v, %v: want %s", vm, where, err, host)
	}
	before, err := c.Lab.Progress(vm)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, vm+" works on", func() bool {
		p, err := c.Lab.Progress(vm)
		return err == nil && p.Live && p.Done > before.Done
	})
}
