package hypervisor_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"headroom/agent/hypervisor"
	"headroom/tests/lab"
)

// required says whether HEADROOM_REQUIRE names one of the words.
func required(words ...string) bool {
	for _, need := range strings.Split(os.Getenv("HEADROOM_REQUIRE"), ",") {
		if slices.Contains(words, need) {
			return true
		}
	}
	return false
}

// realHosts are hosts with a libvirtd each, and a driver on each.
func realHosts(t *testing.T, hosts int) (*lab.Lab, []*hypervisor.Libvirt) {
	t.Helper()
	if testing.Short() {
		t.Skip("a lab takes a minute: skipped with -short")
	}
	if err := lab.Available(); err != nil {
		if required("libvirt", "lab") {
			t.Fatalf("HEADROOM_REQUIRE asks for real hypervisors: %v", err)
		}
		t.Skipf("no real hypervisors on this machine: %v", err)
	}
	l, err := lab.Up(t.Context(), lab.Options{Name: fmt.Sprintf("hv%d", os.Getpid()), Hosts: hosts, Rate: 1e8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(context.Background()); err != nil {
			t.Errorf("down: %v", err)
		}
	})
	var out []*hypervisor.Libvirt
	for _, h := range l.Hosts() {
		out = append(out, driver(t, h, 5*time.Second))
	}
	return l, out
}

