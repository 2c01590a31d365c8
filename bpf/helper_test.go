package bpf

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests sample real processes: this test binary, run again as a helper
// that makes threads on command.
const helperEnv = "HEADROOM_BPF_HELPER"

// In a helper the main goroutine keeps the main thread: no other may end it.
func init() {
	if os.Getenv(helperEnv) != "" {
		runtime.LockOSThread()
	}
}

func TestMain(m *testing.M) {
	switch os.Getenv(helperEnv) {
	case "":
		os.Exit(m.Run())
	case "threads":
		helperThreads(os.Stdin, os.Stdout)
	case "vm":
		helperVM(os.Stdin, os.Stdout)
	case "tiers":
		helperTiers(os.Stdout)
	}
	os.Exit(0)
}

// helperThreads obeys lines on its input and answers each with one line:
//
//	start NAME     a thread of that name; answers its tid
//	spin NAME MS   it uses so much CPU time
//	burn NAME MS   it wants the CPU for so long, and makes no system call
//	stop NAME      it ends
//	write PATH     it writes and syncs one MiB to a new file
//	fill N         sleeping threads until the process has N
//	pingpong A B N threads A and B hand a byte to and fro N times; answers the
//	               CPU time used
//	share NAME CPU it may run on that CPU alone
func helperThreads(in io.Reader, out io.Writer) {
	threads := map[string]chan func(){}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		word := strings.Split(lines.Text(), ",")
		switch word[0] {
		case "start":
			work, started := make(chan func()), make(chan int)
			go helperThread(word[1], work, started)
			threads[word[1]] = work
			fmt.Fprintln(out, <-started)
			continue
		case "spin":
			ms, _ := strconv.Atoi(word[2])
			done := make(chan bool)
			threads[word[1]] <- func() { helperSpin(time.Duration(ms) * time.Millisecond); close(done) }
			<-done
		case "burn":
			ms, _ := strconv.Atoi(word[2])
			done := make(chan bool)
			threads[word[1]] <- func() { helperBurn(time.Duration(ms) * time.Millisecond); close(done) }
			<-done
		case "stop":
			close(threads[word[1]])
		case "write":
			helperWrite(word[1])
		case "share":
			cpu, _ := strconv.Atoi(word[2])
			done := make(chan error)
			threads[word[1]] <- func() {
				var set unix.CPUSet
				set.Set(cpu)
				done <- unix.SchedSetaffinity(0, &set)
			}
			<-done
		case "pingpong":
			n, _ := strconv.Atoi(word[3])
			fmt.Fprintln(out, helperPingPong(threads[word[1]], threads[word[2]], n))
			continue
		case "fill":
			n, _ := strconv.Atoi(word[1])
			for len(tids(os.Getpid())) < n {
				started := make(chan int)
				go helperThread("CPU 9/KVM", make(chan func()), started)
				<-started
			}
		}
		fmt.Fprintln(out, "ok")
	}
}

// helperThread is one thread; ending while locked ends the OS thread too.
func helperThread(name string, work chan func(), started chan int) {
	runtime.LockOSThread()
	b := append([]byte(name), 0)
	_ = unix.Prctl(unix.PR_SET_NAME, uintptr(ptr(b)), 0, 0, 0)
	started <- unix.Gettid()
	for f := range work {
		f()
	}
}

func helperSpin(d time.Duration) {
	for until := clock(unix.CLOCK_THREAD_CPUTIME_ID) + d; clock(unix.CLOCK_THREAD_CPUTIME_ID) < until; {
	}
}

// helperBurn asks only the clock that needs no system call: asking for a
// thread's CPU time makes the kernel bring it up to date.
func helperBurn(d time.Duration) {
	for start := time.Now(); time.Since(start) < d; {
	}
}

