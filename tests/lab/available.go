package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// programs are what a lab runs, with the Debian packages that bring them.
var programs = map[string]string{
	"libvirtd":           "libvirt-daemon-system",
	"virsh":              "libvirt-clients",
	"qemu-system-x86_64": "qemu-system-x86",
	"nsenter":            "util-linux",
	"iptables":           "iptables",
	"ss":                 "iproute2",
	"go":                 "golang, or https://go.dev/dl",
}

// Available tells what this machine lacks for a lab; nil means nothing.
func Available() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("the lab makes namespaces and cgroups: run it as root")
	}
	for name, pkg := range programs {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("the lab needs %s: install %s", name, pkg)
		}
	}
	for _, own := range ownTrees {
		if _, err := os.Stat(own[0]); err != nil {
			return fmt.Errorf("the lab gives each host its own %s, which this machine must have: %w", own[0], err)
		}
	}
	_, err := findHierarchy()
	return err
}

// sourceDir is this package's folder, where the guest's source lies too; or the
// one named by HEADROOM_LAB_SOURCE, where the checkout has moved.
func sourceDir() (string, error) {
	dir := os.Getenv("HEADROOM_LAB_SOURCE")
	if dir == "" {
		_, file, _, _ := runtime.Caller(0)
		dir = filepath.Dir(file)
	}
	if _, err := os.Stat(filepath.Join(dir, "guest", "main.go")); err != nil {
		return "", fmt.Errorf("the guest's source is not there: set HEADROOM_LAB_SOURCE to tests/lab of a checkout: %w", err)
	}
	return dir, nil
}
