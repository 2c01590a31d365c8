// Package image makes what the lab's guests boot: Debian's cloud kernel, and
// an initramfs that holds the guest program and nothing else.
//
// Both are kept under a cache folder, named by their contents, so that only
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

// Image is the pair of files that QEMU loads.
type Image struct {
	Kernel string // path of vmlinuz
	Initrd string // path of the initramfs
}

// Ensure finds the image in the cache or makes it. source is the folder of the
// guest program inside the module. Concurrent callers wait for each other.
func Ensure(ctx context.Context, source string) (Image, error) {
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return Image{}, err
	}
	unlock, err := lock(filepath.Join(Dir, ".lock"))
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	root, err := ensureKernel(ctx)
	if err != nil {
		return Image{}, fmt.Errorf("guest kernel: %w", err)
	}
	initrd, err := ensureInitrd(ctx, root, source)
	if err != nil {
		return Image{}, fmt.Errorf("guest initramfs: %w", err)
	}
	return Image{Kernel: filepath.Join(root, "vmlinuz"), Initrd: initrd}, nil
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

// ensureInitrd builds the guest (Go's own build cache makes that cheap) and
// packs it.
func ensureInitrd(ctx context.Context, kernel, source string) (string, error) {
	tmp, err := os.MkdirTemp(Dir, "guest-*.tmp")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	bin := filepath.Join(tmp, "init")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, ".")
	build.Dir = source
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64", "GOOS=linux", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w: %s", source, err, bytes.TrimSpace(out))
	}
	archive, err := pack(bin, kernel)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(archive)
	path := filepath.Join(Dir, "initrd-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.WriteFile(filepath.Join(tmp, "initrd"), archive, 0o644); err != nil {
		return "", err
	}
	return path, os.Rename(filepath.Join(tmp, "initrd"), path)
}

// pack is the archive: init, its console, and the modules.
func pack(init, kernel string) ([]byte, error) {
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
	data, err := os.ReadFile(init)
	if err != nil {
		return nil, err
	}
	c.entry("init", typeFile|0o755, [2]int{}, data)
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
