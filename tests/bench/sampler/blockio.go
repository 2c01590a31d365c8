package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"headroom/bpf"
)

const (
	blocksInFile = 4096
	blockReads   = 2000  // of the disk, a round
	failedReads  = 10000 // a round
	// failedRounds is how many times as many rounds are short ones.
	failedRounds = 5
	// hookName is the hook's name as the kernel cuts it, to 15 bytes.
	hookName = "block_rq_comple"
)

// measureBlockIO has a helper in a block cgroup of its own read past the page
// cache: requests that fail at once, with the hook attached by turns, for what it
// costs end to end, and one at a time from the disk, where each run finds the
// caches cold.
func measureBlockIO(ctx context.Context, o options, r *report) error {
	h, err := startHelper("work")
	if err != nil {
		return err
	}
	defer func() { _ = h.stop() }()
	controller := "blkio"
	if unified() {
		controller = "io"
	}
	leave, err := enter(h, controller, nil)
	if err != nil {
		return err
	}
	defer leave()
	s, err := bpf.Open(bpf.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.SetTargets([]bpf.Target{{ID: "vm", PID: h.pid()}}); err != nil {
		return err
	}
	if err := measureFailingIO(ctx, o, r, s, h); err != nil {
		return err
	}
	return measureSingleIO(ctx, o, r, s, h)
}

// measureFailingIO tells what the hook costs a request end to end, in the CPU
// time of the thread that makes it.
func measureFailingIO(ctx context.Context, o options, r *report, s *bpf.Sampler, h *helper) error {
	read := func() (float64, error) {
		d, err := h.do(fmt.Sprintf("fail %d", failedReads))
		return float64(d), err
	}
	var shares series
	hooked := func() (float64, error) {
		if err := s.Enable(bpf.FeatureBlockIO); err != nil {
			return 0, err
		}
		ns, err := read()
		io, seen := s.BlockIO("vm")
		shares = append(shares, 100*float64(io.Read.Ops)/failedReads)
		return ns, errors.Join(err, seen, s.Disable(bpf.FeatureBlockIO))
	}
	empty := func() (float64, error) {
		e, err := attachEmpty()
		if err != nil {
			return 0, err
		}
		ns, err := read()
		return ns, errors.Join(err, e.close())
	}
	got, err := takeTurns(ctx, failedRounds*o.rounds, method{"none", read}, method{"again", read}, method{"empty", empty}, method{"hook", hooked})
	if err != nil {
		return err
	}
	none := got["none"]
	r.add("", "request that fails at once, nothing hooked", "ns", none, nil)
	r.add("", "the same once more: the noise", "ns more an I/O", got["again"].less(none), nil)
	r.add("", "hook that does nothing, end to end", "ns more an I/O", got["empty"].less(none), nil)
	r.add("io_ns_per_io", "I/O hook, end to end", "ns more an I/O", got["hook"].less(none), atMost(300))
	r.add("", "reads that the I/O hook saw, of those made", "%", shares, nil)
	return nil
}

// measureSingleIO reads the disk one block at a time and asks the kernel what
// the hook took: end to end the noise of such a request hides it. The kernel's
// statistics hold its own two clock readings, which a hook that does nothing,
// attached beside, shows.
func measureSingleIO(ctx context.Context, o options, r *report, s *bpf.Sampler, h *helper) error {
	dir, err := os.MkdirTemp("/var/tmp", "headroom-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "disk")
	if err := fillFile(file); err != nil {
		return err
	}
	if err := s.Enable(bpf.FeatureBlockIO); err != nil {
		return err
	}
	hook, err := findProgram(hookName)
	if err != nil {
		return err
	}
	defer hook.Close()
	empty, err := attachEmpty()
	if err != nil {
		return err
	}
	defer empty.close()
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		return fmt.Errorf("kernel's statistics of BPF programs: %w", err)
	}
	defer stats.Close()
	var shares, floor series
	got, err := takeTurns(ctx, o.rounds, method{"hook", func() (float64, error) {
		before, err := s.BlockIO("vm")
		if err != nil {
			return 0, err
		}
		since, sinceEmpty := runsOf(hook), runsOf(empty.program)
		if _, err := h.do(fmt.Sprintf("read %s %d", file, blockReads)); err != nil {
			return 0, err
		}
		after, err := s.BlockIO("vm")
		if err != nil {
			return 0, err
		}
		shares = append(shares, 100*float64(after.Read.Ops-before.Read.Ops)/blockReads)
		ns, err := since()
		if err != nil {
			return 0, err
		}
		least, err := sinceEmpty()
		floor = append(floor, least)
		return ns, err
	}})
	if err != nil {
		return err
	}
	r.add("", "I/O hook, one request at a time of the disk, by the kernel's statistics", "ns an I/O", got["hook"], atMost(300))
	r.add("", "the same of a hook that does nothing, beside it", "ns an I/O", floor, nil)
	r.add("", "reads of the disk that the I/O hook saw, of those made", "%", shares, nil)
	return nil
}

// emptyHook does nothing where the I/O hook does its work.
type emptyHook struct {
	program *ebpf.Program
	hook    link.Link
}

func attachEmpty() (*emptyHook, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "empty", Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "block_rq_complete",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}, License: "GPL",
	})
	if err != nil {
		return nil, fmt.Errorf("load an empty hook: %w", err)
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: p})
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return &emptyHook{p, l}, nil
}

func (e *emptyHook) close() error { return errors.Join(e.hook.Close(), e.program.Close()) }

// runsOf starts counting a program's runs; since returns the mean time of those
// from then on, in ns.
func runsOf(p *ebpf.Program) (since func() (float64, error)) {
	before, failed := p.Stats()
	return func() (float64, error) {
		after, err := p.Stats()
		if err = errors.Join(failed, err); err != nil {
			return 0, err
		}
		if after.RunCount == before.RunCount {
			return 0, errors.New("the hook never ran")
		}
		return float64(after.Runtime-before.Runtime) / float64(after.RunCount-before.RunCount), nil
	}
}

// findProgram finds a program of that name among all of the machine.
func findProgram(name string) (p *ebpf.Program, err error) {
	for id := ebpf.ProgramID(0); ; {
		if id, err = ebpf.ProgramGetNextID(id); err != nil {
			return nil, fmt.Errorf("no program %s: %w", name, err)
		}
		if p, err = ebpf.NewProgramFromID(id); err != nil {
			continue // gone meanwhile
		}
		if info, err := p.Info(); err == nil && strings.HasPrefix(info.Name, name) {
			return p, nil
		}
		_ = p.Close()
	}
}

func fillFile(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, blocksInFile*blockSize))
	return errors.Join(err, f.Sync(), f.Close())
}
