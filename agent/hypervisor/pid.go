package hypervisor

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// scanEvery bounds how often all processes are read for a domain without a pid
// file: with hundreds of domains each look would otherwise read all of /proc
// hundreds of times.
const scanEvery = 2 * time.Second

// pidTable finds the QEMU processes of domains.
type pidTable struct {
	runDir, procDir string

	mu      sync.Mutex
	found   map[string][]int // processes by UUID; guarded by mu
	scanned time.Time        // guarded by mu
}

// find is the domain's QEMU process: what the pid file says, if that process
// carries the domain's UUID, else the process that does. 0 when there is none,
// or more than one: a VM on its way between two hosts that share their process
// table has two.
func (t *pidTable) find(name, id string) int {
	b, err := os.ReadFile(filepath.Join(t.runDir, name+".pid"))
	if err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && t.uuid(pid) == id {
			return pid
		}
	}
	if pids := t.scan()[id]; len(pids) == 1 && t.uuid(pids[0]) == id {
		return pids[0]
	}
	return 0
}

// scan returns every process with a UUID.
func (t *pidTable) scan() map[string][]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.found != nil && time.Since(t.scanned) < scanEvery {
		return t.found
	}
	entries, err := os.ReadDir(t.procDir)
	if err != nil {
		return nil
	}
	t.found, t.scanned = map[string][]int{}, time.Now()
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if id := t.uuid(pid); id != "" {
				t.found[id] = append(t.found[id], pid)
			}
		}
	}
	return t.found
}

// uuid is the domain that a QEMU process was started for, "" for another process.
func (t *pidTable) uuid(pid int) string {
	b, err := os.ReadFile(filepath.Join(t.procDir, strconv.Itoa(pid), "cmdline"))
	if err != nil {
		return ""
	}
	_, rest, ok := bytes.Cut(b, []byte("\x00-uuid\x00"))
	if !ok {
		return ""
	}
	id, _, ok := bytes.Cut(rest, []byte{0})
	if !ok {
		return ""
	}
	return string(id)
}
