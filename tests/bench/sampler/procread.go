package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// What the two readers of /proc read: each process's stat and io, and the
// schedstat of each of its threads, which is what gives run-queue wait. They
// only read the bytes and find one number in each file; a real monitor parses
// more and keeps books, so the ratios flatter /proc.

// readByName opens, reads and closes every file in each pass.
func readByName(pids []int) error {
	for _, pid := range pids {
		dir := "/proc/" + strconv.Itoa(pid)
		for _, file := range []string{dir + "/stat", dir + "/io"} {
			if err := readWhole(file); err != nil {
				return err
			}
		}
		threads, err := os.ReadDir(dir + "/task")
		if err != nil {
			return err
		}
		for _, t := range threads {
			if err := readWhole(filepath.Join(dir, "task", t.Name(), "schedstat")); err != nil {
				return err
			}
		}
	}
	return nil
}

func readWhole(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if _, ok := firstNumber(text); !ok {
		return fmt.Errorf("no number in %s", file)
	}
	return nil
}

// firstNumber parses the first run of digits.
func firstNumber(text []byte) (n uint64, ok bool) {
	for _, c := range text {
		switch {
		case c >= '0' && c <= '9':
			n, ok = 10*n+uint64(c-'0'), true
		case ok:
			return n, true
		}
	}
	return n, ok
}

// keptOpen reads the same files through descriptors opened once.
type keptOpen struct {
	fds []int
	buf [1024]byte
}

func openKept(pids []int) (*keptOpen, error) {
	k := &keptOpen{}
	for _, pid := range pids {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err != nil {
			return nil, err
		}
		for _, file := range append(files, fmt.Sprintf("/proc/%d/stat", pid), fmt.Sprintf("/proc/%d/io", pid)) {
			fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return nil, fmt.Errorf("open %s: %w", file, err)
			}
			k.fds = append(k.fds, fd)
		}
	}
	return k, nil
}

func (k *keptOpen) pass() error {
	for _, fd := range k.fds {
		n, err := unix.Pread(fd, k.buf[:], 0)
		if err != nil {
			return fmt.Errorf("read /proc: %w", err)
		}
		if _, ok := firstNumber(k.buf[:n]); !ok {
			return fmt.Errorf("no number in a file of /proc")
		}
	}
	return nil
}

func (k *keptOpen) close() {
	for _, fd := range k.fds {
		_ = unix.Close(fd)
	}
}
