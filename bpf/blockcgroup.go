package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxBlockCgroups limits the cgroups of one VM that block I/O is told by.
const maxBlockCgroups = 16

// cgroupMounts tells where block I/O is accounted: in the v1 hierarchy of the
// blkio controller if that is mounted, otherwise in v2.
type cgroupMounts struct {
	procRoot string
	v1, v2   string
}

func blockMounts(procRoot string) (cgroupMounts, error) {
	text, err := os.ReadFile(filepath.Join(procRoot, "self", "mountinfo"))
	if err != nil {
		return cgroupMounts{}, fmt.Errorf("find cgroups: %w", err)
	}
	m := parseMounts(string(text))
	m.procRoot = procRoot
	if m.v1 == "" && m.v2 == "" {
		return m, fmt.Errorf("%w: needs a mounted cgroup hierarchy with the io (v2) or blkio (v1) controller", ErrNotSupported)
	}
	return m, nil
}

// parseMounts reads /proc/PID/mountinfo: the fifth field is where, and after a
// lone dash come type, source and options.
func parseMounts(text string) (m cgroupMounts) {
	for line := range strings.Lines(text) {
		mount, kind, found := strings.Cut(line, " - ")
		where := strings.Fields(mount)
		what := strings.Fields(kind)
		if !found || len(where) < 5 || len(what) < 3 {
			continue
		}
		switch {
		case what[0] == "cgroup" && slices.Contains(strings.Split(what[2], ","), "blkio") && m.v1 == "":
			m.v1 = where[4]
		case what[0] == "cgroup2" && m.v2 == "":
			m.v2 = where[4]
		}
	}
	return m
}

// cgroups lists the ids of the cgroups in which a VM's block I/O is accounted.
func (m cgroupMounts) cgroups(t Target) ([]uint64, error) {
	if t.PID <= 0 {
		return nil, errors.New("the VM has no process")
	}
	text, err := os.ReadFile(filepath.Join(m.procRoot, strconv.Itoa(t.PID), "cgroup"))
	if err != nil {
		return nil, err
	}
	path := m.pathOf(string(text))
	// libvirt divides a VM's cgroup by the kind of thread.
	for filepath.Base(path) == "emulator" || filepath.Base(path) == "libvirt" {
		path = filepath.Dir(path)
	}
	if path == "" || path == "/" {
		return nil, errors.New("the VM has no cgroup of its own with the io (v2) or blkio (v1) controller: let libvirt make it")
	}
	return cgroupIDs(filepath.Join(m.mount(), path))
}

func (m cgroupMounts) mount() string {
	if m.v1 != "" {
		return m.v1
	}
	return m.v2
}

// pathOf finds the process's path in /proc/PID/cgroup, empty if there is none.
func (m cgroupMounts) pathOf(text string) string {
	for line := range strings.Lines(text) {
		part := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(part) != 3 {
			continue
		}
		v1 := slices.Contains(strings.Split(part[1], ","), "blkio")
		if m.v1 != "" && v1 || m.v1 == "" && part[0] == "0" {
			return part[2]
		}
	}
	return ""
}

// cgroupIDs lists the ids of a cgroup and those below it. The kernel's id of a
// cgroup is the inode number of its directory.
func cgroupIDs(dir string) (ids []uint64, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return err
		}
		if ids = append(ids, st.Ino); len(ids) == maxBlockCgroups {
			return filepath.SkipAll
		}
		return nil
	})
	return ids, err
}
