package hypervisor_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"headroom/agent/hypervisor"
)

// testDriver is a driver on libvirt's own simulated hypervisor, which needs no
// daemon and has one running domain, «test». All connections of the process share
// it, and it is as new once the last one was closed: such tests do not run at the
// same time.
func testDriver(t *testing.T, shared ...string) (*hypervisor.Libvirt, hypervisor.Domain) {
	t.Helper()
	d, err := hypervisor.Open(t.Context(), hypervisor.Options{URI: "test:///default", RunDir: t.TempDir(), ProcDir: t.TempDir(), SharedPaths: shared})
	if errors.Is(err, hypervisor.ErrLibvirtMissing) && !required("libvirt") {
		t.Skip(err)
	}
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
	all, err := d.Domains(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("domains %+v, %v; want one", all, err)
	}
	return d, all[0]
}

func TestRunningDomainIsDescribed(t *testing.T) {
	_, dom := testDriver(t, "/guest")
	if dom.Name != "test" || dom.State != hypervisor.Running || dom.VCPUs != 2 || dom.MemoryMiB != 2048 || dom.MaxMemoryMiB != 8192 ||
		!dom.Persistent || !dom.Migratable || dom.PID != 0 || dom.Incoming || dom.Job != "" {
		t.Errorf("described as %+v", dom)
	}
}

