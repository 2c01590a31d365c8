package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// errNoController says why a limit could not be looked for.
var errNoController = errors.New("no cgroup hierarchy with this controller is mounted")

// hierarchy returns the directory where a controller's cgroups hang, and whether it
// is cgroup v1. In a hybrid layout a controller lives in v1 or in v2, never in both.
func (r *Reader) hierarchy(controller string) (root string, v1 bool, err error) {
	base := filepath.Join(r.sys, "fs/cgroup")
	if exists(filepath.Join(base, "cgroup.controllers")) {
		return base, false, nil
	}
	// Distributions mount cpu alone, or with cpuacct under either name.
	names := []string{controller}
	if controller == "cpu" {
		names = append(names, "cpu,cpuacct", "cpuacct,cpu")
	}
	for _, n := range names {
		if dir := filepath.Join(base, n); exists(dir) {
			return dir, true, nil
		}
	}
	if dir := filepath.Join(base, "unified"); exists(filepath.Join(dir, "cgroup.controllers")) {
		return dir, false, nil
	}
	return "", false, errNoController
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// tightest visits the VM cgroup and each of its ancestors and returns the smallest
// limit that read finds. A cgroup that does not exist sets none: systemd makes
// machine.slice when the first VM starts. The root has no limit files in v2.
func (r *Reader) tightest(root string, read func(dir string) (float64, bool, error)) (at string, limit float64, err error) {
	for cg := path.Clean("/" + r.cgroup); ; cg = path.Dir(cg) {
		v, ok, readErr := read(filepath.Join(root, cg))
		switch {
		case readErr != nil && !errors.Is(readErr, fs.ErrNotExist):
			err = errors.Join(err, fmt.Errorf("cgroup %s: %w", cg, readErr))
		case readErr == nil && ok && (at == "" || v < limit):
			at, limit = cg, v
		}
		if cg == "/" {
			return at, limit, err
		}
	}
}

// cpuQuota returns the tightest CPU quota in cores, 0 when there is none.
func (r *Reader) cpuQuota() (at string, cores float64, err error) {
	root, v1, err := r.hierarchy("cpu")
	if err != nil {
		return "", 0, err
	}
	return r.tightest(root, func(dir string) (float64, bool, error) {
		if !v1 {
			b, err := readFile(filepath.Join(dir, "cpu.max"))
			if err != nil {
				return 0, false, err
			}
			return parseCPUMax(b)
		}
		q, err := readFile(filepath.Join(dir, "cpu.cfs_quota_us"))
		if err != nil {
			return 0, false, err
		}
		p, err := readFile(filepath.Join(dir, "cpu.cfs_period_us"))
		if err != nil {
			return 0, false, err
		}
		return quota(string(q), string(p))
	})
}

// cpuset returns the number of CPUs that the VM cgroup, or its nearest ancestor
// that exists, may run on; 0 when no cpuset says anything.
func (r *Reader) cpuset() (at string, cpus int, err error) {
	root, v1, err := r.hierarchy("cpuset")
	if err != nil {
		return "", 0, err
	}
	file := "cpuset.cpus.effective"
	if v1 {
		file = "cpuset.effective_cpus"
	}
	for cg := path.Clean("/" + r.cgroup); ; cg = path.Dir(cg) {
		b, err := readFile(filepath.Join(root, cg, file))
		if err == nil {
			n, err := parseCPUList(b)
			return cg, n, err
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", 0, fmt.Errorf("cgroup %s: %w", cg, err)
		}
		if cg == "/" {
			return "", 0, nil
		}
	}
}

// memoryLimit returns the tightest memory limit in MiB, 0 when there is none.
func (r *Reader) memoryLimit() (at string, limitMiB float64, err error) {
	root, v1, err := r.hierarchy("memory")
	if err != nil {
		return "", 0, err
	}
	file := "memory.max"
	if v1 {
		file = "memory.limit_in_bytes"
	}
	return r.tightest(root, func(dir string) (float64, bool, error) {
		b, err := readFile(filepath.Join(dir, file))
		if err != nil {
			return 0, false, err
		}
		return parseLimit(b)
	})
}
