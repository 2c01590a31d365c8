package hypervisor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// hold locks a byte of a file as another program would, until the test ends.
func hold(t *testing.T, path string, typ int16, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: typ, Start: at, Len: 1}); err != nil {
		t.Fatal(err)
	}
}

func image(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLockIsProvenByTheLockItself: what a running QEMU or virtlockd holds is a proof;
// what a reader holds, or nothing, is none.
func TestLockIsProvenByTheLockItself(t *testing.T) {
	for name, c := range map[string]struct {
		lock func(path string)
		want string // "" for proven
	}{
		"QEMU writes":               {func(p string) { hold(t, p, unix.F_RDLCK, qemuUnsharedWrite) }, ""},
		"virtlockd":                 {func(p string) { hold(t, p, unix.F_WRLCK, virtlockdByte) }, ""},
		"QEMU shares its writing":   {func(p string) { hold(t, p, unix.F_RDLCK, 100+1) }, "nothing locks it"},
		"nobody":                    {func(string) {}, "nothing locks it"},
		"the image cannot be found": {func(p string) { os.Remove(p) }, "cannot be looked at"},
	} {
		path := image(t)
		c.lock(path)
		err := refusesWriter(path)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestLockGuardsTheWholeVM: one disk that is not locked, or none at all, is no guard.
func TestLockGuardsTheWholeVM(t *testing.T) {
	locked, open := image(t), image(t)
	hold(t, locked, unix.F_RDLCK, qemuUnsharedWrite)
	d := &Libvirt{}
	for name, c := range map[string]struct {
		disks []Disk
		want  string
	}{
		"one locked":          {[]Disk{{Target: "vda", Source: locked, Shared: true}}, ""},
		"a CD beside":         {[]Disk{{Target: "vda", Source: locked, Shared: true}, {Target: "sda", Source: open, ReadOnly: true}}, ""},
		"an empty drive":      {[]Disk{{Target: "vda", Source: locked, Shared: true}, {Target: "sda"}}, ""},
		"one is open":         {[]Disk{{Target: "vda", Source: locked, Shared: true}, {Target: "vdb", Source: open, Shared: true}}, "disk vdb: nothing locks it"},
		"a block device":      {[]Disk{{Target: "vda", Source: "/dev/sdb", Shared: true}}, "no image file"},
		"a network disk":      {[]Disk{{Target: "vda", Source: "rbd/vm", Shared: true}}, "no image file"},
		"not on shared disks": {[]Disk{{Target: "vda", Source: locked}}, "not on shared storage"},
		"no disk":             {nil, "no disk"},
		"only a CD":           {[]Disk{{Target: "sda", Source: locked, ReadOnly: true}}, "no disk"},
	} {
		dom := Domain{Disks: c.disks}
		d.judgeLock(&dom)
		if dom.Locked != (c.want == "") || !strings.Contains(dom.LockWhy, c.want) {
			t.Errorf("%s: locked %v, %q; want %q", name, dom.Locked, dom.LockWhy, c.want)
		}
	}
}

// TestLocksMustTravel: a mount that keeps locks on the host guards nothing.
func TestLocksMustTravel(t *testing.T) {
	table := filepath.Join(t.TempDir(), "mountinfo")
	text := "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n" +
		"40 22 0:40 / /srv/a rw - nfs4 nas:/a rw,vers=4.2,local_lock=none\n" +
		"41 22 0:41 / /srv/b rw - nfs nas:/b rw,vers=3,nolock,local_lock=all\n" +
		"42 41 0:42 / /srv/b/c rw - nfs nas:/c rw,vers=3,local_lock=none\n"
	if err := os.WriteFile(table, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, kind := range map[string]string{"/x": "ext4", "/srv/a": "nfs4", "/srv/b/c/d/e": "nfs", "/srv/bb": "ext4"} {
		if m, err := mountOf(path, table); err != nil || m.FSType != kind {
			t.Errorf("%s is on %+v, %v: want %s", path, m, err, kind)
		}
	}
	for path, ok := range map[string]bool{"/srv/a/x": true, "/srv/b/x": false, "/srv/b/c/x": true, "/srv/bb": true, "/x": true} {
		if err := locksTravel(path, table); (err == nil) != ok {
			t.Errorf("%s: %v", path, err)
		}
	}
	if locksTravel("/x", filepath.Join(t.TempDir(), "none")) == nil {
		t.Error("an unknown mount table proves something")
	}
}
