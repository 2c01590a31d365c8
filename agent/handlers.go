package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"slices"
	"sync"
	"time"

	"headroom/agent/api"
	"headroom/agent/config"
)

const (
	maxHandlers    = 8 // programs of the operator running at a time
	handlerTimeout = 30 * time.Second
	handlerGrace   = time.Second // between SIGKILL and giving up its output
	maxComplaint   = 512         // bytes of a failed handler's standard error that are logged
)

// runHandlers runs the operator's programs on events, as `serf agent
// -event-handler` does. A program gets the event as one line of JSON on its
// standard input; its kind, this host and the VM stand in HEADROOM_EVENT,
// HEADROOM_HOST and HEADROOM_VM, so that a shell script needs no parser. What it
// prints is not read, but for the first words of a failure, which are logged. A
// handler that cannot keep up loses events: it never holds up the agent.
func (a *Agent) runHandlers(ctx context.Context) error {
	handlers := a.cfg.Events.Handlers
	if len(handlers) == 0 {
		return nil
	}
	events, end := a.hub.subscribe(256)
	defer end()
	a.serveHandlers(ctx, handlers, events)
	return nil
}

// serveHandlers runs programs until ctx or the events end, and waits for them.
func (a *Agent) serveHandlers(ctx context.Context, handlers []config.Handler, events <-chan api.Event) {
	places := make(chan struct{}, maxHandlers)
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case ev, open := <-events:
			if !open {
				return
			}
			for _, h := range handlers {
				if !slices.Contains(h.On, ev.Kind) && !slices.Contains(h.On, "*") {
					continue
				}
				select {
				case places <- struct{}{}:
				case <-ctx.Done():
					return
				}
				wg.Go(func() {
					defer func() { <-places }()
					a.handle(ctx, h, ev)
				})
			}
		}
	}
}

// handle runs one program on one event.
func (a *Agent) handle(ctx context.Context, h config.Handler, ev api.Event) {
	limit := h.Timeout.Duration
	if limit <= 0 {
		limit = handlerTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	body, err := json.Marshal(ev)
	if err != nil {
		a.log.Warn("event not told to its handler", "kind", ev.Kind, "err", err)
		return
	}
	cmd := exec.CommandContext(ctx, h.Command[0], h.Command[1:]...)
	cmd.Stdin = bytes.NewReader(append(body, '\n'))
	cmd.Env = append(cmd.Environ(), "HEADROOM_EVENT="+ev.Kind, "HEADROOM_HOST="+a.o.Name, "HEADROOM_VM="+ev.VM)
	cmd.WaitDelay = handlerGrace
	var complaint firstBytes
	cmd.Stderr = &complaint
	if err := cmd.Run(); err != nil {
		a.log.Warn("event handler failed", "command", h.Command[0], "kind", ev.Kind, "err", err, "stderr", complaint.String())
	}
}

// firstBytes keeps the first maxComplaint bytes of what is written.
type firstBytes struct{ kept []byte }

func (f *firstBytes) Write(b []byte) (int, error) {
	f.kept = append(f.kept, b[:min(len(b), maxComplaint-len(f.kept))]...)
	return len(b), nil
}

func (f *firstBytes) String() string { return string(f.kept) }
