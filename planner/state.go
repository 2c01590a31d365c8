package planner

import (
	"math/bits"
	"slices"
	"time"
)

const (
	maxRests  = 256 // pairs of VM and host that rest
	maxOrders = 64  // operator's answers
)

// Rest is a pair of VM and host that is not tried again until a time. An empty
// host means every host.
type Rest struct {
	VM    VMID      `json:"vm"`
	Host  HostID    `json:"host,omitempty"`
	Until time.Time `json:"until"`
	Why   string    `json:"why"`
}

// Order is an operator's answer to a decision that waits for approval.
type Order struct {
	VM      VMID      `json:"vm"`
	Approve bool      `json:"approve"` // false: rejected
	Until   time.Time `json:"until"`
}

// State is what Decide remembers between rounds. The zero value has seen no
// round. It is small and serialisable; every change returns a new value.
type State struct {
	// Pressed holds the last rounds, newest in bit 0; Rounds counts them up to 64.
	Pressed uint64  `json:"pressed"`
	Rounds  int     `json:"rounds"`
	Rests   []Rest  `json:"rests,omitempty"`
	Orders  []Order `json:"orders,omitempty"`
}

// round records one round's pressure.
func (s State) round(pressed bool) State {
	s.Pressed <<= 1
	if pressed {
		s.Pressed |= 1
	}
	s.Rounds = min(64, s.Rounds+1)
	return s
}

// held counts the rounds with pressure among the last window.
func (s State) held(window int) int {
	if window < 64 {
		return bits.OnesCount64(s.Pressed & (1<<window - 1))
	}
	return bits.OnesCount64(s.Pressed)
}

// NoteStarted says that a move has begun. It forgets the rounds: before the
// next move the pressure has to show itself anew, without the VM that left.
func (s State) NoteStarted() State {
	s.Pressed, s.Rounds = 0, 0
	return s
}

// expire drops what is over at now, and copies.
func (s State) expire(now time.Time) State {
	s.Rests = slices.DeleteFunc(slices.Clone(s.Rests), func(r Rest) bool { return !now.Before(r.Until) })
	s.Orders = slices.DeleteFunc(slices.Clone(s.Orders), func(o Order) bool { return !now.Before(o.Until) })
	return s
}

// maxBackoffs bounds how many times Policy.RefusalBackoff a pair rests.
const maxBackoffs = 10

// NoteRefused lets the pairs of vm and each refusing host rest, so that the next
// round looks elsewhere: as long as the host asked for, between a quarter and ten
// times Policy.RefusalBackoff. Where it did not say, ten times that if it lacks
// what no change of demand will give it, such as memory, and once otherwise. Call
// it with what Choose refused, or with the host that refused a lease or failed a
// move.
func (s State) NoteRefused(now time.Time, vm VMID, refused []RefusedDestination, p Policy) State {
	s = s.expire(now)
	for _, r := range refused {
		why := "refused"
		if len(r.Refusals) > 0 {
			why = r.Refusals[0].String()
		}
		rest := p.RefusalBackoff
		switch {
		case r.RetryAfter > 0:
			rest = min(maxBackoffs*rest, max(rest/4, r.RetryAfter))
		case slices.ContainsFunc(r.Refusals, Refusal.lasting):
			rest *= maxBackoffs
		}
		s.Rests = append(s.Rests, Rest{VM: vm, Host: r.Host, Until: now.Add(rest), Why: why})
	}
	if n := len(s.Rests) - maxRests; n > 0 {
		s.Rests = s.Rests[n:]
	}
	return s
}

// Answer records the operator's approval or rejection of moving vm, which
// holds until a time and replaces an earlier one. An approval lets a move
// happen that the rules still ask for; it overrides none of them.
func (s State) Answer(now time.Time, vm VMID, approve bool, until time.Time) State {
	s = s.expire(now)
	s.Orders = slices.DeleteFunc(s.Orders, func(o Order) bool { return o.VM == vm })
	s.Orders = append(s.Orders, Order{VM: vm, Approve: approve, Until: until})
	if n := len(s.Orders) - maxOrders; n > 0 {
		s.Orders = s.Orders[n:]
	}
	return s
}

func (s *State) order(vm VMID) (Order, bool) {
	for _, o := range s.Orders {
		if o.VM == vm {
			return o, true
		}
	}
	return Order{}, false
}

// refusing counts the hosts that refused vm lately.
func (s *State) refusing(vm VMID) int {
	n := 0
	for _, r := range s.Rests {
		if r.VM == vm && r.Host != "" {
			n++
		}
	}
	return n
}

func (s *State) rest(vm VMID, host HostID) (Rest, bool) {
	for _, r := range s.Rests {
		if r.VM == vm && (r.Host == host || r.Host == "") {
			return r, true
		}
	}
	return Rest{}, false
}
