package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// userTick is a tick of the times in /proc/PID/stat: USER_HZ is 100 on
	// every architecture headroom runs on.
	userTick = uint64(10 * time.Millisecond)
	// maxProcThreads limits the descriptors of one process.
	maxProcThreads = 1024
	// nameReads is how often a thread's name is read before it is believed: a
	// thread names itself only after it has started.
	nameReads = 3
)

// procReader is tier C: it reads procfs through descriptors kept open, which
// is 8 times cheaper than opening the files in each pass, and safe against the
// reuse of PIDs: a descriptor of a process that is gone says so.
type procReader struct {
	root  string
	files map[*walk]*procFiles
	buf   [1024]byte
	page  uint64
}

type procFiles struct {
	dir      string
	stat, io int
	threads  []procThread
	// born numbers threads in the order they were found.
	born uint64
}

type procThread struct {
	tid     uint32
	born    uint64
	fd      int // schedstat
	name    comm
	named   int
	listing bool // seen in the listing under way
}

func openProcfs(root string) (*procReader, error) {
	if _, err := os.Stat(filepath.Join(root, "self", "schedstat")); err != nil {
		return nil, fmt.Errorf("%w: needs procfs at %s and CONFIG_SCHED_INFO: %w", ErrNotSupported, root, err)
	}
	return &procReader{root: root, files: map[*walk]*procFiles{}, page: uint64(os.Getpagesize())}, nil
}

func (r *procReader) assign(walks []*walk) error {
	keep := make(map[*walk]*procFiles, len(walks))
	for _, w := range walks {
		f := r.files[w]
		if f == nil && w.gone == "" {
			f = r.openFiles(w)
		}
		if f != nil {
			keep[w] = f
			delete(r.files, w)
		}
	}
	for _, f := range r.files {
		f.close()
	}
	r.files = keep
	return nil
}

// openFiles opens what belongs to the process as a whole; nil if it is gone.
func (r *procReader) openFiles(w *walk) *procFiles {
	f := &procFiles{dir: filepath.Join(r.root, strconv.Itoa(w.pid)), io: -1}
	var err error
	if f.stat, err = openRead(f.dir + "/stat"); err != nil {
		w.leave("cannot be read: " + err.Error())
		return nil
	}
	if f.io, err = openRead(f.dir + "/io"); err != nil {
		f.io, w.ioDenied = -1, true
	}
	return f
}

func (f *procFiles) close() {
	_ = unix.Close(f.stat)
	if f.io >= 0 {
		_ = unix.Close(f.io)
	}
	for i := range f.threads {
		_ = unix.Close(f.threads[i].fd)
	}
}

func openRead(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", path, err)
	}
	return fd, nil
}

func (r *procReader) pass(walks []*walk) (time.Duration, error) {
	at := clock(unix.CLOCK_MONOTONIC)
	for _, w := range walks {
		if w.gone != "" {
			continue
		}
		if err := r.read(w, r.files[w]); err != nil {
			r.fail(w, err)
		}
	}
	return at, nil
}

// fail sorts an error: the process is gone, or this pass could not read it.
func (r *procReader) fail(w *walk, err error) {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) || errors.Is(err, errGone) {
		w.leave("is gone")
		return
	}
	w.trouble = fmt.Sprintf("process %d: %v", w.pid, err)
}

var errGone = errors.New("process has exited")

// read makes one pass over one process. The sums over all threads come first:
// a thread that exits meanwhile is then missing for one pass, not doubled.
func (r *procReader) read(w *walk, f *procFiles) error {
	text, err := r.pread(f.stat)
	if err != nil {
		return err
	}
	st, ok := parseStat(text)
	if !ok {
		return fmt.Errorf("cannot understand %s/stat", f.dir)
	}
	if st.zombie && st.threads <= 1 {
		return errGone
	}
	if !w.bind(st.start) {
		return nil
	}
	p := processReading{
		minorFaults: st.minorFaults, majorFaults: st.majorFaults,
		rss: st.rssPages * r.page, live: int(st.threads),
	}
	if err := r.readIO(w, f, &p); err != nil {
		return err
	}
	if int(st.threads) != len(f.threads) {
		if err := r.list(f); err != nil {
			return err
		}
	}
	w.trouble = ""
	w.account.begin()
	live, err := r.readThreads(w, f)
	if err != nil {
		return err
	}
	if group := st.ticks * userTick; group > live {
		p.exitedCPU = group - live
	}
	if !w.account.primed {
		// Ticks are rounded down, twice. Starting high means that exited
		// threads' CPU shows up to two ticks short, and is never made up.
		p.exitedCPU += 2 * userTick
	}
	w.account.end(&p)
	return nil
}

