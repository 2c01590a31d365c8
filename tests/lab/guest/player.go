package main

import (
	"os"
	"sync"
	"time"

	"headroom/tests/lab/demand"
	"headroom/tests/lab/wire"
)

// chunks is the number of pieces of a request between which its deadline is
// looked at.
const chunks = 10

// player serves a script's requests first come, first served.
type player struct {
	script demand.Script
	begin  time.Time
	piece  uint64 // iterations of a chunk

	mu      sync.Mutex
	meter   *demand.Meter
	arrived uint64 // requests taken from the meter
	done    uint64
	lost    uint64
}

func newPlayer(s demand.Script, rate float64) *player {
	return &player{
		script: s,
		begin:  time.Now(),
		piece:  uint64(rate * wire.Request.Seconds() / chunks),
		meter:  demand.NewMeter(s),
	}
}

// work serves requests for ever; one goroutine a vCPU.
func (p *player) work() {
	for {
		arrival, wait := p.next()
		if wait > 0 {
			time.Sleep(wait)
			continue
		}
		p.settle(p.serve(arrival))
	}
}

// next takes the oldest request that is still worth beginning, or says how
// long to wait for one. Requests too old to be finished in time are lost here,
// untouched, as a server sheds them.
func (p *player) next() (arrival, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		now := time.Since(p.begin)
		at, ok := p.meter.Reach(float64(p.arrived+1)*wire.Request.Seconds(), now+wire.Deadline)
		if !ok {
			return 0, wire.Deadline / 2
		}
		if at > now {
			return 0, at - now
		}
		p.arrived++
		if now+wire.Request <= at+wire.Deadline {
			return at, 0
		}
		p.lost++
	}
}

// serve works on a request until it is finished or past its deadline.
func (p *player) serve(arrival time.Duration) bool {
	deadline := arrival + wire.Deadline
	for range chunks {
		spin(p.piece)
		if time.Since(p.begin) > deadline {
			return false
		}
	}
	return true
}

func (p *player) settle(finished bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if finished {
		p.done++
	} else {
		p.lost++
	}
}

// report prints a line a second, until the console fails.
func (p *player) report() error {
	// A meter of its own: the one of the workers has run ahead. Requests that
	// wait untouched count as demanded too.
	meter := demand.NewMeter(p.script)
	var line wire.Report
	for {
		now := time.Since(p.begin)
		p.mu.Lock()
		line = wire.Report{
			Seq:      line.Seq + 1,
			Elapsed:  now,
			Demanded: meter.Work(now),
			Done:     float64(p.done) * wire.Request.Seconds(),
			Lost:     float64(p.lost) * wire.Request.Seconds(),
		}
		p.mu.Unlock()
		if _, err := os.Stdout.WriteString(line.String()); err != nil {
			return err
		}
		time.Sleep(time.Until(p.begin.Add(now.Truncate(time.Second) + time.Second)))
	}
}
