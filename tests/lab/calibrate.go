package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"headroom/tests/lab/wire"
)

// calibration bounds: the CPU time measured, after some that is not.
const (
	calibrationSkip = 200 * time.Millisecond
	calibrationSpan = 1000 * time.Millisecond
)

// calibrate boots a guest without quota that spins, and divides its iterations
// by the CPU time of its process. Time on the wall plays no part, so that other
// load on the machine does not spoil the figure.
func (l *Lab) calibrate(ctx context.Context) (rate float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := l.cgroup.make(l.state.Name, "calibrate"); err != nil {
		return 0, err
	}
	args := append(baseMachine(DefaultMemory, 1),
		"-kernel", l.state.Image.Kernel, "-initrd", l.state.Image.Initrd, "-serial", "stdio",
		"-append", kernelLine(wire.Params{Calibrate: true}))
	script := append([]string{"-c", `echo $$ > "$0" && exec "$@"`,
		filepath.Join(l.cgroup.path(l.state.Name, "calibrate"), "cgroup.procs"), "qemu-system-x86_64"}, args...)
	cmd := exec.CommandContext(ctx, "/bin/sh", script...)
	console, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		cancel()
		cmd.Wait() // its error is that it was ended here
		err = errors.Join(err, l.cgroup.remove(5*time.Second, l.state.Name, "calibrate"))
	}()
	rate, err = measureRate(bufio.NewScanner(console), cmd.Process.Pid)
	if err != nil {
		return 0, fmt.Errorf("calibrate: %w", err)
	}
	return rate, nil
}

// measureRate follows a calibrating guest's console.
func measureRate(console *bufio.Scanner, pid int) (float64, error) {
	var used0 time.Duration
	var made0 uint64
	var first time.Duration
	for console.Scan() {
		made, err := wire.ParseCalibration(console.Text())
		if err != nil {
			continue
		}
		used, err := cpuTime(pid)
		if err != nil {
			return 0, err
		}
		switch {
		case first == 0:
			first = used
		case used0 == 0 && used >= first+calibrationSkip:
			used0, made0 = used, made
		case used0 > 0 && used >= used0+calibrationSpan:
			return float64(made-made0) / (used - used0).Seconds(), nil
		}
	}
	return 0, errors.New("the guest's console ended before it had counted long enough")
}
