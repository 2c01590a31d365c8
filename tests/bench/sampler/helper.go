package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The processes measured are this program, run again in a role of helperEnv:
//
//	idle   has vmThreads sleeping threads; a line wakes each of them once
//	work   obeys lines: "pingpong N", "spin MS", "read FILE N", "fail N"
const helperEnv = "HEADROOM_BENCH_HELPER"

// vmThreads is the number of threads of a process that stands for a VM.
const vmThreads = 8

// helper is such a process under this one's command.
type helper struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
}

// startHelper starts a helper and waits until it is ready.
func startHelper(role string) (*helper, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperEnv+"="+role, "GOMAXPROCS=2", "GOGC=off")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	h := &helper{cmd: cmd, in: in, lines: bufio.NewScanner(out)}
	if _, err := h.answer(); err != nil {
		return nil, errors.Join(err, h.stop())
	}
	return h, nil
}

func (h *helper) pid() int { return h.cmd.Process.Pid }

func (h *helper) answer() (string, error) {
	if !h.lines.Scan() {
		return "", fmt.Errorf("helper process %d does not answer: %v", h.pid(), h.lines.Err())
	}
	return h.lines.Text(), nil
}

// do gives a command and waits for the duration that it answers.
func (h *helper) do(line string) (time.Duration, error) {
	if _, err := fmt.Fprintln(h.in, line); err != nil {
		return 0, err
	}
	text, err := h.answer()
	if err != nil {
		return 0, err
	}
	return time.ParseDuration(text)
}

func (h *helper) stop() error {
	err := h.in.Close()
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait() // says that it was killed
	return err
}

func stopAll(hs []*helper) {
	for _, h := range hs {
		_ = h.stop()
	}
}

// runHelper is the helper's side.
func runHelper(role string) error {
	if role == "idle" {
		return sleepers()
	}
	a, b := startThread("CPU 0/KVM"), startThread("CPU 1/KVM")
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		took, err := obey(strings.Fields(lines.Text()), a, b)
		if err != nil {
			return err
		}
		fmt.Println(took)
	}
	return lines.Err()
}

// sleepers runs a helper of threads that sleep until a line comes.
func sleepers() error {
	var all []chan func()
	for n := 0; threads() < vmThreads; n++ {
		all = append(all, startThread(fmt.Sprintf("CPU %d/KVM", n)))
	}
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		for _, wake := range all {
			wake <- func() {}
		}
		fmt.Println(time.Duration(0))
	}
	return lines.Err()
}

func obey(words []string, a, b chan func()) (time.Duration, error) {
	n, err := strconv.Atoi(words[len(words)-1])
	if err != nil {
		return 0, err
	}
	switch words[0] {
	case "pingpong":
		return pingPong(a, b, n)
	case "spin":
		return spin(a, time.Duration(n)*time.Millisecond), nil
	case "fail":
		return readFailing(n)
	}
	return readDirect(words[1], n)
}

func threads() int {
	list, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return vmThreads
	}
	return len(list)
}

// startThread starts a named thread on the machine's last CPU that does what it
// is sent.
func startThread(name string) chan func() {
	work, started := make(chan func()), make(chan bool)
	go func() {
		runtime.LockOSThread()
		text := append([]byte(name), 0)
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&text[0])), 0, 0, 0)
		var cpus unix.CPUSet
		cpus.Set(runtime.NumCPU() - 1)
		_ = unix.SchedSetaffinity(0, &cpus)
		close(started)
		for f := range work {
			f()
		}
	}()
	<-started
	return work
}

// pingPong hands a byte to and fro between two threads n times, two switches
// each, and returns the CPU time used.
func pingPong(a, b chan func(), n int) (time.Duration, error) {
	var to, fro [2]int
	if err := errors.Join(unix.Pipe(to[:]), unix.Pipe(fro[:])); err != nil {
		return 0, err
	}
	defer func() {
		for _, fd := range []int{to[0], to[1], fro[0], fro[1]} {
			_ = unix.Close(fd)
		}
	}()
	start := clock(unix.CLOCK_PROCESS_CPUTIME_ID)
	done, other := make(chan bool), make(chan bool)
	relay := func(end chan bool, first, second uintptr, firstFD, secondFD int) func() {
		return func() {
			var buf [1]byte
			for range n {
				unix.RawSyscall(first, uintptr(firstFD), uintptr(unsafe.Pointer(&buf)), 1)
				unix.RawSyscall(second, uintptr(secondFD), uintptr(unsafe.Pointer(&buf)), 1)
			}
			close(end)
		}
	}
	a <- relay(done, unix.SYS_WRITE, unix.SYS_READ, to[1], fro[0])
	b <- relay(other, unix.SYS_READ, unix.SYS_WRITE, to[0], fro[1])
	<-done
	<-other
	return clock(unix.CLOCK_PROCESS_CPUTIME_ID) - start, nil
}

// spin uses the CPU for so long by the clock on the wall.
func spin(a chan func(), d time.Duration) time.Duration {
	done := make(chan bool)
	a <- func() {
		for until := clock(unix.CLOCK_MONOTONIC) + d; clock(unix.CLOCK_MONOTONIC) < until; {
		}
		close(done)
	}
	<-done
	return d
}

// readDirect reads n blocks of a file past the page cache.
func readDirect(file string, n int) (time.Duration, error) {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", file, err)
	}
	defer unix.Close(fd)
	block, err := unix.Mmap(-1, 0, blockSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Munmap(block) }()
	start := clock(unix.CLOCK_MONOTONIC)
	for i := range n {
		if _, err := unix.Pread(fd, block, int64(i%blocksInFile)*blockSize); err != nil {
			return 0, fmt.Errorf("read %s: %w", file, err)
		}
	}
	return clock(unix.CLOCK_MONOTONIC) - start, nil
}
