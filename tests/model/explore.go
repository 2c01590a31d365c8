package model

import (
	"fmt"
	"slices"
	"strings"
)

// Result is what a search found.
type Result struct {
	States, Settled int
	Broken          string   // the first invariant that broke, by a shortest way; or "Settles: ..."
	Trace           []string // the way there
	Complete        bool     // every state within the bounds was visited
}

// node is how a state was first reached.
type node struct {
	parent int32
	action Action
}

// search is a breadth-first walk over all orders of actions.
type search struct {
	cfg     Config
	nodes   []node
	known   map[uint64]int32
	settled []int32
	edges   [][2]int32 // by actions that need no fault, from and to
	worlds  []*World   // of the states not yet expanded
	first   int32      // id of worlds[0]
}

// Explore visits every state that the configuration can reach, up to a limit.
// It checks the invariants in each, and that from each the world can settle
// without a fault, a new attempt or anything else that nobody owes it.
func Explore(cfg Config, limit int) Result {
	cfg.Untimed = true
	s := &search{cfg: cfg, known: map[uint64]int32{}}
	s.add(New(cfg, 0), node{parent: -1})
	for len(s.worlds) > 0 && len(s.nodes) < limit {
		w, id := s.worlds[0], s.first
		s.worlds[0] = nil
		s.worlds, s.first = s.worlds[1:], s.first+1
		if broken, at := s.expand(w, id); broken != "" {
			return s.result(broken, at)
		}
	}
	r := s.result("", -1)
	r.Complete = len(s.worlds) == 0
	if r.Complete {
		if stuck := s.stuck(); stuck >= 0 {
			r.Broken, r.Trace = "Settles: no way to an end", s.trace(stuck)
		}
	}
	return r
}

// expand performs every action that is possible in a state.
func (s *search) expand(w *World, id int32) (string, int32) {
	if ok, _ := w.Settled(); ok {
		s.settled = append(s.settled, id)
	}
	var all []Action
	for _, a := range w.Actions(nil) {
		all = append(all, a)
		all = w.CrashPoints(a, all)
	}
	for _, a := range all {
		next := w.Clone()
		broken := next.Do(a)
		if a.Crash > 0 && next.Hosts[a.Host].Agent {
			continue // the step had no such effect: the same as without the crash
		}
		if a.Crash == journalFails && next.Budget.JournalFailures == w.Budget.JournalFailures {
			continue
		}
		next.dropIdleTimers()
		to := s.add(next, node{id, a})
		if broken != "" {
			return broken, to
		}
		if !a.Fault() && !a.Begins() && to != id {
			s.edges = append(s.edges, [2]int32{to, id})
		}
	}
	return "", -1
}

func (s *search) add(w *World, n node) int32 {
	f := w.Fingerprint()
	if id, ok := s.known[f]; ok && w.broken == "" {
		return id
	}
	id := int32(len(s.nodes))
	s.known[f] = id
	s.nodes = append(s.nodes, n)
	s.worlds = append(s.worlds, w)
	return id
}

// stuck finds a state from which no settled one can be reached, or -1.
func (s *search) stuck() int32 {
	slices.SortFunc(s.edges, func(a, b [2]int32) int { return int(a[0]) - int(b[0]) })
	start := make([]int32, len(s.nodes)+1)
	for _, e := range s.edges {
		start[e[0]+1]++
	}
	for i := range len(s.nodes) {
		start[i+1] += start[i]
	}
	reach := make([]bool, len(s.nodes))
	queue := slices.Clone(s.settled)
	for _, id := range queue {
		reach[id] = true
	}
	for len(queue) > 0 {
		id := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, e := range s.edges[start[id]:start[id+1]] {
			if !reach[e[1]] {
				reach[e[1]] = true
				queue = append(queue, e[1])
			}
		}
	}
	return int32(slices.Index(reach, false))
}

func (s *search) result(broken string, at int32) Result {
	r := Result{States: len(s.nodes), Settled: len(s.settled), Broken: broken}
	if at >= 0 {
		r.Trace = s.trace(at)
	}
	return r
}

// trace performs the way to a state again, and writes it down.
func (s *search) trace(id int32) []string {
	var actions []Action
	for ; s.nodes[id].parent >= 0; id = s.nodes[id].parent {
		actions = append(actions, s.nodes[id].action)
	}
	slices.Reverse(actions)
	var lines []string
	cfg := s.cfg
	cfg.Trace = func(format string, args ...any) {
		lines = append(lines, strings.TrimRight(fmt.Sprintf(format, args...), "\n"))
	}
	w := New(cfg, 0)
	for _, a := range actions {
		w.Do(a)
		w.dropIdleTimers()
	}
	return lines
}

// dropIdleTimers forgets timers that would do nothing now. Whoever needs one
// later sets it again.
func (w *World) dropIdleTimers() {
	for h := range w.Hosts {
		host := &w.Hosts[h]
		host.Timers = slices.DeleteFunc(host.Timers, func(t Timer) bool { return w.idle(h, t) })
	}
}
