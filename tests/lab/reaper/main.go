// Command reaper starts a daemon of a lab's host and then collects the dead
// processes that it leaves behind, as a host's own init does.
//
//	reaper DAEMON ARGUMENT...
//
// The daemon must go to the background by itself. The reaper returns when the
// daemon is ready, with its exit code, and leaves a copy of itself that ends
// with the last of the daemon's descendants. Without it, a dead QEMU stays a
// zombie until the machine's init looks, and libvirtd waits for it: seconds,
// where init is a container's.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// stage tells the copy that stays from the caller.
const stage = "HEADROOM_LAB_REAPER"

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: reaper DAEMON ARGUMENT...")
		os.Exit(2)
	}
	if os.Getenv(stage) == "" {
		os.Exit(launch())
	}
	os.Exit(stay())
}

// launch starts the copy and waits for its word, one byte: the exit code.
func launch() int {
	r, w, err := os.Pipe()
	if err != nil {
		return fail(err)
	}
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), stage+"=1")
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fail(err)
	}
	w.Close()
	word := make([]byte, 1)
	if _, err := r.Read(word); err != nil {
		return fail(fmt.Errorf("the reaper ended before its daemon was ready: %w", err))
	}
	return int(word[0])
}

// stay starts the daemon, passes its exit code on, and collects until nothing
// is left to wait for.
func stay() int {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fail(err)
	}
	os.Unsetenv(stage)
	word := os.NewFile(3, "word")
	unix.CloseOnExec(3)
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	cmd.Stderr = os.Stderr
	err := cmd.Run()
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		code = exit.ExitCode()
	} else if err != nil {
		code = fail(err)
	}
	word.Write([]byte{byte(code)})
	word.Close()
	// The caller's standard error is not the copy's to hold.
	unix.Close(2)
	for {
		_, err := unix.Wait4(-1, nil, 0, nil)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 0
		}
	}
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "reaper:", err)
	return 1
}
