package hypervisor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestHandedOver: only the last process's own word counts.
func TestHandedOver(t *testing.T) {
	const (
		start    = "2026-11-23 10:08:09.791+0000: starting up libvirt version: 9.0.0, package: 9.0.0-4\nLC_ALL=C \\\n/usr/bin/qemu \\\n"
		migrated = "2026-11-23 10:09:37.625+0000: initiating migration\n2026-11-23 10:09:40.612+0000: shutting down, reason=migrated\n" +
			"2026-11-23T10:09:40.612784Z qemu-system-x86_64: terminating on signal 15 from pid 27830 (libvirtd)\n"
		unknown = "2026-11-23 10:09:41.621+0000: shutting down, reason=unknown\n"
		crashed = "2026-11-23 10:09:41.621+0000: shutting down, reason=crashed\n"
	)
	noise := strings.Repeat("warning: something\n", maxLogTail/10)
	for name, c := range map[string]struct {
		text string
		want bool
	}{
		"handed over":                       {start + migrated, true},
		"and libvirtd died before the end":  {start + migrated + unknown, true},
		"a crash":                           {start + crashed, false},
		"a failed migration, then a crash":  {start + "initiating migration\n" + crashed, false},
		"handed over, came back, crashed":   {start + migrated + start + crashed, false},
		"after much noise":                  {start + noise + migrated + unknown, true},
		"long ago, with noise since, crash": {start + migrated + start + noise + crashed, false},
		"nothing":                           {"", false},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "web.log"), []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := handedOver(dir, "web"); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	for _, name := range []string{"absent", "../web", "a/b", ""} {
		if handedOver(t.TempDir(), name) {
			t.Errorf("%q: a log that is not there proves something", name)
		}
	}
}

func TestCheckLogs(t *testing.T) {
	dir := t.TempDir()
	if err := CheckLogs(filepath.Join(dir, "none")); err != nil {
		t.Errorf("no libvirt: %v", err)
	}
	if err := CheckLogs(dir); err != nil {
		t.Errorf("no VM yet: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.log"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CheckLogs(dir); err != nil {
		t.Errorf("a log: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "a.log")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "a.log"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := CheckLogs(dir); err == nil {
		t.Error("what cannot be read is no trouble")
	}
}
