// Package image makes what the lab's guests boot, Debian's cloud kernel and an
// initramfs that holds the guest program and little else, and the one helper
// program of its hosts.
//
// All are kept under a cache folder, named by their contents, so that only
// the first lab of a machine pays for them. The kernel's package is fetched by
// apt and unpacked, never installed.
package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is the cache. It outlives labs on purpose.
const Dir = "/var/cache/headroom-lab"

const metaPackage = "linux-image-cloud-amd64"

// modules are loaded by the guest in this order.
var modules = []string{
	"virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev",
	"virtio_pci", "virtio_balloon",
}

// Image is the paths of the files that QEMU loads, and of the hosts' reaper.
type Image struct {
	Kernel string `json:"kernel"`
	Initrd string `json:"initrd"`
	Reaper string `json:"reaper"`
}

// Ensure finds the files in the cache or makes them. source is the folder
// tests/lab of the module. Concurrent callers wait for each other.
func Ensure(ctx context.Context, source string) (Image, error) {
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return Image{}, err
	}
	unlock, err := lock(filepath.Join(Dir, ".lock"))
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	// With the lock held, whatever is temporary was left by a crash.
	if stale, err := filepath.Glob(filepath.Join(Dir, "*.tmp")); err == nil {
		for _, path := range stale {
			os.RemoveAll(path)
		}
	}
	root, err := ensureKernel(ctx)
	if err != nil {
		return Image{}, fmt.Errorf("guest kernel: %w", err)
	}
	guest, err := build(ctx, filepath.Join(source, "guest"))
	if err != nil {
		return Image{}, err
	}
	archive, err := pack(guest, root)
	if err != nil {
		return Image{}, fmt.Errorf("guest initramfs: %w", err)
	}
	initrd, err := keep("initrd", archive, 0o644)
	if err != nil {
		return Image{}, err
	}
	program, err := build(ctx, filepath.Join(source, "reaper"))
	if err != nil {
		return Image{}, err
	}
	reaper, err := keep("reaper", program, 0o755)
	return Image{Kernel: filepath.Join(root, "vmlinuz"), Initrd: initrd, Reaper: reaper}, err
}

func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// ensureKernel returns the folder with vmlinuz and the modules.
func ensureKernel(ctx context.Context) (string, error) {
	root := filepath.Join(Dir, "kernel")
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	tmp, err := os.MkdirTemp(Dir, "kernel-*.tmp")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	name, err := kernelPackage(ctx)
	if err != nil {
		return "", err
	}
	if _, err := output(ctx, tmp, "apt-get", "-o", "APT::Sandbox::User=root", "download", name); err != nil {
		return "", err
	}
	debs, _ := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if len(debs) != 1 {
		return "", fmt.Errorf("apt-get download %s left %d packages, want 1", name, len(debs))
	}
	if _, err := output(ctx, tmp, "dpkg-deb", "-x", debs[0], "x"); err != nil {
		return "", err
	}
	if err := pick(filepath.Join(tmp, "x"), filepath.Join(tmp, "kernel")); err != nil {
		return "", err
	}
	return root, os.Rename(filepath.Join(tmp, "kernel"), root)
}

// kernelPackage asks apt which package the meta package stands for, after an
// update where the lists are missing.
func kernelPackage(ctx context.Context) (string, error) {
	for _, update := range []bool{false, true} {
		if update {
			if _, err := output(ctx, "/", "apt-get", "update"); err != nil {
				return "", err
			}
		}
		text, err := output(ctx, "/", "apt-cache", "depends", metaPackage)
		if err != nil && update {
			return "", err
		}
		for line := range strings.Lines(text) {
			if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: "); ok && strings.HasPrefix(name, "linux-image-") {
				return name, nil
			}
		}
	}
	return "", fmt.Errorf("apt knows no package %s: check /etc/apt/sources.list", metaPackage)
}

// pick copies vmlinuz and the few modules out of an unpacked package.
func pick(from, to string) error {
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	wanted := map[string]string{"boot/vmlinuz-*": "vmlinuz"}
	for i, m := range modules {
		wanted["lib/modules/*/kernel/drivers/virtio/"+m+".ko"] = fmt.Sprintf("%02d-%s.ko", i, m)
	}
	for pattern, name := range wanted {
		found, _ := filepath.Glob(filepath.Join(from, pattern))
		if len(found) != 1 {
			return fmt.Errorf("the kernel's package has %d files %s, want 1", len(found), pattern)
		}
		if err := os.Rename(found[0], filepath.Join(to, name)); err != nil {
			return err
		}
	}
	return nil
}

// build makes a static program; Go's own build cache makes that cheap.
func build(ctx context.Context, source string) ([]byte, error) {
	tmp, err := os.MkdirTemp(Dir, "build-*.tmp")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	bin := filepath.Join(tmp, "bin")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, ".")
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64", "GOOS=linux", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build %s: %w: %s", source, err, bytes.TrimSpace(out))
	}
	return os.ReadFile(bin)
}

// keep puts contents into the cache under a name that they determine, and
// removes those of a month ago.
func keep(kind string, data []byte, mode os.FileMode) (string, error) {
	sum := sha256.Sum256(data)
	path := filepath.Join(Dir, kind+"-"+hex.EncodeToString(sum[:8]))
	now := time.Now()
	if os.Chtimes(path, now, now) == nil {
		return path, nil
	}
	old, err := filepath.Glob(filepath.Join(Dir, kind+"-*"))
	if err != nil {
		return "", err
	}
	for _, f := range old {
		if info, err := os.Stat(f); err == nil && now.Sub(info.ModTime()) > 30*24*time.Hour {
			os.Remove(f)
		}
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, mode); err != nil {
		return "", err
	}
	return path, os.Rename(tmp, path)
}

// pack is the archive: init, its console, and the modules.
func pack(init []byte, kernel string) ([]byte, error) {
	var buf bytes.Buffer
	c := &cpioWriter{w: &buf}
	for _, dir := range []string{"dev", "proc", "modules"} {
		c.entry(dir, typeDir|0o755, [2]int{}, nil)
	}
	c.entry("dev/console", typeChar|0o600, [2]int{5, 1}, nil)
	files, err := filepath.Glob(filepath.Join(kernel, "*.ko"))
	if err != nil {
		return nil, err
	}
	sort.Strings(files)
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		c.entry("modules/"+filepath.Base(f), typeFile|0o644, [2]int{}, data)
	}
	c.entry("init", typeFile|0o755, [2]int{}, init)
	err = c.close()
	return buf.Bytes(), err
}

// output runs a program and returns what it printed, and its last words in
// the error.
func output(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.Output()
	if err != nil {
		var words []byte
		if e, ok := err.(*exec.ExitError); ok {
			words = bytes.TrimSpace(e.Stderr)
		}
		return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, words)
	}
	return string(out), nil
}
