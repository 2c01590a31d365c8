package planner

import (
	"strings"
	"testing"
	"time"
)

// TestUrgentNeedEndsRest: cool-down and return ban bind unless the gain, here 6.0 of
// least 0.5 core-seconds, is enough times the least one, twice as many for each further
// move in 24 h.
func TestUrgentNeedEndsRest(t *testing.T) {
	for _, c := range []struct {
		factor float64
		moves  int
		free   bool
	}{{0, 1, false}, {11, 1, true}, {13, 1, false}, {11, 2, false}, {5.5, 2, true}, {5.5, 3, false}, {0.01, 9, true}} {
		for _, kind := range []Kind{RefuseCooldown, RefuseReturn} {
			h, peer, p := pressed()
			p.UrgentFactor = c.factor
			for i := range h.VMs {
				hist := &h.VMs[i].History
				hist.LastMoved = epoch.Add(-59 * time.Second)
				if kind == RefuseReturn { // and the cool-down is over
					p.Cooldown, p.CooldownCap = 1, 1
					hist.LastFrom = "b"
				}
				for k := range c.moves {
					hist.Moves = append(hist.Moves, hist.LastMoved.Add(-time.Duration(k)*time.Hour))
				}
			}
			d := decide(h, peer, State{}, p)
			if free := d.Action == ActionMove; free != c.free {
				t.Errorf("%s, factor %v, move %d: %s", kind, c.factor, c.moves, d.Explain())
			}
			if tells := strings.Contains(d.Explain(), "; sooner for a gain of"); tells != (!c.free && c.factor > 0) {
				t.Errorf("%s, factor %v, move %d: tells what would end the rest: %v: %s", kind, c.factor, c.moves, tells, d.Explain())
			}
			word := map[Kind]string{RefuseCooldown: "urgent, so its cool-down", RefuseReturn: "urgent, so it may return to b"}[kind]
			if tells := strings.Contains(d.Reason, word); tells != c.free {
				t.Errorf("%s, factor %v, move %d: the reason says why: %v: %s", kind, c.factor, c.moves, tells, d.Reason)
			}
		}
	}
}

// TestRoomIsNotUrgent: what another host's VM would gain does not break a rest here.
func TestRoomIsNotUrgent(t *testing.T) {
	for _, rests := range []bool{false, true} {
		a, b, p := packed()
		a.VMs[1].Policy.Pin = PinHere
		p.UrgentFactor = 0.1
		ask(t, epoch, a, b, p)
		for i := range b.VMs {
			if rests {
				b.VMs[i].History = MoveHistory{LastFrom: "c", LastMoved: epoch.Add(-time.Second)}
			}
		}
		if d, _, _ := ask(t, epoch.Add(time.Second), b, a, p); (d.Action == ActionMove) == rests {
			t.Errorf("they rest: %v: %s", rests, d.Explain())
		}
	}
}

// TestNothingIsUrgentWithoutALeastGain: nought times a factor is no threshold.
func TestNothingIsUrgentWithoutALeastGain(t *testing.T) {
	h, peer, p := pressed()
	p.UrgentFactor, p.MinGain, p.MinGainShare = 5, 0, 0
	for i := range h.VMs {
		h.VMs[i].History.LastMoved = epoch.Add(-time.Second)
	}
	if d := decide(h, peer, State{}, p); d.Action != ActionStuck {
		t.Errorf("moves in its cool-down: %s", d.Explain())
	}
}

// TestAReturnInTimeIsNotUrgent: a reason names urgency only where a rest was broken.
func TestAReturnInTimeIsNotUrgent(t *testing.T) {
	h, peer, p := pressed()
	p.UrgentFactor = 1
	for i := range h.VMs {
		h.VMs[i].History = MoveHistory{LastFrom: "b", LastMoved: epoch.Add(-p.ReturnAfter)}
	}
	if d := decide(h, peer, State{}, p); d.Action != ActionMove || strings.Contains(d.Reason, "urgent") {
		t.Errorf("%s", d.Explain())
	}
}
