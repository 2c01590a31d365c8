package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"headroom/tests/cluster"
	"headroom/tests/lab"
)

// quota is the CPU of each host's VMs, in cores: three hosts and their agents fit
// on two cores.
const quota = 0.8

// shared is the cluster that the tests share; nil where no lab can be had.
var (
	shared *cluster.Cluster
	why    error
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	why = lab.Available()
	if why == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		down, err := up(ctx)
		if err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			return 1
		}
		defer down()
	}
	return m.Run()
}

// up builds the program and makes the lab.
func up(ctx context.Context) (down func(), err error) {
	dir, err := os.MkdirTemp("", "headroom-e2e-")
	if err != nil {
		return nil, err
	}
	bin := filepath.Join(dir, "headroom")
	if out, err := exec.CommandContext(ctx, "go", "build", "-tags=libvirt_dlopen", "-o", bin, "headroom/cmd/headroom").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w: %s", err, out)
	}
	name := fmt.Sprintf("e2e%d", os.Getpid())
	l, err := lab.Up(ctx, lab.Options{Name: name, Hosts: 3, Quota: quota})
	if err != nil {
		return nil, err
	}
	down = func() {
		if err := lab.Down(context.Background(), name); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
		}
		_ = os.RemoveAll(dir) // a temporary folder
	}
	if shared, err = cluster.New(ctx, l, bin); err != nil {
		down()
		return nil, err
	}
	return down, nil
}

// need returns the cluster with fresh agents in the given mode, or skips. The
// agents and VMs of the test are gone when it ends.
func need(t *testing.T, mode string, extra map[string]string) *cluster.Cluster {
	t.Helper()
	if shared == nil {
		if strings.Contains(os.Getenv("HEADROOM_REQUIRE"), "lab") {
			t.Fatalf("the lab is required: %v", why)
		}
		t.Skipf("no lab: %v", why)
	}
	c := shared
	t.Cleanup(func() {
		if t.Failed() {
			showLogs(t, c)
		}
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
		destroyAll(t, c.Lab)
		if err := c.Forget(); err != nil {
			t.Error(err)
		}
	})
	if err := c.Configure(mode, extra); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

func destroyAll(t *testing.T, l *lab.Lab) {
	t.Helper()
	vms, err := l.VMs()
	if err != nil {
		t.Error(err)
	}
	for _, vm := range vms {
		if err := l.DestroyVM(context.Background(), vm.Name); err != nil {
			t.Error(err)
		}
	}
}

func showLogs(t *testing.T, c *cluster.Cluster) {
	for _, n := range c.Nodes {
		b, err := os.ReadFile(n.Log())
		if err != nil {
			t.Log(err)
			continue
		}
		lines := strings.Split(string(b), "\n")
		t.Logf("log of %s:\n%s", n.Host.Name(), strings.Join(lines[max(0, len(lines)-40):], "\n"))
		for _, command := range []string{"status", "vms", "members", "decisions", "offers", "migrations"} {
			// An agent that the test has killed does not answer.
			if out, err := n.Headroom(context.Background(), command); err == nil {
				t.Logf("headroom %s on %s:\n%s", command, n.Host.Name(), out)
			}
		}
	}
}

// eventually polls until fn is true or the limit has passed.
func eventually(t *testing.T, limit time.Duration, what string, fn func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for !fn() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// create makes VMs on hosts by number.
func create(t *testing.T, c *cluster.Cluster, host int, vms ...lab.VMOptions) {
	t.Helper()
	for _, o := range vms {
		if _, err := c.Lab.CreateVM(t.Context(), c.Lab.Host(host), o); err != nil {
			t.Fatal(err)
		}
	}
}
