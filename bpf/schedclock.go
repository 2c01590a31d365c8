package bpf

import "slices"

// schedClock relates CLOCK_MONOTONIC to the scheduler's own clock, which no
// program can read, but which stamps the moment a thread was given its CPU.
//
// Each pass gives one bound: the offset is at most (now - own arrival), the
// excess being how long the passing thread has run already, some microseconds
// after a wake-up. The least of the latest passes is taken. Only the latest,
// because the two clocks drift apart (by NTP, 500 ppm at worst). Erring high
// here makes what is pending too short, never too long.
type schedClock struct {
	bounds  [32]int64
	n       int
	arrival uint64 // of the latest bound
	offset  int64
	now     int64 // of the latest pass, on the scheduler's clock
}

// observe takes the two stamps of a pass; arrival 0 means there is none.
func (c *schedClock) observe(now, arrival uint64) {
	if arrival == 0 {
		c.now = 0
		return
	}
	if arrival != c.arrival { // of one arrival the first bound is the best
		c.arrival = arrival
		c.bounds[c.n%len(c.bounds)] = int64(now) - int64(arrival)
		c.n++
		c.offset = slices.Min(c.bounds[:min(c.n, len(c.bounds))])
	}
	c.now = int64(now) - c.offset
}

// pending is the time in ns that a thread queued since then has waited. It can
// exceed what the kernel adds up afterwards: after a wake-up that preempts, the
// kernel skips a clock update and forgets what passed until the switch, which
// is little unless a hypervisor below takes the CPU away just then. The
// account never falls, so the excess stands until later waits have made it up.
func (c *schedClock) pending(queued uint64) uint64 {
	if queued == 0 || int64(queued) >= c.now {
		return 0
	}
	return uint64(c.now - int64(queued))
}
