package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// LibvirtURI is the address of a host's libvirtd, inside the host.
const LibvirtURI = "qemu:///system"

// Host is one hypervisor of a lab.
type Host struct {
	lab  *Lab
	name string
	addr string
	dir  string // its folder in the lab's state
}

func newHost(l *Lab, i int) *Host {
	name := hostName(i)
	return &Host{lab: l, name: name, addr: address(l.state.Name, i), dir: filepath.Join(l.dir(), name)}
}

// Name is the host's name in the lab, and its node name.
func (h *Host) Name() string { return h.name }

// Addr is the host's IPv4 address, reached from the lab's other hosts only.
func (h *Host) Addr() string { return h.addr }

// MachineID is the host's /etc/machine-id: 32 hexadecimal digits.
func (h *Host) MachineID() string { return machineID(h.lab.state.Name, h.name) }

// URI is the address of the host's libvirtd for the other hosts.
func (h *Host) URI() string { return "qemu+tcp://" + h.addr + "/system" }

// Dir is a folder on disk for the data of the host's programs, the same inside
// and outside of the host. It lives until Down.
func (h *Host) Dir() string { return filepath.Join(dataRoot, h.lab.state.Name, h.name) }

// SystemCgroup is the folder of the cgroup of the host's own programs, and
// MachineCgroup that of its VMs, which holds the quota.
func (h *Host) SystemCgroup() string { return h.lab.cgroup.path(h.lab.state.Name, h.name, "system") }

// MachineCgroup is the folder of the cgroup of the host's VMs.
func (h *Host) MachineCgroup() string { return h.lab.cgroup.path(h.lab.state.Name, h.name, "machine") }

// SetQuota changes the CPU that the host's VMs may use together, in cores; 0
// lifts the bound.
func (h *Host) SetQuota(cores float64) error {
	return h.lab.cgroup.setQuota(cores, h.lab.state.Name, h.name, "machine")
}

// Command prepares a program that runs on the host: in its namespaces, in the
// cgroup of its own programs. The process that is started becomes the program,
// so that signals to it reach it. It begins in the folder /, so programs are
// named by absolute paths or found by PATH.
func (h *Host) Command(ctx context.Context, args ...string) *exec.Cmd {
	l := h.lab
	enter := []string{
		"--net=" + l.netPin(h.name), "--uts=" + l.utsPin(h.name), "--mount=" + l.mountPin(h.name),
		"--", "/bin/sh", "-c", `echo $$ > "$0" && exec "$@"`,
		filepath.Join(h.SystemCgroup(), "cgroup.procs"),
	}
	return exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
}

// Exec runs a program on the host and returns what it printed; its last words
// on standard error are in the error.
func (h *Host) Exec(ctx context.Context, args ...string) (string, error) {
	cmd := h.Command(ctx, args...)
	out, err := cmd.Output()
	if err == nil {
		return string(out), nil
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
	}
	return string(out), fmt.Errorf("%s on %s: %w", strings.Join(args, " "), h.name, err)
}

// build makes the host in the lab's claimed folder and starts its libvirtd.
func (h *Host) build(ctx context.Context) error {
	l := h.lab
	for _, part := range []string{"system", "machine", "boot"} {
		if err := l.cgroup.make(l.state.Name, h.name, part); err != nil {
			return err
		}
	}
	if err := h.SetQuota(l.state.Quota); err != nil {
		return err
	}
	if err := os.MkdirAll(h.Dir(), 0o755); err != nil {
		return err
	}
	if err := h.writeFiles(); err != nil {
		return err
	}
	if err := h.makeNamespaces(); err != nil {
		return err
	}
	if err := h.StartLibvirtd(ctx); err != nil {
		return err
	}
	// Have libvirtd learn what QEMU can do now, and not at the first VM.
	if _, err := h.Virsh(ctx, "domcapabilities", "--virttype", "qemu", "--emulatorbin", emulator); err != nil {
		return err
	}
	return copyFiles(h.Outside(hostCapabilities), capabilities)
}

// writeFiles fills the host's own folders.
func (h *Host) writeFiles() error {
	for _, sub := range []string{
		"etc-libvirt/hooks", "etc-libvirt/pki", "lib-libvirt", "cache-libvirt/qemu/capabilities", "log-libvirt/qemu",
		"run/lock", "run/headroom-lab", "log-libvirt/console",
	} {
		if err := os.MkdirAll(filepath.Join(h.dir, sub), 0o755); err != nil {
			return err
		}
	}
	files := map[string]string{
		"machine-id":                h.MachineID() + "\n",
		"hostname":                  h.name + "\n",
		"hosts":                     h.lab.hostsFile(),
		"etc-libvirt/libvirtd.conf": h.libvirtdConf(),
		"etc-libvirt/qemu.conf":     h.qemuConf(),
		"run/headroom-lab/machine":  filepath.Join(h.MachineCgroup(), "cgroup.procs") + "\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(h.dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return copyFiles(capabilities, h.Outside(hostCapabilities))
}

func (l *Lab) hostsFile() string {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n")
	for _, h := range l.hosts {
		fmt.Fprintf(&b, "%s %s\n", h.addr, h.name)
	}
	return b.String()
}
