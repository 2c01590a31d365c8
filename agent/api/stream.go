package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// events streams the agent's events as server-sent events: one `event:` with
// the kind and one `data:` with the JSON of Event each. A comment line every 15
// seconds keeps the connection known to be alive.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		reply(w, 0, nil, fmt.Errorf("%w: %d event streams are open already; close one", ErrConflict, maxStreams))
		return
	}
	rc := http.NewResponseController(w)
	// The stream outlives the server's read time-out.
	if err := rc.SetReadDeadline(time.Time{}); err != nil {
		reply(w, 0, nil, fmt.Errorf("stream: %w", err))
		return
	}
	ch, end := s.source.Subscribe(eventBuffer)
	defer end()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	if rc.Flush() != nil {
		return
	}
	tick := time.NewTicker(keepAliveEvery)
	defer tick.Stop()
	for {
		var err error
		select {
		case <-s.stop:
			return
		case <-r.Context().Done():
			return
		case <-tick.C:
			_, err = fmt.Fprint(w, ": alive\n\n")
		case ev, open := <-ch:
			if !open {
				return
			}
			err = writeEvent(w, ev)
		}
		if err != nil || rc.Flush() != nil {
			return // the client is gone
		}
	}
}

func writeEvent(w http.ResponseWriter, ev Event) error {
	data, err := json.Marshal(ev)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	_, err = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", ev.Kind, data)
	return err
}