func driver(t *testing.T, h *lab.Host, timeout time.Duration) *hypervisor.Libvirt {
	t.Helper()
	d, err := hypervisor.Open(t.Context(), hypervisor.Options{
		URI:    "qemu+unix:///system?socket=" + h.Outside("/run/libvirt/libvirt-sock"),
		RunDir: h.Outside("/run/libvirt/qemu"), Timeout: timeout,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	if ok, err := d.Connected(); !ok {
		t.Fatalf("not connected: %v", err)
	}
	return d
}

func find(t *testing.T, d *hypervisor.Libvirt, id string) (hypervisor.Domain, bool) {
	t.Helper()
	dom, ok, err := d.Lookup(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return dom, ok
}

func await(t *testing.T, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.NewTimer(limit)
	defer end.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end.C:
			t.Fatalf("%s: not within %v", what, limit)
		}
	}
}

// TestMoveBetweenRealHosts moves one VM to and fro, with its metadata, and ends
// the ways a move can end.
func TestMoveBetweenRealHosts(t *testing.T) {
	l, d := realHosts(t, 2)
	vm, err := l.CreateVM(t.Context(), l.Host(0), lab.VMOptions{Name: "a", Demand: "constant:0.2"})
	if err != nil {
		t.Fatal(err)
	}
	id := vm.UUID
	t.Run("described", func(t *testing.T) { described(t, l, d[0], vm) })
	t.Run("paused copy", func(t *testing.T) { pausedCopy(t, l, d, id) })
	t.Run("cancelled", func(t *testing.T) { cancelled(t, l, d, id) })
	t.Run("refused", func(t *testing.T) { refused(t, d[0], id) })
	t.Run("dirty rate", func(t *testing.T) {
		rate, err := d[0].DirtyRate(t.Context(), id)
		if err != nil || rate < 0 || rate > 1<<30 {
			t.Errorf("dirty rate %.0f B/s, %v", rate, err)
		}
		t.Logf("dirty rate %.1f MiB/s", rate/(1<<20))
	})
	t.Run("while the hook thinks", func(t *testing.T) { whileTheHookThinks(t, l, d, id) })
	t.Run("over TLS", func(t *testing.T) { encrypted(t, l, d, id) })
	t.Run("QEMU hangs", func(t *testing.T) { qemuHangs(t, l, vm) })
	t.Run("libvirtd dies", func(t *testing.T) { libvirtdDies(t, l, d, id) })
}

func described(t *testing.T, l *lab.Lab, d *hypervisor.Libvirt, vm lab.VM) {
	dom, ok := find(t, d, vm.UUID)
	pid, err := l.Host(0).VMPID(vm.Name)
	if err != nil {
		t.Fatal(err)
	}
	if !ok || dom.State != hypervisor.Running || dom.PID != pid || dom.VCPUs != 1 || dom.MemoryMiB != float64(vm.Memory) ||
		!dom.Migratable || !dom.Persistent || dom.Job != "" || len(dom.Taps) != 1 || len(dom.Networks) != 1 {
		t.Errorf("described as %+v, want it running as pid %d", dom, pid)
	}
	await(t, "the balloon answers", 15*time.Second, func() bool {
		m, err := d.Memory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		x, ok := m[vm.UUID]
		return ok && x.UsedMiB > 0 && x.UsedMiB < x.AvailableMiB && x.AvailableMiB <= float64(vm.Memory)
	})
	info, err := d.HostInfo(t.Context())
	if err != nil || info.UUID == "" || info.CPUModel == "" || info.CPUs == 0 || info.MemoryMiB == 0 || info.Version == "" {
		t.Errorf("host: %+v, %v", info, err)
	}
	cpus := 0
	for _, n := range info.Nodes {
		cpus += len(n.CPUs)
	}
	if cpus != info.CPUs {
		t.Errorf("%d CPUs in the NUMA nodes %+v, %d on the host", cpus, info.Nodes, info.CPUs)
	}
}

func pausedCopy(t *testing.T, l *lab.Lab, d []*hypervisor.Libvirt, id string) {
	meta := hypervisor.Metadata{Attempt: 7, Lease: "l-1", From: "h0", To: "h1", MovedAt: time.Unix(1e9, 0).UTC(), AntiAffinity: []string{"b"}}
	if err := d[0].SetMetadata(t.Context(), id, meta); err != nil {
		t.Fatal(err)
	}
	if err := d[0].SetAutostart(t.Context(), id, true); err != nil {
		t.Fatal(err)
	}
	for _, which := range []string{"--inactive", "--security-info"} { // the definition, and the running VM
		if text, err := l.Host(0).Virsh(t.Context(), "dumpxml", which, id); err != nil || !strings.Contains(text, "l-1") {
			t.Errorf("dumpxml %s lacks the metadata (%v): %s", which, err, text)
		}
	}
	begun := time.Now()
	r, err := d[0].Migrate(t.Context(), hypervisor.MigrateRequest{ID: id, DestURI: l.Host(1).URI(), Live: true, Paused: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("moved in %v: %+v", time.Since(begun), r)
	if r.Blackout <= 0 || r.CopyTime < r.Blackout || r.Bytes == 0 {
		t.Errorf("figures %+v, want a blackout, a longer copy, bytes", r)
	}
	if dom, ok := find(t, d[0], id); ok {
		t.Errorf("the source still has %+v", dom)
	}
	dom, ok := find(t, d[1], id)
	if !ok || dom.State != hypervisor.Paused || dom.Incoming || dom.Reason != "user" || !dom.Persistent || dom.PID == 0 {
		t.Errorf("at the destination: %+v", dom)
	}
	if dom.Metadata.Attempt != 7 || dom.Metadata.Lease != "l-1" || len(dom.Metadata.AntiAffinity) != 1 {
		t.Errorf("metadata did not travel: %+v", dom.Metadata)
	}
	if err := d[1].Resume(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := d[1].Migrate(t.Context(), hypervisor.MigrateRequest{ID: id, DestURI: l.Host(0).URI(), Live: true}); err != nil {
		t.Fatal(err)
	}
	if dom, ok := find(t, d[0], id); !ok || dom.State != hypervisor.Running {
		t.Errorf("back at the source: %+v", dom)
	}
}

// cancelled ends a slow copy by the context: the VM runs on at the source, and
// while it was copied both ends said so.
func cancelled(t *testing.T, l *lab.Lab, d []*hypervisor.Libvirt, id string) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := d[0].Migrate(ctx, hypervisor.MigrateRequest{ID: id, DestURI: l.Host(1).URI(), Live: true, Paused: true, BandwidthMiBps: 1})
		done <- err
	}()
	await(t, "the copy makes progress", 20*time.Second, func() bool {
		p, err := d[0].Progress(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		percent, ok := p.Percent()
		return p.Active && p.Kind == "migration out" && ok && percent > 0
	})
	dom, ok := find(t, d[1], id)
	if !ok || !dom.Incoming || dom.State != hypervisor.Paused {
		t.Errorf("the arriving VM is %+v (%t), want it incoming", dom, ok)
	}
	if src, _ := find(t, d[0], id); src.Incoming || src.State != hypervisor.Running {
		t.Errorf("the leaving VM is %+v", src)
	}
	if _, err := d[0].DirtyRate(t.Context(), id); !errors.Is(err, hypervisor.ErrJobActive) {
		t.Errorf("dirty rate during a migration: %v, want ErrJobActive", err)
	}
	if _, err := d[0].Migrate(t.Context(), hypervisor.MigrateRequest{ID: id, DestURI: l.Host(1).URI(), Live: true}); !errors.Is(err, hypervisor.ErrJobActive) {
		t.Errorf("a second migration: %v, want ErrJobActive", err)
	}
	begun := time.Now()
	cancel()
	err := <-done
	t.Logf("cancelled in %v: %v", time.Since(begun), err)
	if !errors.Is(err, context.Canceled) || errors.Is(err, hypervisor.ErrUnknownOutcome) {
		t.Errorf("a cancelled migration returned %v, want it cancelled and known", err)
	}
	if dom, ok := find(t, d[0], id); !ok || dom.State != hypervisor.Running {
		t.Errorf("after the cancel: %+v", dom)
	}
	await(t, "the copy is gone", 10*time.Second, func() bool {
		_, ok := find(t, d[1], id)
		return !ok
	})
	if err := d[0].AbortJob(t.Context(), id); err != nil {
		t.Errorf("abort without a job: %v", err)
	}
}

// whileTheHookThinks: from before the source's libvirt reads the stamp until the
// destination's hook has answered, the job is to be seen and the stamp cannot
// be changed. A stamp that was taken back is therefore one that no migration
// carries: the fence of a source that decides after a restart.
func whileTheHookThinks(t *testing.T, l *lab.Lab, d []*hypervisor.Libvirt, id string) {
	asked, answer := l.Host(1).Outside("/run/headroom-lab/asked"), l.Host(1).Outside("/run/headroom-lab/answer")
	hook := l.Host(1).Outside("/etc/libvirt/hooks/qemu")
	script := `#!/bin/sh
[ "$2 $3" = "migrate begin" ] || exit 0
cat > /run/headroom-lab/asked
while [ ! -e /run/headroom-lab/answer ]; do sleep 0.02; done
`
	if err := os.WriteFile(hook, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	defer func() { // libvirt looks for hooks when it starts
		if err := os.Remove(hook); err != nil {
			t.Error(err)
		}
		restartLibvirtd(t, l, l.Host(1), d[1])
	}()
	restartLibvirtd(t, l, l.Host(1), d[1])
	if err := d[0].SetMetadata(t.Context(), id, hypervisor.Metadata{Attempt: 9, Lease: "l-9"}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := d[0].Migrate(t.Context(), hypervisor.MigrateRequest{ID: id, DestURI: l.Host(1).URI(), Live: true})
		done <- err
	}()
	defer func() { // else libvirtd waits for the hook for ever
		if err := os.WriteFile(answer, nil, 0o644); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if dom, ok := find(t, d[1], id); !ok || dom.Metadata.Lease != "l-9" {
			t.Errorf("at the destination: %+v (%t), want it with the stamp that it left with", dom.Metadata, ok)
		}
		if _, err := d[1].Migrate(t.Context(), hypervisor.MigrateRequest{ID: id, DestURI: l.Host(0).URI(), Live: true}); err != nil {
			t.Error(err)
		}
	}()
	await(t, "the hook is asked", 20*time.Second, func() bool {
		text, err := os.ReadFile(asked)
		return err == nil && strings.Contains(string(text), "l-9") && strings.Contains(string(text), "</domain>")
	})
	if p, err := d[0].Progress(t.Context(), id); err != nil || !p.Active || p.Kind != "migration out" {
		t.Errorf("the job is %+v (%v), want it active", p, err)
	}
	begun := time.Now()
	if err := d[0].SetMetadata(t.Context(), id, hypervisor.Metadata{Attempt: 9}); err == nil {
		t.Error("the stamp was taken back under a migration that had read it")
	} else {
		t.Logf("the stamp stays: %v after %v", err, time.Since(begun))
	}
}

func restartLibvirtd(t *testing.T, l *lab.Lab, h *lab.Host, d *hypervisor.Libvirt) {
	t.Helper()
	if err := l.KillLibvirtd(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if err := h.StartLibvirtd(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "the driver reconnects", 20*time.Second, func() bool {
		ok, _ := d.Connected()
		return ok
	})
}

func refused(t *testing.T, d *hypervisor.Libvirt, id string) {
	_, err := d.Migrate(t.Context(), hypervisor.MigrateRequest{ID: id, DestURI: "qemu+tcp://127.0.0.1:1/system", Live: true})
	if err == nil || errors.Is(err, hypervisor.ErrUnknownOutcome) || errors.Is(err, hypervisor.ErrNotConnected) {
		t.Errorf("migration to nowhere: %v, want a plain failure", err)
	}
	_, err = d.Migrate(t.Context(), hypervisor.MigrateRequest{ID: "00000000-0000-4000-8000-000000000000", DestURI: "qemu+tcp://127.0.0.1:1/system"})
	if !errors.Is(err, hypervisor.ErrNoSuchDomain) {
		t.Errorf("migration of nobody: %v, want ErrNoSuchDomain", err)
	}
	if err := d.Resume(t.Context(), "00000000-0000-4000-8000-000000000000"); !errors.Is(err, hypervisor.ErrNoSuchDomain) {
		t.Errorf("resume of nobody: %v, want ErrNoSuchDomain", err)
	}
}

// qemuHangs stops a QEMU in the middle of a command: calls on it are given up,
// and everything about the other VM goes on as before.
func qemuHangs(t *testing.T, l *lab.Lab, vm lab.VM) {
	other, err := l.CreateVM(t.Context(), l.Host(0), lab.VMOptions{Name: "b", Demand: "constant:0.1"})
	if err != nil {
		t.Fatal(err)
	}
	d := driver(t, l.Host(0), 500*time.Millisecond)
	pid, err := l.Host(0).VMPID(vm.Name)
	if err != nil || pid == 0 { // a signal to 0 would stop the test itself
		t.Fatalf("QEMU's pid is %d, %v", pid, err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	if _, err := d.DirtyRate(t.Context(), vm.UUID); !errors.Is(err, hypervisor.ErrTimeout) {
		t.Errorf("a call on a stopped QEMU: %v, want ErrTimeout", err)
	}
	if d.Hanging() != 1 {
		t.Errorf("%d calls hang, want 1", d.Hanging())
	}
	for range 8 { // more than libvirtd serves on one connection
		begun := time.Now()
		all, err := d.Domains(t.Context())
		if err != nil || len(all) != 2 || time.Since(begun) > 450*time.Millisecond {
			t.Fatalf("list after %v: %+v, %v; want both, before the time-out", time.Since(begun), all, err)
		}
		for _, dom := range all {
			if dom.State != hypervisor.Running || dom.PID == 0 || (dom.Job != "") != (dom.ID == vm.UUID) {
				t.Errorf("listed as %+v", dom)
			}
		}
		if m, err := d.Memory(t.Context()); err != nil || m[other.UUID].UsedMiB == 0 {
			t.Errorf("memory beside a hung VM: %v, %v", m, err)
		}
		if err := d.SetMetadata(t.Context(), other.UUID, hypervisor.Metadata{Pin: "here"}); err != nil {
			t.Errorf("an act beside a hung VM: %v", err)
		}
		// Asking it again hangs nothing more.
		if err := d.SetMetadata(t.Context(), vm.UUID, hypervisor.Metadata{Pin: "here"}); !errors.Is(err, hypervisor.ErrTimeout) {
			t.Errorf("an act on a hung VM: %v, want ErrTimeout", err)
		}
	}
	if n := d.Hanging(); n != 2 {
		t.Errorf("%d calls hang after many tries, want 2", n)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	await(t, "nothing hangs any more", 10*time.Second, func() bool { return d.Hanging() == 0 })
	if dom, ok := find(t, d, vm.UUID); !ok || dom.Job != "" || dom.Metadata.Pin != "here" {
		t.Errorf("after the hang: %+v", dom)
	}
}

// libvirtdDies kills the source's libvirtd during a copy: the outcome is not
// known, and the driver finds its way back.
func libvirtdDies(t *testing.T, l *lab.Lab, d []*hypervisor.Libvirt, id string) {
	for len(d[0].Events()) > 0 {
		<-d[0].Events()
	}
	done := make(chan error, 1)
	go func() {
		_, err := d[0].Migrate(t.Context(), hypervisor.MigrateRequest{ID: id, DestURI: l.Host(1).URI(), Live: true, Paused: true, BandwidthMiBps: 1})
		done <- err
	}()
	await(t, "the copy makes progress", 20*time.Second, func() bool {
		p, err := d[0].Progress(t.Context(), id)
		percent, ok := p.Percent()
		return err == nil && ok && percent > 0
	})
	if err := l.KillLibvirtd(t.Context(), l.Host(0)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, hypervisor.ErrUnknownOutcome) {
		t.Errorf("libvirtd died during the migration: %v, want ErrUnknownOutcome", err)
	}
	await(t, "the driver notices", 5*time.Second, func() bool {
		ok, err := d[0].Connected()
		return !ok && errors.Is(err, hypervisor.ErrNotConnected)
	})
	if _, err := d[0].Domains(t.Context()); !errors.Is(err, hypervisor.ErrNotConnected) {
		t.Errorf("list without libvirtd: %v, want ErrNotConnected", err)
	}
	open := descriptors(t)
	begun := time.Now()
	if err := l.Host(0).StartLibvirtd(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "the driver reconnects", 20*time.Second, func() bool {
		ok, _ := d[0].Connected()
		return ok
	})
	t.Logf("libvirtd started and connected again in %v", time.Since(begun))
	kinds := map[hypervisor.EventKind]int{}
	for len(d[0].Events()) > 0 {
		kinds[(<-d[0].Events()).Kind]++
	}
	if kinds[hypervisor.EventLost] == 0 || kinds[hypervisor.EventConnected] == 0 {
		t.Errorf("events %v, want one of the loss and one of the connection", kinds)
	}
	await(t, "the VM runs at the source", 20*time.Second, func() bool {
		dom, ok, err := d[0].Lookup(t.Context(), id)
		return err == nil && ok && dom.State == hypervisor.Running && dom.Job == "" && dom.PID != 0
	})
	if now := descriptors(t); now > open+6 {
		t.Errorf("%d descriptors open before the reconnection, %d after: connections leak", open, now)
	}
}

// descriptors counts this process's open files.
func descriptors(t *testing.T) int {
	t.Helper()
	e, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(e)
}
