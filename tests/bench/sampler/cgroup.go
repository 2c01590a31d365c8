package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// limit puts a helper under a CPU quota, in percent of a CPU.
func limit(h *helper, percent int) (leave func(), err error) {
	if unified() {
		return enter(h, "cpu", map[string]string{"cpu.max": strconv.Itoa(percent*1000) + " 100000"})
	}
	return enter(h, "cpu", map[string]string{
		"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": strconv.Itoa(percent * 1000)})
}

// unified tells whether the machine has cgroup v2 alone.
func unified() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// enter puts a helper into a cgroup of its own. leave moves it out and removes
// the cgroup.
func enter(h *helper, controller string, settings map[string]string) (leave func(), err error) {
	root := "/sys/fs/cgroup"
	if !unified() {
		root = filepath.Join(root, controller)
	}
	dir := filepath.Join(root, fmt.Sprintf("headroom-bench-%d", h.pid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cgroup with the controller %s: %w", controller, err)
	}
	pid := []byte(strconv.Itoa(h.pid()))
	leave = func() {
		_ = os.WriteFile(filepath.Join(root, "cgroup.procs"), pid, 0)
		if err := os.Remove(dir); err != nil {
			fmt.Fprintln(os.Stderr, "cgroup is left behind:", err)
		}
	}
	for file, text := range settings {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, file), []byte(text), 0))
	}
	if err = errors.Join(err, os.WriteFile(filepath.Join(dir, "cgroup.procs"), pid, 0)); err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}
