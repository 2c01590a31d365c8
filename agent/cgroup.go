package agent

import (
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// vmCgroup is the directory of the cgroup that a VM has to itself, in which its
// helper processes (virtiofsd, swtpm, vhost threads of older kernels) are too. It
// is empty where libvirt makes none: another's cgroup must not count for the VM.
func vmCgroup(procRoot, cgroupRoot string, pid int) string {
	text, err := os.ReadFile(filepath.Join(procRoot, strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return "" // the VM is gone, and its sample says so
	}
	for line := range strings.Lines(string(text)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 {
			continue
		}
		own := ownCgroup(part[2])
		if own == "" {
			continue
		}
		for _, mount := range []string{strings.TrimPrefix(part[1], "name="), "unified"} {
			dir := filepath.Join(cgroupRoot, mount, own)
			if st, err := os.Stat(dir); err == nil && st.IsDir() {
				return dir
			}
		}
	}
	return ""
}

// ownCgroup cuts a process's cgroup path behind the part that libvirt names after
// the VM: a scope of systemd-machined, or a directory of its own.
func ownCgroup(p string) string {
	for p = path.Clean("/" + p); p != "/"; p = path.Dir(p) {
		name := path.Base(p)
		if strings.HasPrefix(name, "machine-qemu") && strings.HasSuffix(name, ".scope") || strings.HasSuffix(name, ".libvirt-qemu") {
			return p
		}
	}
	return ""
}
