package e2e

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"headroom/tests/cluster"
	"headroom/tests/lab"
)

// TestLockGuard moves a VM whose disk is on GlusterFS under the guard lock: every
// host refuses a second writer before the move and after it.
func TestLockGuard(t *testing.T) {
	if err := lab.StorageAvailable(); err != nil {
		if strings.Contains(os.Getenv("HEADROOM_REQUIRE"), "lab") {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	c := need(t, "advise", map[string]string{"handover.guard": `"lock"`})
	if err := c.Lab.ShareStorage(t.Context(), c.Lab.Host(2)); err != nil {
		t.Fatal(err)
	}
	create(t, c, 0, lab.VMOptions{Name: "app", Demand: "constant:0.10"})
	guarded(t, c.Nodes[0], "none")
	image, err := c.Lab.AttachDisk(t.Context(), c.Lab.Host(0), "app", 16)
	if err != nil {
		t.Fatal(err)
	}
	guarded(t, c.Nodes[0], "lock")
	waitReady(t, c.Nodes[0].Client, c.Nodes[1].Client)
	oneWriter(t, c, image)
	if _, err := c.Nodes[0].Client.Migrate(t.Context(), "app", "h1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "app runs on h1 alone", func() bool {
		where, err := c.Lab.Where("app")
		return err == nil && len(where) == 1 && where[0].Name() == "h1"
	})
	guarded(t, c.Nodes[1], "lock")
	oneWriter(t, c, image)
	worksOn(t, c, "app", "h1")
}

// guarded waits until the agent shows this guard of app.
func guarded(t *testing.T, n *cluster.Node, want string) {
	t.Helper()
	eventually(t, 20*time.Second, n.Host.Name()+" shows the guard "+want, func() bool {
		vms, err := n.Client.VMs(t.Context())
		for _, vm := range vms {
			if vm.Name == "app" {
				return err == nil && vm.Guard == want
			}
		}
		return false
	})
}

// oneWriter starts a second QEMU on the image, on every host: each must give up.
func oneWriter(t *testing.T, c *cluster.Cluster, image string) {
	t.Helper()
	for _, n := range c.Nodes {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err := n.Host.Exec(ctx, "qemu-system-x86_64", "-machine", "pc,accel=tcg", "-nodefaults", "-display", "none", "-S",
			"-drive", "if=virtio,format=raw,cache=none,file="+image)
		cancel()
		if err == nil || !strings.Contains(err.Error(), `Failed to get "write" lock`) {
			t.Errorf("a second QEMU on %s: %v, want that it gets no lock", n.Host.Name(), err)
		}
	}
}
