package lab_test

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"headroom/tests/lab"
)

func TestGuestDoesItsScriptAndLosesNothingOnAFreeHost(t *testing.T) {
	requireLab(t)
	l := start(t, lab.Options{Name: labName("free"), Hosts: 1})
	create(t, l, l.Host(0), "a", "constant:0.1+burst:0,0.2,4s,1s")
	p := awaitElapsed(t, l, "a", 8*time.Second)
	if math.Abs(p.Demanded-(0.1*p.Elapsed.Seconds()+0.4)) > 0.25 {
		t.Errorf("after %v the guest counts %.2f core-seconds of demand", p.Elapsed, p.Demanded)
	}
	if p.Done < 0.9*p.Demanded-0.1 || p.Lost > 0.05*p.Demanded {
		t.Errorf("a guest alone did %.2f and lost %.2f of %.2f core-seconds", p.Done, p.Lost, p.Demanded)
	}
	if drift := p.Wall - p.Elapsed; drift.Abs() > 500*time.Millisecond {
		t.Errorf("the guest's clock is %v off after %v", drift, p.Wall)
	}
}

func TestQuotaMakesLossReal(t *testing.T) {
	requireLab(t)
	l := start(t, lab.Options{Name: labName("quota"), Hosts: 1, Quota: 0.3})
	create(t, l, l.Host(0), "a", "constant:0.6")
	p := awaitElapsed(t, l, "a", 10*time.Second)
	// 0.3 cores of 0.6 asked for, less what QEMU itself takes.
	if rate := p.Done / p.Elapsed.Seconds(); rate < 0.1 || rate > 0.36 {
		t.Errorf("under a quota of 0.3 cores the guest did %.2f core-seconds a second", rate)
	}
	if rate := p.Lost / p.Elapsed.Seconds(); rate < 0.15 {
		t.Errorf("of 0.6 core-seconds a second under a quota of 0.3 the guest lost only %.2f", rate)
	}
	if p.WallLost < p.Lost-0.1 {
		t.Errorf("by the wall the loss is %.2f, less than the guest's own %.2f", p.WallLost, p.Lost)
	}
	if err := l.Host(0).SetQuota(0); err != nil {
		t.Fatal(err)
	}
	from := awaitElapsed(t, l, "a", p.Elapsed+3*time.Second) // the backlog is gone after one
	to := awaitElapsed(t, l, "a", from.Elapsed+4*time.Second)
	if lost := to.Lost - from.Lost; lost > 0.4 {
		t.Errorf("with the quota lifted the guest still lost %.2f core-seconds in %v", lost, to.Elapsed-from.Elapsed)
	}
}

func TestMigrate(t *testing.T) {
	requireLab(t)
	l := start(t, lab.Options{Name: labName("move"), Hosts: 2, Rate: 1e8})
	h0, h1 := l.Host(0), l.Host(1)
	create(t, l, h0, "a", "constant:0.2")
	awaitElapsed(t, l, "a", 2*time.Second)

	move := func(from, to *lab.Host, flags ...string) {
		t.Helper()
		begun := time.Now()
		virsh(t, from, append([]string{"migrate", "--live", "--p2p", "--persistent", "--undefinesource", "a", to.URI()}, flags...)...)
		t.Logf("migration %s -> %s %v: %.2f s", from.Name(), to.Name(), flags, time.Since(begun).Seconds())
	}
	move(h0, h1)
	before := progress(t, l, "a")
	if at, err := l.Where("a"); err != nil || len(at) != 1 || at[0] != h1 {
		t.Fatalf("after the migration the VM is on %v (%v), want h1", at, err)
	}
	p := awaitElapsed(t, l, "a", before.Elapsed+3*time.Second)
	reports, err := l.Reports("a")
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range reports {
		// One report may be torn by the switch.
		if i > 0 && (r.Seq <= reports[i-1].Seq || r.Seq > reports[i-1].Seq+2) {
			t.Errorf("report %d follows %d", r.Seq, reports[i-1].Seq)
		}
	}
	if p.WallLost > 1 {
		t.Errorf("the migration cost %.2f core-seconds, more than seconds of pause", p.WallLost)
	}

	move(h1, h0, "--suspend") // VIR_MIGRATE_PAUSED
	if state := virsh(t, h0, "domstate", "--reason", "a"); !strings.HasPrefix(state, "paused") {
		t.Errorf("a copy that was to stay paused is %q", state)
	}
	if list := virsh(t, h1, "list", "--all", "--name"); list != "" {
		t.Errorf("the source still has %q", list)
	}
	paused := progress(t, l, "a")
	await(t, "the pause counts as loss", 20*time.Second, func() bool {
		return progress(t, l, "a").WallLost > paused.WallLost+0.5
	})
	virsh(t, h0, "resume", "a")
	after := awaitElapsed(t, l, "a", paused.Elapsed+3*time.Second)
	if !after.Live || after.WallLost < 0.5 || after.Lost > 0.5 {
		t.Errorf("after a pause of seconds: live %t, lost %.2f by the wall and %.2f by the guest, want more by the wall",
			after.Live, after.WallLost, after.Lost)
	}
}

