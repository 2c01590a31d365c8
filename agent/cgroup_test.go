package agent

import (
	"os"
	"path/filepath"
	"testing"
)

func TestVMCgroupIsTheVMsOwn(t *testing.T) {
	const scope = `machine.slice/machine-qemu\x2d2\x2dweb.scope`
	for name, c := range map[string]struct{ text, dir, want string }{
		"v2":                     {"0::/" + scope + "/libvirt/emulator\n", scope + "/libvirt/emulator", scope},
		"v2 beside v1":           {"4:cpu,cpuacct:/\n0::/" + scope + "\n", "unified/" + scope, "unified/" + scope},
		"v1 of systemd":          {"1:name=systemd:/" + scope + "\n", "systemd/" + scope, "systemd/" + scope},
		"v1 without systemd":     {"3:cpu,cpuacct:/machine/qemu-1-web.libvirt-qemu/vcpu0\n", "cpu,cpuacct/machine/qemu-1-web.libvirt-qemu", "cpu,cpuacct/machine/qemu-1-web.libvirt-qemu"},
		"libvirtd's own":         {"0::/system.slice/libvirtd.service\n", "system.slice/libvirtd.service", ""},
		"not mounted here":       {"0::/" + scope + "\n", "other", ""},
		"lines not understood":   {"\n::\n0\n", "other", ""},
		"no such process at all": {"", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if c.text != "" {
				if err := os.MkdirAll(filepath.Join(root, "proc/42"), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(root, "proc/42/cgroup"), []byte(c.text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.MkdirAll(filepath.Join(root, "cg", c.dir), 0o755); err != nil {
				t.Fatal(err)
			}
			want := ""
			if c.want != "" {
				want = filepath.Join(root, "cg", c.want)
			}
			if got := vmCgroup(filepath.Join(root, "proc"), filepath.Join(root, "cg"), 42); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}
