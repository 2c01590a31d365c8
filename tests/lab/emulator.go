package lab

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"headroom/tests/lab/image"
)

// emulator is what every domain names as its emulator, on every host: one
// script that moves itself to its host's cgroup for VMs and becomes QEMU.
//
// It is one file for all hosts and labs because libvirt asks a new emulator
// for its capabilities, which takes seconds, and remembers the answer by the
// file's path and change time. The lab hands the answer from host to host.
const (
	emulator       = image.Dir + "/qemu"
	emulatorScript = "#!/bin/sh\nread -r procs < " + machineFile + " && echo $$ > \"$procs\" || exit 1\nexec qemu-system-x86_64 \"$@\"\n"
)

// machineFile, inside a host, names the file that takes a process into the
// cgroup of the host's VMs.
const machineFile = "/run/headroom-lab/machine"

// capabilities is where the answers are kept; hostCapabilities where a host's
// libvirtd looks for them.
const (
	capabilities     = image.Dir + "/capabilities"
	hostCapabilities = "/var/cache/libvirt/qemu/capabilities"
)

// ensureEmulator writes the script unless it is there as it should be, and
// newer than QEMU: an upgrade must be asked anew.
func ensureEmulator() error {
	if err := os.MkdirAll(capabilities, 0o755); err != nil {
		return err
	}
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return err
	}
	binary, err := os.Stat(qemu)
	if err != nil {
		return err
	}
	have, err := os.ReadFile(emulator)
	if err == nil && string(have) == emulatorScript {
		if info, err := os.Stat(emulator); err == nil && info.ModTime().After(binary.ModTime()) {
			return nil
		}
	}
	return replaceFile(emulator, []byte(emulatorScript), 0o755)
}

// copyFiles copies the plain files of a folder that the other lacks or has in
// another size or with older contents.
func copyFiles(from, to string) error {
	entries, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || filepath.Ext(e.Name()) != ".xml" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			return err
		}
		target := filepath.Join(to, e.Name())
		if have, err := os.ReadFile(target); err == nil && string(have) == string(data) {
			continue
		}
		if err := replaceFile(target, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// replaceFile writes a file in one step, so that no reader sees half of it.
func replaceFile(path string, data []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Chmod(mode), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
