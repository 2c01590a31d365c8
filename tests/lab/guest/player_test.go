package main

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"headroom/tests/lab/demand"
	"headroom/tests/lab/wire"
)

func TestRequestsArriveOnTheScript(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlayer(demand.MustParse("constant:0.2"), 1)
		for k := 1; k <= 50; k++ {
			arrival, wait := p.next()
			for wait > 0 {
				time.Sleep(wait)
				arrival, wait = p.next()
			}
			// 0.2 cores in requests of 10 ms: one every 50 ms.
			if want := time.Duration(k) * 50 * time.Millisecond; (arrival - want).Abs() > time.Millisecond {
				t.Fatalf("request %d arrives at %v, want %v", k, arrival, want)
			}
			p.settle(true)
		}
		if p.done != 50 || p.lost != 0 {
			t.Errorf("done %d, lost %d, want 50 and 0", p.done, p.lost)
		}
	})
}

func TestRequestsTooOldAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlayer(demand.MustParse("constant:0.5"), 1)
		time.Sleep(10 * time.Second) // the machine gives the guest no time at all
		arrival, wait := p.next()
		if wait != 0 {
			t.Fatalf("nothing to do, for %v, with ten seconds of work waiting", wait)
		}
		if oldest := 10*time.Second + wire.Request - wire.Deadline; arrival < oldest || arrival > oldest+20*time.Millisecond {
			t.Errorf("the first request that can still be finished came at %v, want %v", arrival, oldest)
		}
		if lost := float64(p.lost) * wire.Request.Seconds(); math.Abs(lost-0.5*9) > 0.03 {
			t.Errorf("lost %.2f core-seconds, want those of nine seconds", lost)
		}
	})
}

func TestRequestUnfinishedAtItsDeadlineIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlayer(demand.MustParse("constant:0.5"), 1)
		time.Sleep(5 * time.Second)
		if !p.serve(5*time.Second - wire.Deadline) {
			t.Error("a request finished in time counts as lost")
		}
		if p.serve(5*time.Second - wire.Deadline - 1) {
			t.Error("a request finished late counts as done")
		}
		p.settle(false)
		if p.lost != 1 || p.done != 0 {
			t.Errorf("lost %d, done %d, want 1 and 0", p.lost, p.done)
		}
	})
}

func TestGuestWithoutDemandSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlayer(demand.MustParse("constant:0"), 1)
		for range 10 {
			_, wait := p.next()
			if wait < 100*time.Millisecond {
				t.Fatalf("an idle guest wakes after %v", wait)
			}
			time.Sleep(wait)
		}
	})
}
