package main

import (
	"context"
	"math/rand/v2"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// method is one way to do a thing. run does it once and returns the figure.
type method struct {
	name string
	run  func() (float64, error)
}

// takeTurns runs every method once a round, in random order, and returns the
// figures by name.
func takeTurns(ctx context.Context, rounds int, methods ...method) (map[string]series, error) {
	out := map[string]series{}
	order := rand.New(rand.NewPCG(1, 2))
	for range rounds {
		for _, i := range order.Perm(len(methods)) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			v, err := methods[i].run()
			if err != nil {
				return nil, err
			}
			out[methods[i].name] = append(out[methods[i].name], v)
		}
	}
	return out, nil
}

// cpuOf is the CPU time of this whole process that n calls use, per call: the
// garbage that a method leaves is its own.
func cpuOf(n int, call func() error) (time.Duration, error) {
	runtime.GC()
	start := clock(unix.CLOCK_PROCESS_CPUTIME_ID)
	for range n {
		if err := call(); err != nil {
			return 0, err
		}
	}
	return (clock(unix.CLOCK_PROCESS_CPUTIME_ID) - start) / time.Duration(n), nil
}

// evicted is walked before each cold call: larger than the caches.
var evicted = make([]byte, 128<<20)

// coldCPUOf is cpuOf with the caches emptied before each call.
func coldCPUOf(n int, call func() error) (time.Duration, error) {
	runtime.GC()
	var sum time.Duration
	for range n {
		for i := 0; i < len(evicted); i += 64 {
			evicted[i]++
		}
		start := clock(unix.CLOCK_PROCESS_CPUTIME_ID)
		if err := call(); err != nil {
			return 0, err
		}
		sum += clock(unix.CLOCK_PROCESS_CPUTIME_ID) - start
	}
	return sum / time.Duration(n), nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// clock reads a system clock; it cannot fail for the clocks used here.
func clock(id int32) time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(id, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