func (r *procReader) readIO(w *walk, f *procFiles, p *processReading) error {
	if f.io < 0 {
		return nil
	}
	text, err := r.pread(f.io)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		_ = unix.Close(f.io)
		f.io, w.ioDenied = -1, true
		return nil
	}
	if err != nil {
		return err
	}
	var ok bool
	if p.readBytes, p.writeBytes, ok = parseIO(text); !ok {
		return fmt.Errorf("cannot understand %s/io", f.dir)
	}
	return nil
}

// readThreads observes every thread and returns their CPU time together. One
// that has gone makes it list the threads once more.
func (r *procReader) readThreads(w *walk, f *procFiles) (live uint64, err error) {
	vanished := false
	for i := range f.threads {
		switch cpu, err := r.readThread(w, f, &f.threads[i]); {
		case errors.Is(err, unix.ESRCH):
			vanished = true
		case err != nil:
			return 0, err
		default:
			live += cpu
		}
	}
	if !vanished {
		return live, nil
	}
	before := f.born
	if err := r.list(f); err != nil {
		return 0, err
	}
	for i := range f.threads {
		if f.threads[i].born <= before {
			continue
		}
		cpu, err := r.readThread(w, f, &f.threads[i])
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return 0, err
		}
		live += cpu
	}
	return live, nil
}

func (r *procReader) readThread(w *walk, f *procFiles, t *procThread) (cpu uint64, err error) {
	text, err := r.pread(t.fd)
	if err != nil {
		return 0, err
	}
	reading := threadReading{tid: t.tid, born: t.born}
	var ok bool
	if reading.cpu, reading.wait, ok = parseSchedstat(text); !ok {
		return 0, fmt.Errorf("cannot understand %s/task/%d/schedstat", f.dir, t.tid)
	}
	if t.named < nameReads {
		t.named++
		// Gone already or renamed: the next read of schedstat tells.
		if name, err := os.ReadFile(f.threadPath(t.tid, "comm")); err == nil {
			t.name = commFromFile(name)
		}
	}
	reading.name = t.name
	w.account.observe(&reading)
	return reading.cpu, nil
}

func (f *procFiles) threadPath(tid uint32, file string) string {
	return f.dir + "/task/" + strconv.FormatUint(uint64(tid), 10) + "/" + file
}

func commFromFile(text []byte) (c comm) {
	if n := len(text); n > 0 && text[n-1] == '\n' {
		text = text[:n-1]
	}
	copy(c[:commLen-1], text)
	return c
}

// list brings the open threads in line with the process's task directory.
func (r *procReader) list(f *procFiles) error {
	entries, err := os.ReadDir(f.dir + "/task")
	if err != nil {
		return err
	}
	if len(entries) > maxProcThreads {
		return fmt.Errorf("it has %d threads, the limit of tier %s is %d: use a BPF tier", len(entries), TierProcfs, maxProcThreads)
	}
	known := make(map[uint32]int, len(f.threads))
	for i := range f.threads {
		f.threads[i].listing = false
		if _, err := r.pread(f.threads[i].fd); err == nil {
			known[f.threads[i].tid] = i
		}
	}
	for _, e := range entries {
		n, err := strconv.ParseUint(e.Name(), 10, 32)
		if err != nil {
			continue
		}
		tid := uint32(n)
		if i, ok := known[tid]; ok {
			f.threads[i].listing = true
			continue
		}
		fd, err := openRead(f.threadPath(tid, "schedstat"))
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return err
		}
		f.born++
		f.threads = append(f.threads, procThread{tid: tid, born: f.born, fd: fd, listing: true})
	}
	kept := f.threads[:0]
	for _, t := range f.threads {
		if t.listing {
			kept = append(kept, t)
		} else {
			_ = unix.Close(t.fd)
		}
	}
	f.threads = kept
	return nil
}

// pread reads a small procfs file from its start, into memory that the next
// call overwrites.
func (r *procReader) pread(fd int) ([]byte, error) {
	for {
		n, err := unix.Pread(fd, r.buf[:], 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		return r.buf[:n], nil
	}
}

func (r *procReader) absent() []Absence {
	return []Absence{
		{SignalPendingWait, "procfs shows a wait only once it has ended: use a BPF tier"},
		{SignalSwitches, "procfs would need one more read a thread: use a BPF tier"},
	}
}

func (r *procReader) close() error {
	for _, f := range r.files {
		f.close()
	}
	r.files = nil
	return nil
}
