package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupParent is the folder of every lab in the cgroup hierarchy.
const cgroupParent = "headroom-lab"

// quotaPeriod is the kernel's default.
const quotaPeriod = 100 * time.Millisecond

// The labs' weight against the rest of the machine, which has the kernel's
// default (1024 in v1, 100 in v2): a lab plays machines, and they should be as
// fast as their quotas say while others compile.
const (
	sharesV1 = 64 * 1024
	weightV2 = 64 * 100
)

// hierarchy is the place of the cpu controller: the unified hierarchy where
// it has the controller, else the one of cgroup v1.
type hierarchy struct {
	mount string
	v2    bool
}

func findHierarchy() (hierarchy, error) {
	mounts, err := readMounts()
	if err != nil {
		return hierarchy{}, err
	}
	for _, m := range mounts {
		switch {
		case m.kind == "cgroup2":
			list, err := os.ReadFile(filepath.Join(m.point, "cgroup.controllers"))
			if err == nil && hasWord(string(list), " \n", "cpu") {
				return hierarchy{m.point, true}, nil
			}
		case m.kind == "cgroup" && hasWord(m.options, ",", "cpu"):
			return hierarchy{m.point, false}, nil
		}
	}
	return hierarchy{}, errors.New("no cgroup hierarchy with the cpu controller is mounted: mount cgroup2 on /sys/fs/cgroup")
}

func hasWord(list, separators, word string) bool {
	for _, w := range strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(separators, r) }) {
		if w == word {
			return true
		}
	}
	return false
}

// path of a cgroup below the labs' parent.
func (h hierarchy) path(parts ...string) string {
	return filepath.Join(append([]string{h.mount, cgroupParent}, parts...)...)
}

// make creates a cgroup and those above it; in v2 the cpu controller is handed
// down to it.
func (h hierarchy) make(parts ...string) error {
	dir := h.mount
	for _, part := range append([]string{cgroupParent}, parts...) {
		if h.v2 {
			err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+cpu"), 0)
			if err != nil {
				return fmt.Errorf("hand the cpu controller to %s/%s: %w", dir, part, err)
			}
		}
		dir = filepath.Join(dir, part)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	file, weight := "cpu.shares", sharesV1
	if h.v2 {
		file, weight = "cpu.weight", weightV2
	}
	return os.WriteFile(filepath.Join(h.path(), file), fmt.Append(nil, weight), 0)
}

// setQuota bounds a cgroup's CPU, in cores; 0 lifts the bound.
func (h hierarchy) setQuota(cores float64, parts ...string) error {
	period := quotaPeriod.Microseconds()
	quota := int64(cores * float64(period))
	if cores > 0 {
		quota = max(quota, 1000) // the kernel's least
	}
	dir := h.path(parts...)
	if h.v2 {
		text := fmt.Sprintf("%d %d", quota, period)
		if quota == 0 {
			text = fmt.Sprintf("max %d", period)
		}
		return os.WriteFile(filepath.Join(dir, "cpu.max"), []byte(text), 0)
	}
	if quota == 0 {
		quota = -1
	}
	if err := os.WriteFile(filepath.Join(dir, "cpu.cfs_period_us"), fmt.Append(nil, period), 0); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "cpu.cfs_quota_us"), fmt.Append(nil, quota), 0)
}

// pids lists the processes of a cgroup and all below it.
func (h hierarchy) pids(parts ...string) ([]int, error) {
	var pids []int
	err := filepath.WalkDir(h.path(parts...), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.Name() != "cgroup.procs" {
			return err
		}
		text, err := os.ReadFile(path)
		for _, w := range strings.Fields(string(text)) {
			if pid, e := strconv.Atoi(w); e == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		if errors.Is(err, unix.ENODEV) || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return pids, err
}

// has tells whether a process is in a cgroup or below it.
func (h hierarchy) has(pid int, parts ...string) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return false
	}
	want := "/" + filepath.Join(append([]string{cgroupParent}, parts...)...)
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 || h.v2 != (f[1] == "") || !h.v2 && !hasWord(f[1], ",", "cpu") {
			continue
		}
		if i := strings.Index(f[2], want); i >= 0 && (len(f[2]) == i+len(want) || f[2][i+len(want)] == '/') {
			return true
		}
	}
	return false
}

// kill ends one process if it is in the cgroup. The pidfd is taken before the
// check, so that a reused id is never hit.
func (h hierarchy) kill(pid int, parts ...string) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !h.has(pid, parts...) {
		return nil
	}
	err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// remove kills every process of a cgroup and removes it with all below it. It
// is no error when there is none.
func (h hierarchy) remove(limit time.Duration, parts ...string) error {
	for end := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		pids, err := h.pids(parts...)
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if err := h.kill(pid, parts...); err != nil {
				return fmt.Errorf("end process %d: %w", pid, err)
			}
		}
		err = removeTree(h.path(parts...))
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("cgroup %s still has processes %v: %w", h.path(parts...), pids, err)
		}
	}
}

// removeTree removes a cgroup's folders from the leaves up.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