func TestFaults(t *testing.T) {
	requireLab(t)
	l := start(t, lab.Options{Name: labName("fault"), Hosts: 2, Rate: 1e8})
	h0, h1 := l.Host(0), l.Host(1)
	create(t, l, h1, "a", "constant:0.05")
	reach := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := h0.Exec(ctx, "virsh", "-c", h1.URI(), "list")
		return err == nil
	}
	if !reach() {
		t.Fatal("h0 does not reach h1's libvirtd")
	}
	if err := l.CutLink(h1); err != nil {
		t.Fatal(err)
	}
	if reach() {
		t.Error("h0 reaches h1 over a cut link")
	}
	if err := l.HealLink(h1); err != nil {
		t.Fatal(err)
	}
	await(t, "h0 reaches h1 over the healed link", 20*time.Second, reach)

	if err := l.KillLibvirtd(t.Context(), h1); err != nil {
		t.Fatal(err)
	}
	if pid, err := h1.LibvirtdPID(); pid != 0 || err != nil {
		t.Errorf("after the kill libvirtd is %d, %v", pid, err)
	}
	if pid, err := h1.VMPID("a"); pid == 0 || err != nil {
		t.Errorf("with its libvirtd killed the VM is gone (%v)", err)
	}
	if err := h1.StartLibvirtd(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "the new libvirtd has found the VM", 20*time.Second, func() bool {
		out, err := h1.Virsh(t.Context(), "domstate", "a")
		return err == nil && strings.TrimSpace(out) == "running"
	})

	if err := l.KillQEMU(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	await(t, "libvirt sees the VM dead", 20*time.Second, func() bool {
		out, err := h1.Virsh(t.Context(), "domstate", "a")
		return err == nil && strings.TrimSpace(out) == "shut off"
	})
	dead := progress(t, l, "a")
	await(t, "a dead VM's loss grows", 20*time.Second, func() bool {
		p := progress(t, l, "a")
		return !p.Live && p.WallLost > dead.WallLost+0.05
	})
}

func TestHostsLookLikeMachines(t *testing.T) {
	requireLab(t)
	l := start(t, lab.Options{Name: labName("look"), Hosts: 2, Rate: 1e8})
	seen := map[string]bool{}
	for _, h := range l.Hosts() {
		out, err := h.Exec(t.Context(), "sh", "-c", "hostname; cat /etc/machine-id; ls /sys/class/net; ls -d /sys/fs/cgroup/*; test -e "+h.Dir())
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{h.Name(), h.MachineID(), "eth0", "vmbr0", "/sys/fs/cgroup/"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s lacks %q; it shows:\n%s", h.Name(), want, out)
			}
		}
		_, after, _ := strings.Cut(virsh(t, h, "capabilities"), "<uuid>")
		uuid, _, _ := strings.Cut(after, "</uuid>")
		for _, id := range []string{uuid, h.MachineID(), h.Addr()} {
			if seen[id] {
				t.Errorf("%s shares the identity %s", h.Name(), id)
			}
			seen[id] = true
		}
	}
	// What the host writes to its own folders is found from outside.
	h := l.Host(1)
	if _, err := h.Exec(t.Context(), "sh", "-c", "echo x > /run/mark; echo x > /etc/libvirt/hooks/mark"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/run/mark", "/var/run/mark", "/etc/libvirt/hooks/mark"} {
		if !exists(h.Outside(path)) {
			t.Errorf("%s of the host is not at %s", path, h.Outside(path))
		}
	}
	if _, err := lab.Attach(l.Name()); err != nil {
		t.Error(err)
	}
}
