package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"headroom/bpf"
)

const (
	manyVMs, fewVMs = 200, 50
	warmPasses      = 5
)

// contestants are the ways to read the counters of some processes.
type contestants struct {
	pids    []int
	sampler *bpf.Sampler
	samples []bpf.Sample
	kept    *keptOpen
}

func newContestants(hs []*helper) (c *contestants, err error) {
	c = &contestants{}
	var targets []bpf.Target
	for i, h := range hs {
		c.pids = append(c.pids, h.pid())
		targets = append(targets, bpf.Target{ID: strconv.Itoa(i), PID: h.pid()})
	}
	if c.sampler, err = bpf.Open(bpf.Options{}); err != nil {
		return nil, err
	}
	if err := c.sampler.SetTargets(targets); err != nil {
		return nil, err
	}
	for range warmPasses {
		if err := c.pass(); err != nil {
			return nil, err
		}
	}
	for i := range c.samples {
		if s := &c.samples[i]; !s.Valid || s.Threads < vmThreads {
			return nil, fmt.Errorf("process %d: %d threads, %s", s.PID, s.Threads, s.Reason)
		}
	}
	c.kept, err = openKept(c.pids)
	return c, err
}

func (c *contestants) pass() (err error) {
	c.samples, err = c.sampler.Sample(c.samples)
	return err
}

func (c *contestants) close() {
	c.kept.close()
	_ = c.sampler.Close()
}

func measurePasses(ctx context.Context, o options, r *report) error {
	var hs []*helper
	defer func() { stopAll(hs) }()
	for range manyVMs {
		h, err := startHelper("idle")
		if err != nil {
			return err
		}
		hs = append(hs, h)
	}
	for _, n := range []int{fewVMs, manyVMs} {
		c, err := newContestants(hs[:n])
		if err != nil {
			return err
		}
		err = comparePasses(ctx, o, r, c)
		if err == nil && n == manyVMs {
			err = measureWoken(ctx, o, r, c, hs)
		}
		if err == nil && n == manyVMs {
			err = measureLoop(ctx, r, c)
		}
		c.close()
		if err != nil {
			return err
		}
	}
	return nil
}

// The ways compared.
const (
	ours       = "headroom"
	keptName   = "/proc kept open"
	byNameName = "/proc by name"
)

// Passes a round: so many that a round of each method takes some milliseconds.
const (
	ourPasses, keptPasses, namePasses = 50, 5, 1
	ourColdPasses, theirColdPasses    = 5, 1
)

// comparePasses lets the methods take turns, hot and cold.
func comparePasses(ctx context.Context, o options, r *report, c *contestants) error {
	vms := float64(len(c.pids))
	perVM := func(measure func(int, func() error) (time.Duration, error), n int, pass func() error) func() (float64, error) {
		return func() (float64, error) {
			d, err := measure(n, pass)
			return micros(d) / vms, err
		}
	}
	byName := func() error { return readByName(c.pids) }
	hot, err := takeTurns(ctx, o.rounds,
		method{ours, perVM(cpuOf, ourPasses, c.pass)},
		method{keptName, perVM(cpuOf, keptPasses, c.kept.pass)},
		method{byNameName, perVM(cpuOf, namePasses, byName)})
	if err != nil {
		return err
	}
	cold, err := takeTurns(ctx, o.rounds,
		method{ours, perVM(coldCPUOf, ourColdPasses, c.pass)},
		method{keptName, perVM(coldCPUOf, theirColdPasses, c.kept.pass)},
		method{byNameName, perVM(coldCPUOf, theirColdPasses, byName)})
	if err != nil {
		return err
	}
	key := func(name string) string {
		if len(c.pids) == manyVMs {
			return name
		}
		return ""
	}
	label := func(what string) string { return fmt.Sprintf("%s, %d VMs", what, len(c.pids)) }
	r.add(key("pass_hot_us_per_vm"), label("pass, hot: "+ours+" tier "+string(c.sampler.Tier())), "us a VM", hot[ours], atMost(0.5))
	r.add("", label("pass, hot: "+keptName), "us a VM", hot[keptName], nil)
	r.add("", label("pass, hot: "+byNameName), "us a VM", hot[byNameName], nil)
	r.add(key("kept_open_ratio"), label(keptName+" / "+ours+", hot"), "times", hot[keptName].over(hot[ours]), atLeast(40))
	r.add(key("readfile_ratio"), label(byNameName+" / "+ours+", hot"), "times", hot[byNameName].over(hot[ours]), atLeast(300))
	r.add(key("pass_cold_us_per_vm"), label("pass, cold: "+ours), "us a VM", cold[ours], atMost(2))
	r.add("", label("pass, cold: "+keptName), "us a VM", cold[keptName], nil)
	r.add("", label("pass, cold: "+byNameName), "us a VM", cold[byNameName], nil)
	allocs, err := allocations(c.pass)
	if err != nil {
		return err
	}
	r.add(key("allocs_per_pass"), label("allocations"), "a pass", series{allocs}, atMost(0))
	return nil
}

