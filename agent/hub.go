package agent

import (
	"sync"

	"headroom/agent/api"
)

// hub hands events to its subscribers. A subscriber that does not keep up loses
// events, and the loss is counted: it never holds up the agent.
type hub struct {
	mu      sync.Mutex
	next    int                    // guarded by mu
	subs    map[int]chan api.Event // guarded by mu
	dropped uint64                 // guarded by mu
}

func newHub() *hub { return &hub{subs: map[int]chan api.Event{}} }

func (h *hub) publish(ev api.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, ch := range h.subs {
		select {
		case ch <- ev:
		default:
			h.dropped++
		}
	}
}

// subscribe returns the events from now on, and the function that ends it.
func (h *hub) subscribe(buffer int) (<-chan api.Event, func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := h.next
	h.next++
	ch := make(chan api.Event, buffer)
	h.subs[id] = ch
	return ch, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.subs, id)
	}
}

func (h *hub) lost() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dropped
}
