package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// MigrationCerts is where a host's QEMUs look for the certificates of encrypted
// migration. The lab puts none there.
const MigrationCerts = "/etc/libvirt/pki"

const libvirtdPid = "/run/libvirtd.pid"

// libvirtdConf opens libvirtd to the lab's other hosts, by plain TCP: the
// network ends at the lab's switch.
func (h *Host) libvirtdConf() string {
	return fmt.Sprintf(`listen_tls = 0
listen_tcp = 1
listen_addr = "%s"
auth_tcp = "none"
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
host_uuid = "%s"
log_level = 3
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
`, h.addr, uuid(digest("host", h.lab.state.Name, h.name)))
}

// qemuConf keeps libvirt from whatever the lab does itself or cannot have.
func (h *Host) qemuConf() string {
	return fmt.Sprintf(`user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
dynamic_ownership = 0
stdio_handler = "file"
migration_address = "%s"
migration_host = "%s"
migrate_tls_x509_cert_dir = "%s"
`, h.addr, h.addr, MigrationCerts)
}

// StartLibvirtd starts the host's libvirtd and returns when it answers. It is
// no error when it runs already.
func (h *Host) StartLibvirtd(ctx context.Context) error {
	if pid, err := h.LibvirtdPID(); err == nil && pid > 0 {
		return nil
	}
	// It goes to the background by itself, when it is ready.
	if _, err := h.Exec(ctx, h.lab.state.Image.Reaper, "libvirtd", "--listen", "--daemon", "--pid-file", libvirtdPid); err != nil {
		return fmt.Errorf("%w: see %s", err, h.Outside("/var/log/libvirt/libvirtd.log"))
	}
	_, err := h.Virsh(ctx, "list")
	return err
}

// Virsh runs virsh on the host.
func (h *Host) Virsh(ctx context.Context, args ...string) (string, error) {
	return h.Exec(ctx, append([]string{"virsh", "-q", "-c", LibvirtURI}, args...)...)
}

// LibvirtdPID is the process of the host's libvirtd; 0 when none runs.
func (h *Host) LibvirtdPID() (int, error) { return h.livePID(libvirtdPid) }

// livePID reads a pid file of the host; 0 when its process is gone or is no
// process of the host.
func (h *Host) livePID(path string) (int, error) {
	text, err := os.ReadFile(h.Outside(path))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	if !h.lab.cgroup.has(pid, h.lab.state.Name, h.name) || zombie(pid) {
		return 0, nil
	}
	return pid, nil
}

// killWait kills a process of the host and waits until it is gone.
func (h *Host) killWait(ctx context.Context, pid int) error {
	for {
		if !h.lab.cgroup.has(pid, h.lab.state.Name, h.name) || zombie(pid) {
			return nil
		}
		if err := h.lab.cgroup.kill(pid, h.lab.state.Name, h.name); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// zombie tells whether a process has ended and only waits to be collected.
func zombie(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(text), ") ")
	return strings.HasPrefix(after, "Z") || strings.HasPrefix(after, "X")
}