// measureWoken makes passes before each of which every VM's threads ran: then
// none is spared for having slept. Only what is between two wake-ups costs.
func measureWoken(ctx context.Context, o options, r *report, c *contestants, hs []*helper) error {
	pass := func() (float64, error) {
		for _, h := range hs {
			if _, err := h.do("wake"); err != nil {
				return 0, err
			}
		}
		d, err := cpuOf(1, c.pass)
		return micros(d) / float64(len(hs)), err
	}
	got, err := takeTurns(ctx, o.rounds, method{ours, pass})
	if err != nil {
		return err
	}
	r.add("", fmt.Sprintf("pass after all threads ran: %s, %d VMs", ours, len(hs)), "us a VM", got[ours], nil)
	return nil
}

// allocations counts what a pass allocates, over many.
func allocations(pass func() error) (float64, error) {
	const passes = 200
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range passes {
		if err := pass(); err != nil {
			return 0, err
		}
	}
	runtime.ReadMemStats(&after)
	// The runtime itself allocates now and then: less than one a pass is none of
	// the sampler's.
	return float64((after.Mallocs - before.Mallocs) / passes), nil
}

const (
	loopRounds = 3
	loopTime   = 5 * time.Second
	loopEvery  = 100 * time.Millisecond
)

// measureLoop runs the whole sampling loop as an agent would, counters and taps,
// ten times a second, and the loops of the others.
func measureLoop(ctx context.Context, r *report, c *contestants) error {
	n, err := openNetwork(manyVMs)
	if err != nil {
		return err
	}
	defer n.close()
	if err := measureNetwork(ctx, loopRounds*3, r, n); err != nil {
		return err
	}
	whole := func() error {
		if err := c.pass(); err != nil {
			return err
		}
		return n.links.Read()
	}
	loops, err := takeTurns(ctx, loopRounds,
		method{ours, loopOf(ctx, whole)},
		method{"counters", loopOf(ctx, c.pass)},
		method{"taps", loopOf(ctx, n.links.Read)},
		method{"nothing", loopOf(ctx, func() error { return nil })},
		method{keptName, loopOf(ctx, c.kept.pass)},
		method{byNameName, loopOf(ctx, func() error { return readByName(c.pids) })})
	if err != nil {
		return err
	}
	r.add("loop_10hz_cpu_percent", "loop at 10 Hz, 200 VMs and taps: "+ours, "% of a CPU", loops[ours], atMost(0.7))
	r.add("", "of it: the counters alone", "% of a CPU", loops["counters"], nil)
	r.add("", "of it: the taps alone", "% of a CPU", loops["taps"], nil)
	r.add("", "of it: a loop that does nothing", "% of a CPU", loops["nothing"], nil)
	r.add("", "loop at 10 Hz, 200 VMs, no taps: "+keptName, "% of a CPU", loops[keptName], nil)
	r.add("", "loop at 10 Hz, 200 VMs, no taps: "+byNameName, "% of a CPU", loops[byNameName], nil)
	return nil
}

// loopOf is the share of a CPU that this process uses while it makes a pass
// every 100 ms.
func loopOf(ctx context.Context, pass func() error) func() (float64, error) {
	return func() (float64, error) {
		debug.FreeOSMemory() // or the runtime gives back the garbage of the method before in this one's time
		tick := time.NewTicker(loopEvery)
		defer tick.Stop()
		start, wall := clock(unix.CLOCK_PROCESS_CPUTIME_ID), clock(unix.CLOCK_MONOTONIC)
		for clock(unix.CLOCK_MONOTONIC)-wall < loopTime {
			select {
			case <-ctx.Done():
				return 0, ctx.Err()
			case <-tick.C:
			}
			if err := pass(); err != nil {
				return 0, err
			}
		}
		used := clock(unix.CLOCK_PROCESS_CPUTIME_ID) - start
		return 100 * used.Seconds() / (clock(unix.CLOCK_MONOTONIC) - wall).Seconds(), nil
	}
}
