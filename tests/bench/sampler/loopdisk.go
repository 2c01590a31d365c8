package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const blockSize = 4096

// lostDisk is a loop device whose file was taken away: requests go the whole way
// through the block layer and are completed, as failed, in the thread that made
// them. So a request takes 3 us and no other thread's time, where those that
// succeed take 7 to 9 us of two CPUs with a noise of 0.7 us, which hides any hook.
type lostDisk struct{ fd int }

func openLostDisk() (d lostDisk, err error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return d, err
	}
	defer control.Close()
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return d, fmt.Errorf("a free loop device: %w", err)
	}
	name := fmt.Sprintf("/dev/loop%d", n)
	if d.fd, err = unix.Open(name, unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0); err != nil {
		return d, fmt.Errorf("open %s: %w", name, err)
	}
	file, err := os.CreateTemp("/dev/shm", "headroom-bench-")
	if err != nil {
		return d, errors.Join(err, d.close())
	}
	defer file.Close()
	err = errors.Join(os.Remove(file.Name()), file.Truncate(1<<20))
	if err == nil {
		err = unix.IoctlLoopConfigure(d.fd, &unix.LoopConfig{Fd: uint32(file.Fd()), Size: blockSize})
	}
	if err == nil {
		// The device keeps its size until the last who has it open goes.
		err = unix.IoctlSetInt(d.fd, unix.LOOP_CLR_FD, 0)
	}
	if err != nil {
		return d, errors.Join(fmt.Errorf("make %s: %w", name, err), d.close())
	}
	return d, nil
}

func (d lostDisk) close() error { return unix.Close(d.fd) }

// failedBatch is so short that few batches hold one of the lines in which the
// kernel tells now and then that a request failed.
const failedBatch = 1000

// readFailing makes n requests and returns the CPU time of one: the median of
// its batches.
func readFailing(n int) (time.Duration, error) {
	d, err := openLostDisk()
	if err != nil {
		return 0, err
	}
	defer d.close()
	block, err := unix.Mmap(-1, 0, blockSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Munmap(block) }()
	var batches []time.Duration
	for range n / failedBatch {
		start := clock(unix.CLOCK_PROCESS_CPUTIME_ID)
		for range failedBatch {
			if _, err := unix.Pread(d.fd, block, 0); err != unix.EIO {
				return 0, fmt.Errorf("a request that should fail: %v", err)
			}
		}
		batches = append(batches, clock(unix.CLOCK_PROCESS_CPUTIME_ID)-start)
	}
	slices.Sort(batches)
	return batches[len(batches)/2] / failedBatch, nil
}
