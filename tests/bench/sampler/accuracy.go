package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"headroom/bpf"
)

const (
	accuracyRounds = 3
	accuracyTime   = 5 * time.Second
	accuracyWindow = 100 * time.Millisecond
	sumsTime       = 3 * time.Second
)

// measureAccuracy lets two threads fight for one CPU. Each always wants to run,
// so what it used and waited is all of the time.
func measureAccuracy(ctx context.Context, _ options, r *report) error {
	h, err := startHelper("work")
	if err != nil {
		return err
	}
	defer func() { _ = h.stop() }()
	rival, err := startHelper("work")
	if err != nil {
		return err
	}
	defer func() { _ = rival.stop() }()
	s, err := bpf.Open(bpf.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.SetTargets([]bpf.Target{{ID: "vm", PID: h.pid()}}); err != nil {
		return err
	}
	var sds, means series
	for range accuracyRounds {
		errs, err := contend(ctx, s, h, rival)
		if err != nil {
			return err
		}
		mean, sd := moments(errs)
		sds, means = append(sds, sd), append(means, mean)
	}
	r.add("accuracy_sd_percent", "(used + waited) / wall - 1 of a contended thread, 100 ms: standard deviation", "%", sds, atMost(1.5))
	r.add("", "the same: mean", "%", means, nil)
	if err := compareSums(r, s, h, rival, "contended"); err != nil {
		return err
	}
	leave, err := limit(h, 30)
	if err != nil {
		return err
	}
	defer leave()
	return compareSums(r, s, h, rival, "contended and under a cgroup quota of 0.3 CPUs")
}

// contend returns the errors of each window, in percent.
func contend(ctx context.Context, s *bpf.Sampler, hs ...*helper) ([]float64, error) {
	var g errgroup.Group
	for _, h := range hs {
		g.Go(func() error {
			_, err := h.do(fmt.Sprintf("spin %d", (accuracyTime + time.Second).Milliseconds()))
			return err
		})
	}
	tick := time.NewTicker(accuracyWindow)
	defer tick.Stop()
	var list []bpf.Sample
	var errs []float64
	var last bpf.Sample
	windows := int(accuracyTime / accuracyWindow)
	for i := 0; i < windows+3; i++ { // the first ones are before it spins
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
		var err error
		if list, err = s.Sample(list); err != nil {
			return nil, err
		}
		now := list[0]
		if !now.Valid {
			return nil, fmt.Errorf("the spinning process: %s", now.Reason)
		}
		if i > 2 {
			done := now.VCPU - last.VCPU + now.VCPUWait - last.VCPUWait
			errs = append(errs, 100*(float64(done)/float64(now.At-last.At)-1))
		}
		last = now
	}
	return errs, g.Wait()
}

func moments(v []float64) (mean, sd float64) {
	for _, x := range v {
		mean += x
	}
	mean /= float64(len(v))
	for _, x := range v {
		sd += (x - mean) * (x - mean)
	}
	return mean, math.Sqrt(sd / float64(len(v)-1))
}

// compareSums lets both spin for 3 s, and compares what the sampler and /proc
// saw from rest to rest.
func compareSums(r *report, s *bpf.Sampler, h, rival *helper, how string) error {
	before, cpu0, wait0, err := bothBooks(s, h)
	if err != nil {
		return err
	}
	var g errgroup.Group
	for _, p := range []*helper{h, rival} {
		g.Go(func() error {
			_, err := p.do(fmt.Sprintf("spin %d", sumsTime.Milliseconds()))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	after, cpu1, wait1, err := bothBooks(s, h)
	if err != nil {
		return err
	}
	cpu := 100 * math.Abs(float64(after.CPU()-before.CPU())/float64(cpu1-cpu0)-1)
	wait := 100 * math.Abs(float64(after.Wait-before.Wait)/float64(wait1-wait0)-1)
	r.add("", "CPU time against /proc over 3 s, "+how, "% off", series{cpu}, atMost(0.1))
	r.add("", "run-queue wait against /proc over 3 s, "+how, "% off", series{wait}, atMost(0.1))
	return nil
}

// bothBooks reads a resting process both ways, until nothing moves in between.
func bothBooks(s *bpf.Sampler, h *helper) (sample bpf.Sample, cpu, wait time.Duration, err error) {
	for range 1000 {
		c0, w0, err := procSums(h.pid())
		if err != nil {
			return sample, 0, 0, err
		}
		list, err := s.Sample(nil)
		if err != nil {
			return sample, 0, 0, err
		}
		c1, w1, err := procSums(h.pid())
		if err != nil {
			return sample, 0, 0, err
		}
		if c0 == c1 && w0 == w1 {
			return list[0], c1, w1, nil
		}
	}
	return sample, 0, 0, fmt.Errorf("process %d never rests", h.pid())
}

func procSums(pid int) (cpu, wait time.Duration, err error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, 0, err
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return 0, 0, err
		}
		var c, w int64
		if _, err := fmt.Sscan(string(text), &c, &w); err != nil {
			return 0, 0, fmt.Errorf("%s: %w", f, err)
		}
		cpu, wait = cpu+time.Duration(c), wait+time.Duration(w)
	}
	return cpu, wait, nil
}
