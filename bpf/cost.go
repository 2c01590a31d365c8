package bpf

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// costMeter times passes on the calling thread's CPU clock and on the wall.
type costMeter struct {
	mu                 sync.Mutex // the cost is asked for while passes go on
	passes             uint64
	cpu0, wall0        time.Duration
	lastCPU, lastWall  time.Duration
	totalCPU, totalRun time.Duration
}

func (m *costMeter) begin() {
	m.cpu0 = clock(unix.CLOCK_THREAD_CPUTIME_ID)
	m.wall0 = clock(unix.CLOCK_MONOTONIC)
}

func (m *costMeter) end() {
	cpu, wall := clock(unix.CLOCK_THREAD_CPUTIME_ID)-m.cpu0, clock(unix.CLOCK_MONOTONIC)-m.wall0
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lastCPU, m.lastWall = cpu, wall
	m.totalCPU += m.lastCPU
	m.totalRun += m.lastWall
	m.passes++
}

func (m *costMeter) cost() Cost {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := Cost{Passes: m.passes, LastCPU: m.lastCPU, LastWall: m.lastWall}
	if m.passes > 0 {
		c.MeanCPU = m.totalCPU / time.Duration(m.passes)
		c.MeanWall = m.totalRun / time.Duration(m.passes)
	}
	return c
}

// clock reads a system clock. It cannot fail for the clocks used here.
func clock(id int32) time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(id, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
