package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"headroom/bpf"
)

const (
	blocksInFile = 4096
	blockReads   = 2000
	// hookName is the hook's name as the kernel cuts it, to 15 bytes.
	hookName = "block_rq_comple"
)

// measureBlockIO has a helper in a block cgroup of its own read a file past the
// page cache, and asks the kernel what the hook took. End to end a request costs
// tens of thousands of ns, whose noise hides the hook's; the kernel's statistics
// hold some 20 to 60 ns of their own clock, so they say too much, if anything.
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
	dir, err := os.MkdirTemp("/var/tmp", "headroom-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "disk")
	if err := fillFile(file); err != nil {
		return err
	}
	s, err := bpf.Open(bpf.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	if err := errors.Join(s.SetTargets([]bpf.Target{{ID: "vm", PID: h.pid()}}), s.Enable(bpf.FeatureBlockIO)); err != nil {
		return err
	}
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		return fmt.Errorf("kernel's statistics of BPF programs: %w", err)
	}
	defer stats.Close()
	var shares series
	got, err := takeTurns(ctx, o.rounds, method{"hook", func() (float64, error) {
		ns, share, err := perIO(s, h, file)
		shares = append(shares, 100*share)
		return ns, err
	}})
	if err != nil {
		return err
	}
	r.add("io_ns_per_io", "I/O hook, by the kernel's statistics", "ns an I/O", got["hook"], atMost(300))
	r.add("", "reads that the I/O hook saw, of those made", "%", shares, nil)
	return nil
}

// perIO reads once and returns what the hook took for each request, and the
// share of the reads that it saw to be the VM's.
func perIO(s *bpf.Sampler, h *helper, file string) (ns, share float64, err error) {
	io0, err := s.BlockIO("vm")
	if err != nil {
		return 0, 0, err
	}
	time0, runs0, err := hookStats()
	if err != nil {
		return 0, 0, err
	}
	if _, err := h.do(fmt.Sprintf("read %s %d", file, blockReads)); err != nil {
		return 0, 0, err
	}
	time1, runs1, err := hookStats()
	if err != nil {
		return 0, 0, err
	}
	io1, err := s.BlockIO("vm")
	if err != nil {
		return 0, 0, err
	}
	if runs1 == runs0 {
		return 0, 0, errors.New("the hook never ran")
	}
	return float64(time1-time0) / float64(runs1-runs0), float64(io1.Read.Ops-io0.Read.Ops) / blockReads, nil
}

// hookStats finds the hook among all programs of the machine.
func hookStats() (ns int64, runs uint64, err error) {
	for id := ebpf.ProgramID(0); ; {
		if id, err = ebpf.ProgramGetNextID(id); err != nil {
			return 0, 0, fmt.Errorf("no program %s: %w", hookName, err)
		}
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // gone meanwhile
		}
		info, err := p.Info()
		if err == nil && strings.HasPrefix(info.Name, hookName) {
			stats, err := p.Stats()
			if err = errors.Join(err, p.Close()); err != nil {
				return 0, 0, err
			}
			return int64(stats.Runtime), stats.RunCount, nil
		}
		_ = p.Close()
	}
}

func fillFile(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, blocksInFile*4096))
	return errors.Join(err, f.Sync(), f.Close())
}
