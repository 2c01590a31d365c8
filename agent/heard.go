package agent

import (
	"sync"
	"time"

	"headroom/planner"
)

// maxHeard bounds the moves remembered; beyond it the oldest are forgotten.
const maxHeard = 4096

// newsCount counts the moves that the cluster's news told of in the last hour.
type newsCount struct {
	mu   sync.Mutex
	list []heardMove // oldest first; guarded by mu
}

type heardMove struct {
	at time.Time
	ok bool
}

func (n *newsCount) add(at time.Time, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.list = append(n.list, heardMove{at, ok}); len(n.list) > maxHeard {
		n.list = n.list[1:]
	}
}

func (n *newsCount) lastHour(now time.Time) planner.MoveCount {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.list) > 0 && now.Sub(n.list[0].at) > time.Hour {
		n.list = n.list[1:]
	}
	c := planner.MoveCount{Moves: len(n.list)}
	for _, m := range n.list {
		if !m.ok {
			c.Failed++
		}
	}
	return c
}
