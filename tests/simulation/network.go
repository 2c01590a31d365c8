package simulation

import (
	"time"

	"headroom/planner/negotiate"
	"headroom/tests/model"
)

// latency is a message's way, seldom a long one: so messages overtake each other.
func (w *world) latency() time.Duration {
	if w.chance(w.rates.late) {
		return w.between(10*time.Millisecond, w.rates.maxLate)
	}
	return w.between(100*time.Microsecond, 2*time.Millisecond)
}

// carry runs arrive at the receiver: never, once or twice.
func (w *world) carry(from, to int, arrive func()) {
	times := 1
	if w.chance(w.rates.loss) {
		times = 0
	} else if w.chance(w.rates.duplicate) {
		times = 2
	}
	for range times {
		w.after(w.latency(), func() {
			if !w.parted(from, to) && w.hosts[to].up {
				arrive()
			}
		})
	}
}

// send carries one message of a hand-over, encoded as on the wire.
func (w *world) send(from, to int, m negotiate.Message) {
	body, err := m.Encode()
	if err != nil {
		w.violate("Wire: %v", err)
		return
	}
	w.carry(from, to, func() {
		m, err := negotiate.DecodeMessage(body)
		if err != nil {
			w.violate("Wire: %v", err)
			return
		}
		w.deliver(from, to, m)
	})
}

func (w *world) deliver(from, to int, m negotiate.Message) {
	h, v := w.hosts[to], w.vmOf[m.VM]
	ev := negotiate.Received{From: w.hosts[from].id, Message: m}
	switch m.Kind {
	case negotiate.Granted, negotiate.Refused, negotiate.Ack, negotiate.StatusReply:
		s := h.agent.sources[v]
		if m.Kind == negotiate.Refused && s.Phase == negotiate.PhaseReserving && s.Next == 1 && s.Record.Attempt == m.Attempt && s.Record.To == ev.From {
			w.stats.FirstRefusals++
		}
		w.post(h, input{vm: v, src: ev})
		return
	case negotiate.Commit, negotiate.Abort:
		if e, ok := h.agent.dest.Entry(m.VM); ok && w.cfg.Mutant == model.MutantTokensNotCompared {
			ev.Message.Attempt, ev.Message.Lease = e.Record.Attempt, e.Record.Lease
		}
	}
	w.post(h, input{vm: v, dst: ev})
}
