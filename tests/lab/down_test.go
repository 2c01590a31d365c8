package lab_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"headroom/tests/lab"
)

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// traces lists what of a lab is found on the machine: mounts, folders, cgroups
// and processes that bear its name, and processes, threads, descriptors and
// mounts that hold one of the given namespaces.
func traces(t *testing.T, name string, namespaces []string) []string {
	t.Helper()
	var found []string
	for _, dir := range []string{"/run/headroom-lab/", "/var/lib/headroom-lab/"} {
		if exists(dir + name) {
			found = append(found, dir+name)
		}
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/headroom-lab/" + name)
	more, _ := filepath.Glob("/sys/fs/cgroup/headroom-lab/" + name)
	found = append(found, append(groups, more...)...)
	for _, pattern := range []string{"/proc/[0-9]*/ns/*", "/proc/[0-9]*/task/*/ns/*", "/proc/[0-9]*/fd/*"} {
		links, _ := filepath.Glob(pattern)
		for _, link := range links {
			if target, err := os.Readlink(link); err == nil && slices.Contains(namespaces, target) {
				found = append(found, link+" -> "+target)
			}
		}
	}
	files, _ := filepath.Glob("/proc/[0-9]*/mountinfo")
	for _, f := range files {
		text, _ := os.ReadFile(f)
		for line := range strings.Lines(string(text)) {
			hit := strings.Contains(line, "/headroom-lab/"+name)
			for _, ns := range namespaces {
				hit = hit || strings.Contains(line, ns)
			}
			if hit {
				found = append(found, f+": "+strings.TrimSpace(line))
			}
		}
	}
	lines, _ := filepath.Glob("/proc/[0-9]*/cgroup")
	for _, f := range lines {
		if text, _ := os.ReadFile(f); strings.Contains(string(text), "/headroom-lab/"+name+"/") {
			found = append(found, f)
		}
	}
	return found
}

// links lists the machine's own network links.
func links(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/sys/class/net")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// namespacesOf reads the ids of a lab's namespaces from its pins.
func namespacesOf(t *testing.T, name string) []string {
	t.Helper()
	pins, _ := filepath.Glob("/run/headroom-lab/" + name + "/ns/*")
	var ids []string
	for _, pin := range pins {
		var st unix.Stat_t
		if err := unix.Stat(pin, &st); err != nil {
			t.Fatal(err)
		}
		kind := strings.TrimPrefix(filepath.Ext(pin), ".")
		ids = append(ids, fmt.Sprintf("%s:[%d]", kind, st.Ino))
	}
	return ids
}

// processes lists the ids of a lab's processes.
func processes(t *testing.T, l *lab.Lab) []int {
	t.Helper()
	var pids []int
	for _, h := range l.Hosts() {
		for _, dir := range []string{h.SystemCgroup(), h.MachineCgroup()} {
			text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range strings.Fields(string(text)) {
				pid, _ := strconv.Atoi(w)
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func TestDownLeavesNothing(t *testing.T) {
	requireLab(t)
	for _, c := range []struct {
		name string
		ruin func(t *testing.T, l *lab.Lab)
	}{
		{"sound", func(*testing.T, *lab.Lab) {}},
		{"all-killed", func(t *testing.T, l *lab.Lab) {
			pids := processes(t, l)
			if len(pids) < 3 { // two libvirtd and a QEMU
				t.Fatalf("the lab has processes %v only", pids)
			}
			for _, pid := range pids {
				unix.Kill(pid, unix.SIGKILL)
			}
		}},
		{"state-lost", func(t *testing.T, l *lab.Lab) {
			if err := os.Remove("/run/headroom-lab/" + l.Name() + "/lab.json"); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			name, before := labName(c.name), links(t)
			l := start(t, lab.Options{Name: name, Hosts: 2, Rate: 1e8})
			create(t, l, l.Host(1), "a", "constant:0.05")
			ids := namespacesOf(t, name)
			if len(ids) != 7 { // three a host, and the switch
				t.Fatalf("the lab has namespaces %v, want 7", ids)
			}
			if len(traces(t, name, ids)) == 0 {
				t.Fatal("a running lab shows no trace: this test sees nothing")
			}
			c.ruin(t, l)
			begun := time.Now()
			for range 2 { // the second finds nothing, and says nothing
				if err := lab.Down(t.Context(), name); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("down: %.2f s", time.Since(begun).Seconds())
			// The kernel ends processes and namespaces in the background.
			var left []string
			await(t, "nothing is left", 10*time.Second, func() bool {
				left = traces(t, name, ids)
				return len(left) == 0 || t.Context().Err() != nil
			})
			if after := links(t); !slices.Equal(before, after) {
				t.Errorf("the machine's links were %v and are %v", before, after)
			}
			if _, err := lab.Attach(name); !errors.Is(err, lab.ErrNotFound) {
				t.Errorf("attaching to what is gone: %v, want ErrNotFound", err)
			}
		})
	}
}

// However far an up has come when it is killed, down removes all of it.
func TestDownAfterUpWasKilled(t *testing.T) {
	requireLab(t)
	for i, delay := range []time.Duration{20 * time.Millisecond, 60 * time.Millisecond, 150 * time.Millisecond, 400 * time.Millisecond, -1} {
		name := labName(fmt.Sprintf("half%d", i))
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childUp+"="+name)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		await(t, "the lab's folder", 10*time.Second, func() bool { return exists("/run/headroom-lab/" + name) })
		if delay < 0 {
			bufio.NewReader(out).ReadString('\n')
		} else {
			time.Sleep(delay) // the point is to hit anywhere
		}
		cmd.Process.Kill()
		cmd.Wait()
		var ids []string
		if exists("/run/headroom-lab/" + name + "/ns") {
			ids = namespacesOf(t, name)
		}
		if err := lab.Down(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		await(t, "nothing is left", 10*time.Second, func() bool { return len(traces(t, name, ids)) == 0 })
	}
}

func TestTwoLabsAtOnce(t *testing.T) {
	requireLab(t)
	labs := make([]*lab.Lab, 2)
	var wg sync.WaitGroup
	for i := range labs {
		wg.Go(func() {
			l, err := lab.Up(t.Context(), lab.Options{Name: labName(fmt.Sprint("two", i)), Hosts: 2, Rate: 1e8})
			if err != nil {
				t.Error(err)
				return
			}
			labs[i] = l
			if _, err := l.CreateVM(t.Context(), l.Host(0), lab.VMOptions{Name: "same", Demand: "constant:0.1"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, l := range labs {
		if l != nil {
			defer l.Down(context.Background())
		}
	}
	if t.Failed() {
		return
	}
	// One made while the first is there begins with a copy of its mounts.
	start(t, lab.Options{Name: labName("three"), Hosts: 1, Rate: 1e8})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if out, err := labs[0].Host(0).Exec(ctx, "virsh", "-c", labs[1].Host(0).URI(), "list"); err == nil {
		t.Errorf("a host of one lab reaches the other lab:\n%s", out)
	}
	ids := namespacesOf(t, labs[0].Name())
	if err := labs[0].Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "nothing of the first is left", 10*time.Second, func() bool { return len(traces(t, labs[0].Name(), ids)) == 0 })
	p := progress(t, labs[1], "same")
	awaitElapsed(t, labs[1], "same", p.Elapsed+2*time.Second)
}

func TestUpRefuses(t *testing.T) {
	requireLab(t)
	for _, o := range []lab.Options{{Name: "../x", Hosts: 1}, {Name: labName("none")}, {Name: labName("many"), Hosts: lab.MaxHosts + 1}, {Name: labName("neg"), Hosts: 1, Quota: -1}} {
		if _, err := lab.Up(t.Context(), o); err == nil {
			t.Errorf("Up(%+v) succeeded", o)
		}
		if found := traces(t, o.Name, nil); len(found) > 0 {
			t.Errorf("Up(%+v) left %v", o, found)
		}
	}
	l := start(t, lab.Options{Name: labName("once"), Hosts: 1, Rate: 1e8})
	if _, err := lab.Up(t.Context(), lab.Options{Name: l.Name(), Hosts: 1, Rate: 1e8}); !errors.Is(err, lab.ErrExists) {
		t.Errorf("a second Up: %v, want ErrExists", err)
	}
	if _, err := l.Host(0).Exec(t.Context(), "true"); err != nil {
		t.Errorf("the refused Up hurt the lab: %v", err)
	}
	if _, err := l.CreateVM(t.Context(), l.Host(0), lab.VMOptions{Name: "a", Demand: "constant:x"}); err == nil {
		t.Error("a VM with a broken script was made")
	}
	if _, err := l.VM("a"); !errors.Is(err, lab.ErrNotFound) || errors.Is(err, fs.ErrExist) {
		t.Errorf("the refused VM: %v, want ErrNotFound", err)
	}
}
