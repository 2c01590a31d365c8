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

// guestSource is the folder of the guest's program: beside this file, or named
// by HEADROOM_LAB_GUEST where the source lies elsewhere.
func guestSource() (string, error) {
	dir := os.Getenv("HEADROOM_LAB_GUEST")
	if dir == "" {
		_, file, _, _ := runtime.Caller(0)
		dir = filepath.Join(filepath.Dir(file), "guest")
	}
	if _, err := os.Stat(filepath.Join(dir, "main.go")); err != nil {
		return "", fmt.Errorf("the guest's source is not there: set HEADROOM_LAB_GUEST to tests/lab/guest of a checkout: %w", err)
	}
	return dir, nil
}
