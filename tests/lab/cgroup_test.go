package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A folder looks like the unified hierarchy to code that only writes.
func TestUnifiedHierarchyIsWrittenAsTheKernelWants(t *testing.T) {
	h := hierarchy{mount: t.TempDir(), v2: true}
	if err := h.make("x", "h0", "machine"); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", "headroom-lab", "headroom-lab/x", "headroom-lab/x/h0"} {
		if text, _ := os.ReadFile(filepath.Join(h.mount, dir, "cgroup.subtree_control")); string(text) != "+cpu" {
			t.Errorf("%q hands down %q, want +cpu", dir, text)
		}
	}
	if _, err := os.Stat(filepath.Join(h.path("x", "h0", "machine"), "cgroup.subtree_control")); err == nil {
		t.Error("the leaf hands the controller down: it could hold no process")
	}
	for cores, want := range map[float64]string{0.5: "50000 100000", 0: "max 100000", 0.001: "1000 100000", 3: "300000 100000"} {
		if err := h.setQuota(cores, "x", "h0", "machine"); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(filepath.Join(h.path("x", "h0", "machine"), "cpu.max")); string(got) != want {
			t.Errorf("%g cores are written as %q, want %q", cores, got, want)
		}
	}
}

// unified finds a mounted cgroup v2, with the cpu controller or without.
func unified(t *testing.T) string {
	t.Helper()
	mounts, err := readMounts()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		if m.kind == "cgroup2" {
			return m.point
		}
	}
	t.Skip("no cgroup2 is mounted")
	return ""
}

// The parts that need no controller work on a real unified hierarchy.
func TestRemoveEndsTheProcessesOfAUnifiedHierarchy(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("makes a cgroup: needs root")
	}
	h := hierarchy{mount: unified(t), v2: true}
	name := "unit-" + strings.ToLower(filepath.Base(t.TempDir())) + "-" + time.Now().Format("150405.000000")
	dir := h.path(name, "h0", "machine")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(h.path())
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	pid := cmd.Process.Pid
	if h.has(pid, name) {
		t.Error("a process outside counts as the lab's")
	}
	if err := h.kill(pid, name); err != nil {
		t.Fatal(err)
	}
	if zombie(pid) {
		t.Fatal("a process outside was killed")
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, pid), 0); err != nil {
		t.Fatal(err)
	}
	if pids, err := h.pids(name); err != nil || !slices.Equal(pids, []int{pid}) {
		t.Errorf("the lab's processes are %v, %v, want %d", pids, err, pid)
	}
	if !h.has(pid, name, "h0") || h.has(pid, name[:len(name)-1]) || h.has(pid, name, "h") {
		t.Error("a name that is the beginning of another counts as the other")
	}
	if err := h.remove(5*time.Second, name); err != nil {
		t.Fatal(err)
	}
	<-ended
	if _, err := os.Stat(h.path(name)); !os.IsNotExist(err) {
		t.Errorf("the cgroup is still there: %v", err)
	}
	if err := h.remove(time.Second, name); err != nil {
		t.Errorf("removing nothing: %v", err)
	}
}
