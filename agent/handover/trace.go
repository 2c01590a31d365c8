package handover

import (
	"context"
	"encoding/json"
	"log/slog"

	"headroom/planner/negotiate"
)

// TraceMessage is the message of a log record, at level debug, that tells one step
// of a state machine under TraceKey, as JSON of a negotiate.Transition.
const (
	TraceMessage = "hand-over step"
	TraceKey     = "step"
)

// trace logs a step once its record is durable and before anything is done on it, so
// that by their times the steps of all hosts follow each other as causes do. Where
// nobody listens it costs nothing.
func (d *Desk) trace(ctx context.Context, step func() negotiate.Transition) {
	if !d.o.Logger.Enabled(ctx, slog.LevelDebug) {
		return
	}
	line, err := json.Marshal(step())
	if err != nil {
		d.o.Logger.Warn("step of a hand-over not told", "err", err)
		return
	}
	d.o.Logger.Debug(TraceMessage, TraceKey, json.RawMessage(line))
}

func (d *Desk) traceSource(ctx context.Context, old negotiate.Source, ev negotiate.SourceEvent, next negotiate.Source, effects []negotiate.Effect) {
	d.trace(ctx, func() negotiate.Transition { return negotiate.SourceTransition(old, ev, next, effects) })
}

// traceDestination is called while the desk still holds the book from before.
func (d *Desk) traceDestination(ctx context.Context, vm negotiate.VMID, ev negotiate.DestinationEvent, next negotiate.Destination, effects []negotiate.Effect) {
	d.trace(ctx, func() negotiate.Transition { return negotiate.DestinationTransition(vm, d.dest, ev, next, effects) })
}