// TestLocalDiskKeepsTheVM: headroom copies no disks.
func TestLocalDiskKeepsTheVM(t *testing.T) {
	for _, c := range []struct {
		shared     []string
		migratable bool
	}{{nil, false}, {[]string{"/gu"}, false}, {[]string{"/srv", "/guest/"}, true}} {
		d, dom := testDriver(t, c.shared...)
		if dom.Migratable != c.migratable || len(dom.Disks) != 1 || dom.Disks[0].Shared != c.migratable ||
			(!c.migratable && !strings.Contains(dom.Why, "/guest/diskimage1")) {
			t.Errorf("with %v shared: migratable %t (%q), disks %+v", c.shared, dom.Migratable, dom.Why, dom.Disks)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestMetadataAndAutostartStayWithTheDomain(t *testing.T) {
	d, dom := testDriver(t)
	want := hypervisor.Metadata{Attempt: 2, Lease: "l", From: "a", To: "b", MovedAt: time.Unix(1e9, 5).UTC(),
		Moves: []time.Time{time.Unix(1e9, 0).UTC()}, Mode: "auto", Affinity: []string{"<db>"}}
	for range 2 { // the second write replaces the first
		if err := d.SetMetadata(t.Context(), dom.ID, want); err != nil {
			t.Fatal(err)
		}
		want.Attempt++
	}
	if err := d.SetAutostart(t.Context(), dom.ID, true); err != nil {
		t.Fatal(err)
	}
	got, ok, err := d.Lookup(t.Context(), dom.ID)
	if err != nil || !ok || !got.Autostart {
		t.Fatalf("%+v, %t, %v", got, ok, err)
	}
	if got.Metadata.Attempt != 3 || got.Metadata.Lease != "l" || got.Metadata.Mode != "auto" || !got.Metadata.MovedAt.Equal(want.MovedAt) ||
		len(got.Metadata.Moves) != 1 || len(got.Metadata.Affinity) != 1 || got.Metadata.Affinity[0] != "<db>" {
		t.Errorf("metadata read back as %+v", got.Metadata)
	}
}

func TestDestroyEndsAndUndefinesAndTellsSo(t *testing.T) {
	d, dom := testDriver(t)
	if err := d.Destroy(t.Context(), dom.ID); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := d.Lookup(t.Context(), dom.ID); ok || err != nil {
		t.Errorf("after destroy: here %t, %v", ok, err)
	}
	for name, err := range map[string]error{
		"destroy": d.Destroy(t.Context(), dom.ID), "resume": d.Resume(t.Context(), dom.ID),
		"autostart": d.SetAutostart(t.Context(), dom.ID, false), "abort": d.AbortJob(t.Context(), dom.ID),
		"metadata": d.SetMetadata(t.Context(), dom.ID, hypervisor.Metadata{}),
	} {
		if !errors.Is(err, hypervisor.ErrNoSuchDomain) {
			t.Errorf("%s of a domain that is gone: %v, want ErrNoSuchDomain", name, err)
		}
	}
	seen := map[hypervisor.EventKind]bool{}
	await(t, "the events of the end", 5*time.Second, func() bool {
		select {
		case ev := <-d.Events():
			if ev.ID != dom.ID || ev.Name != "test" || ev.At.IsZero() {
				t.Errorf("event %+v", ev)
			}
			seen[ev.Kind] = true
		default:
		}
		return seen[hypervisor.EventStopped] && seen[hypervisor.EventUndefined]
	})
}

func TestHostIsDescribed(t *testing.T) {
	d, dom := testDriver(t)
	info, err := d.HostInfo(t.Context())
	if err != nil || info.CPUs != 16 || info.MemoryMiB != 3072 || info.Version == "" {
		t.Errorf("host %+v, %v", info, err)
	}
	if _, err := d.Memory(t.Context()); err != nil {
		t.Errorf("memory of guests that tell nothing: %v", err)
	}
	if p, err := d.Progress(t.Context(), dom.ID); err != nil || p.Active {
		t.Errorf("progress without a job: %+v, %v", p, err)
	}
}

func TestClosedDriverAnswersAtOnce(t *testing.T) {
	d, dom := testDriver(t)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if ok, err := d.Connected(); ok || !errors.Is(err, hypervisor.ErrNotConnected) {
		t.Errorf("connected %t, %v", ok, err)
	}
	if _, err := d.Domains(t.Context()); !errors.Is(err, hypervisor.ErrNotConnected) {
		t.Errorf("list: %v", err)
	}
	if _, err := d.Migrate(t.Context(), hypervisor.MigrateRequest{ID: dom.ID}); !errors.Is(err, hypervisor.ErrNotConnected) {
		t.Errorf("migrate: %v", err)
	}
}

// TestAbsentDaemonIsNoError: an agent that starts before libvirtd must come up.
func TestAbsentDaemonIsNoError(t *testing.T) {
	d, err := hypervisor.Open(t.Context(), hypervisor.Options{URI: "qemu+unix:///system?socket=" + filepath.Join(t.TempDir(), "none")})
	if errors.Is(err, hypervisor.ErrLibvirtMissing) && !required("libvirt") {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	if ok, err := d.Connected(); ok || !errors.Is(err, hypervisor.ErrNotConnected) {
		t.Errorf("connected %t, %v, want ErrNotConnected", ok, err)
	} else if n := strings.Count(err.Error(), hypervisor.ErrNotConnected.Error()); n != 1 {
		t.Errorf("%q says it %d times", err, n)
	}
	if _, _, err := d.Lookup(t.Context(), "x"); !errors.Is(err, hypervisor.ErrNotConnected) {
		t.Errorf("look up: %v", err)
	}
}

const childMissing = "HEADROOM_TEST_LIBVIRT_MISSING"

// TestMissingLibraryIsSaid runs this test binary where libvirt.so.0 is an empty
// file: it must start, and Open must say what to install.
func TestMissingLibraryIsSaid(t *testing.T) {
	if os.Getenv(childMissing) != "" {
		_, err := hypervisor.Open(context.Background(), hypervisor.Options{})
		if !errors.Is(err, hypervisor.ErrLibvirtMissing) || !strings.Contains(err.Error(), "install") {
			t.Fatalf("without the library: %v, want ErrLibvirtMissing", err)
		}
		return
	}
	libs, err := filepath.Glob("/usr/lib*/*/libvirt.so.0")
	if more, _ := filepath.Glob("/usr/lib*/libvirt.so.0"); err == nil {
		libs = append(libs, more...)
	}
	hide := "true"
	for _, lib := range libs {
		hide += " && mount --bind /dev/null " + lib
	}
	if os.Geteuid() != 0 && len(libs) > 0 {
		if required("libvirt") {
			t.Fatal("HEADROOM_REQUIRE names libvirt: hiding the library needs root")
		}
		t.Skip("hiding the installed library needs root")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", hide+` && exec "$0" -test.run '^TestMissingLibraryIsSaid$'`, self)
	if len(libs) > 0 {
		cmd.Args = append([]string{"unshare", "-m"}, cmd.Args...)
		if cmd.Path, err = exec.LookPath("unshare"); err != nil {
			t.Skip(err)
		}
	}
	cmd.Env = append(os.Environ(), childMissing+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
