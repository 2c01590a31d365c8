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
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxHelpers limits the helper processes of one VM.
	maxHelpers = 16
	// maxCgroupDirs limits the directories searched for them.
	maxCgroupDirs = 64
)

// vm is a target with what has been seen of it.
type vm struct {
	target Target
	// walks has the VM's own process first, then its helpers.
	walks []*walk
	// retired holds the counters of helpers that are gone, so that the VM's
	// own never fall.
	retired totals
	seen    bool
	since   time.Duration
	// filled is the latest valid sample, which stands as long as all walks are
	// quiet; not valid if there is none.
	filled Sample
	// slot is the VM's place in the memory of the features' programs, -1 for
	// none yet.
	slot int
}

func newVM(t Target) *vm {
	v := &vm{target: t, slot: -1, walks: []*walk{{pid: t.PID, pidfd: -1, gone: "the VM has no process"}}}
	if t.PID > 0 {
		v.walks[0] = openWalk(t.PID)
	}
	return v
}

func (v *vm) close() {
	for _, w := range v.walks {
		w.close()
	}
}

// quiet tells whether the latest sample stands, but for its time and memory.
func (v *vm) quiet() bool {
	if !v.filled.Valid {
		return false
	}
	for _, w := range v.walks {
		if !w.quiet {
			return false
		}
	}
	return true
}

// findHelpers brings the helper walks in line with the VM's cgroup. Processes
// taken belong to another VM, as its own or as its helper.
func (v *vm) findHelpers(taken map[int]bool) {
	v.filled = Sample{}
	var pids []int
	if v.target.CgroupPath != "" && v.walks[0].gone == "" {
		pids = cgroupProcesses(v.target.CgroupPath, taken)
	}
	for _, pid := range pids {
		taken[pid] = true
	}
	kept := v.walks[:1]
	for _, w := range v.walks[1:] {
		if i := slices.Index(pids, w.pid); i >= 0 && w.gone == "" {
			pids = slices.Delete(pids, i, i+1)
			kept = append(kept, w)
			continue
		}
		v.retired.add(&w.account)
		w.close()
	}
	for _, pid := range pids {
		if len(kept) > maxHelpers {
			break
		}
		if w := openWalk(pid); w.gone == "" {
			kept = append(kept, w)
		}
	}
	v.walks = kept
}

// cgroupProcesses lists the processes in and below a cgroup that are not taken.
// A cgroup that is gone or cannot be read has none: its VM is about to say why.
func cgroupProcesses(root string, taken map[int]bool) []int {
	var pids []int
	dirs := 0
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil
		}
		if dirs++; dirs > maxCgroupDirs {
			return filepath.SkipAll
		}
		text, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		if err != nil {
			return nil
		}
		for field := range strings.FieldsSeq(string(text)) {
			pid, err := strconv.Atoi(field)
			if err == nil && pid > 0 && !taken[pid] && !slices.Contains(pids, pid) && len(pids) < maxHelpers {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids
}

// walk is one process that passes read.
type walk struct {
	pid int
	// pidfd holds on to the process that was meant, -1 for none.
	pidfd int
	// start is the leader's start time as the tier tells it, 0 until the first
	// pass. With pid it names one process of all time; the pidfd proves that
	// it is the one meant.
	start uint64
	// gone says why the process is never read again, trouble why this pass
	// could not read it. Both empty: the account is good.
	gone, trouble string
	// ioDenied: the tier may not read this process's I/O counters.
	ioDenied bool
	// quiet: the latest pass found nothing changed but perhaps the memory.
	quiet   bool
	account account
}

// openWalk takes hold of a process. If that fails the walk is gone already.
func openWalk(pid int) *walk {
	w := &walk{pid: pid, pidfd: -1, trouble: "not sampled yet"}
	fd, err := unix.PidfdOpen(pid, 0)
	switch {
	case err == nil:
		w.pidfd = fd
	case errors.Is(err, unix.ENOSYS): // before 5.3: the start time alone guards
	case errors.Is(err, unix.ESRCH):
		w.leave("is gone")
	default:
		w.leave("is not to be had: " + err.Error())
	}
	return w
}

func (w *walk) ok() bool { return w.gone == "" && w.trouble == "" }

func (w *walk) reason() string {
	if w.gone != "" {
		return w.gone
	}
	return w.trouble
}

// leave ends the reading of this process for good.
func (w *walk) leave(why string) {
	w.gone = fmt.Sprintf("process %d %s", w.pid, why)
	w.close()
}

// bind compares the start time that the tier read with the process meant. The
// first one is believed if the process still lives afterwards: its PID cannot
// have gone to another meanwhile.
func (w *walk) bind(start uint64) bool {
	switch {
	case w.start == start:
		return true
	case w.start != 0:
		w.leave("is gone, its PID belongs to another now")
		return false
	case w.pidfd >= 0 && exited(w.pidfd):
		w.leave("is gone")
		return false
	}
	w.start = start
	return true
}

func (w *walk) close() {
	if w.pidfd >= 0 {
		_ = unix.Close(w.pidfd)
		w.pidfd = -1
	}
}

// exited tells whether the process behind a pidfd has exited.
func exited(pidfd int) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}