func helperPingPong(a, b chan func(), n int) time.Duration {
	var to, fro [2]int
	if unix.Pipe(to[:]) != nil || unix.Pipe(fro[:]) != nil {
		panic("no pipe")
	}
	start := clock(unix.CLOCK_PROCESS_CPUTIME_ID)
	done := make(chan bool)
	a <- func() {
		buf := make([]byte, 1)
		for range n {
			unix.RawSyscall(unix.SYS_WRITE, uintptr(to[1]), uintptr(ptr(buf)), 1)
			unix.RawSyscall(unix.SYS_READ, uintptr(fro[0]), uintptr(ptr(buf)), 1)
		}
		close(done)
	}
	b <- func() {
		buf := make([]byte, 1)
		for range n {
			unix.RawSyscall(unix.SYS_READ, uintptr(to[0]), uintptr(ptr(buf)), 1)
			unix.RawSyscall(unix.SYS_WRITE, uintptr(fro[1]), uintptr(ptr(buf)), 1)
		}
	}
	<-done
	return clock(unix.CLOCK_PROCESS_CPUTIME_ID) - start
}

func helperWrite(path string) {
	f, err := os.Create(path)
	if err != nil {
		panic(err)
	}
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		panic(err)
	}
	if err := f.Sync(); err != nil {
		panic(err)
	}
	f.Close()
}

// helper is a helper process under the test's command.
type helper struct {
	t     testing.TB
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
}

func startHelper(t testing.TB) *helper { return startHelperAs(t, "threads") }

func startHelperAs(t testing.TB, what string) *helper {
	t.Helper()
	h := launch(t, what)
	t.Cleanup(h.kill)
	return h
}

// launch starts a helper that ends when its input closes, with this process.
func launch(t testing.TB, what string) *helper {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperEnv+"="+what, "GOMAXPROCS=2", "GOGC=off")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &helper{t: t, cmd: cmd, in: in, lines: bufio.NewScanner(out)}
}

func (h *helper) pid() int { return h.cmd.Process.Pid }

// do gives a command and waits for its answer.
func (h *helper) do(words ...string) string {
	h.t.Helper()
	if _, err := fmt.Fprintln(h.in, strings.Join(words, ",")); err != nil {
		h.t.Fatal(err)
	}
	if !h.lines.Scan() {
		h.t.Fatalf("helper does not answer %q: %v", words, h.lines.Err())
	}
	return h.lines.Text()
}

// start makes a thread and returns its tid.
func (h *helper) start(name string) int {
	h.t.Helper()
	tid, err := strconv.Atoi(h.do("start", name))
	if err != nil {
		h.t.Fatal(err)
	}
	return tid
}

// stop ends a thread and waits until the kernel shows it no more.
func (h *helper) stop(name string, tid int) {
	h.t.Helper()
	h.do("stop", name)
	until(h.t, "thread ends", func() bool { return !slices.Contains(tids(h.pid()), tid) })
}

func (h *helper) kill() {
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait()
}

// until waits for the kernel to show something. There is no event to wait for,
// so it yields the CPU and looks again.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := clock(unix.CLOCK_MONOTONIC) + 20*time.Second; !ok(); runtime.Gosched() {
		if clock(unix.CLOCK_MONOTONIC) > deadline {
			t.Fatalf("waited 20 s for: %s", what)
		}
	}
}

func tids(pid int) []int {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	var list []int
	for _, e := range entries {
		n, _ := strconv.Atoi(e.Name())
		list = append(list, n)
	}
	return list
}

// procTotals sums what /proc tells of a process's live threads, by role of the
// thread's name.
func procTotals(t testing.TB, pid int) (cpu [roles]time.Duration, wait time.Duration) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("no threads of %d in /proc: %v", pid, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // it has exited
		}
		name, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "comm"))
		c := commFromFile(name)
		var used, waited, slices uint64
		if _, err := fmt.Sscan(string(text), &used, &waited, &slices); err != nil {
			t.Fatal(err)
		}
		cpu[classify(&c)] += time.Duration(used)
		wait += time.Duration(waited)
	}
	return cpu, wait
}

// required tells whether CI demands the piece, so that its lack is a failure.
func required(piece string) bool {
	return slices.Contains(strings.Split(os.Getenv("HEADROOM_REQUIRE"), ","), piece)
}

// skipOr skips the test for a lack of the machine, or fails where CI demands
// that there be none.
func skipOr(t testing.TB, format string, args ...any) {
	t.Helper()
	if required("bpf") {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// open opens one tier or skips.
func open(t testing.TB, tier Tier) *Sampler {
	t.Helper()
	s, err := Open(Options{Tiers: []Tier{tier}})
	if err != nil {
		skipOr(t, "tier %s cannot be had here: %v", tier, err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

var allTiers = []Tier{TierSyscall, TierIter, TierProcfs}
