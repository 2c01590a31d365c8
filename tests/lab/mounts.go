package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mountPoint is one line of /proc/self/mountinfo.
type mountPoint struct {
	point   string
	kind    string // file system type
	options string // of the super block
}

// readMounts lists the calling thread's mounts, in the order of mounting.
func readMounts() ([]mountPoint, error) {
	text, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, err
	}
	var out []mountPoint
	for line := range strings.Lines(string(text)) {
		left, right, ok := strings.Cut(strings.TrimSpace(line), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 6 || len(r) < 3 {
			return nil, fmt.Errorf("/proc/self/mountinfo: line not understood: %q", line)
		}
		out = append(out, mountPoint{unescape(l[4]), r[0], r[2]})
	}
	return out, nil
}

// unescape undoes the kernel's octal escapes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// detachUnder unmounts everything at or below a folder, the latest first.
func detachUnder(dir string) error {
	mounts, err := readMounts()
	if err != nil {
		return err
	}
	for i := len(mounts) - 1; i >= 0; i-- {
		p := mounts[i].point
		if p != dir && !strings.HasPrefix(p, dir+"/") {
			continue
		}
		err := unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmount %s: %w", p, err)
		}
	}
	return nil
}

// pinFile mounts a namespace's file on an empty file, which keeps the
// namespace alive until that is unmounted.
func pinFile(source, target string) error {
	f, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("pin %s on %s: %w", source, target, err)
	}
	return nil
}

// privateMount makes a folder a mount of its own that shares nothing with
// other mount namespaces: the kernel wants that of a place of pins.
func privateMount(dir string) error {
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", dir, err)
	}
	return unix.Mount("", dir, "", unix.MS_PRIVATE, "")
}

// overlay is a set of trees to be put over others. All are opened before any
// is attached, so that one may hide the source of the next.
type overlay struct {
	fds     []int
	targets []string
}

func (o *overlay) add(source, target string, recursive bool) error {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, source, flags)
	if err != nil {
		return fmt.Errorf("open the mount tree %s: %w", source, err)
	}
	o.fds, o.targets = append(o.fds, fd), append(o.targets, target)
	return nil
}

func (o *overlay) attach() error {
	for i, fd := range o.fds {
		err := unix.MoveMount(fd, "", unix.AT_FDCWD, o.targets[i], unix.MOVE_MOUNT_F_EMPTY_PATH)
		if err != nil {
			return fmt.Errorf("mount over %s: %w", o.targets[i], err)
		}
	}
	return nil
}

func (o *overlay) close() {
	for _, fd := range o.fds {
		unix.Close(fd)
	}
}

// sysMounts lists the mounts directly below /sys: what a fresh sysfs needs
// again.
func sysMounts() ([]string, error) {
	mounts, err := readMounts()
	if err != nil {
		return nil, err
	}
	var tops []string
next:
	for _, m := range mounts {
		if !strings.HasPrefix(m.point, "/sys/") {
			continue
		}
		for _, top := range tops {
			if m.point == top || strings.HasPrefix(m.point, filepath.Clean(top)+"/") {
				continue next
			}
		}
		tops = append(tops, m.point)
	}
	return tops, nil
}
