package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"headroom/agent/api"
	"headroom/tests/cluster"
	"headroom/tests/lab"
)

// TestDiskShortageMovesAVM: two VMs read 40 MB/s on a host whose disks are said to
// carry 25. Its cores idle. One VM leaves, for the disk's sake, and the record says so.
func TestDiskShortageMovesAVM(t *testing.T) {
	c := need(t, "auto", map[string]string{"planner.disk_bytes_per_s": "25e6", "forecast.warmup": "20"})
	busy := c.Nodes[0]
	create(t, c, 0, lab.VMOptions{Name: "db", Demand: "constant:0.05"}, lab.VMOptions{Name: "etl", Demand: "constant:0.05"})
	for _, vm := range []string{"db", "etl"} {
		plugDisk(t, busy, vm)
		readDisk(t, busy, vm)
	}
	var moved api.Migration
	eventually(t, 90*time.Second, "a VM leaves h0", func() bool {
		list, err := busy.Client.Migrations(t.Context(), api.Query{Limit: 5})
		for _, m := range list {
			if m.Ended != nil && m.Outcome == "moved" {
				moved = m
			}
		}
		return err == nil && moved.ID != ""
	})
	d, err := busy.Client.Decision(t.Context(), moved.DecisionID)
	if err != nil || moved.Cause != "planner" || !strings.Contains(d.Reason, "the host is short of disk") {
		t.Errorf("%+v, because: %s (%v)", moved, d.Reason, err)
	}
	t.Logf("%s moved to %s: %s", moved.VMName, moved.To, d.Reason)
	stays := map[string]string{"db": "etl", "etl": "db"}[moved.VMName]
	out, err := busy.Headroom(t.Context(), "forecast", stays)
	if err != nil || !strings.Contains(out, "Disk traffic:") || strings.Contains(out, "Network traffic:") {
		t.Errorf("%v\n%s", err, out)
	}
}

// plugDisk gives a running VM a block device of 8 MiB, which every host of the lab
// sees. Its backing file is written: holes cost no I/O.
func plugDisk(t *testing.T, n *cluster.Node, vm string) {
	t.Helper()
	dir := t.TempDir()
	image, file := filepath.Join(dir, vm+".raw"), filepath.Join(dir, vm+".xml")
	data := make([]byte, 8<<20)
	rand.Read(data)
	if err := os.WriteFile(image, data, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", image).CombinedOutput()
	if err != nil {
		if strings.Contains(os.Getenv("HEADROOM_REQUIRE"), "lab") {
			t.Fatalf("losetup: %v: %s", err, out)
		}
		t.Skipf("no loop device: %v: %s", err, out)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() { // it goes for good when the VM, which still has it, does
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("detach %s: %v: %s", device, err, out)
		}
	})
	xml := fmt.Sprintf("<disk type='block' device='disk'><driver name='qemu' type='raw' cache='none'/>"+
		"<source dev='%s'/><target dev='vda' bus='virtio'/></disk>\n", device)
	if err := os.WriteFile(file, []byte(xml), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Host.Virsh(t.Context(), "attach-device", vm, file, "--live", "--config"); err != nil {
		t.Fatal(err)
	}
}

// readDisk lets the VM's QEMU read 4 MiB from its disk five times a second, past the
// page cache, until the VM has left or the test ends.
func readDisk(t *testing.T, n *cluster.Node, vm string) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	wg.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			if _, err := n.Host.Virsh(ctx, "qemu-monitor-command", vm, "--hmp", `qemu-io libvirt-1-format "read 0 4M"`); err != nil {
				return // it has left
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
}
