package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"headroom/agent/api"
	"headroom/agent/config"
	"headroom/agent/handover"
	"headroom/agent/history"
	"headroom/planner"
	"headroom/planner/negotiate"
)

// Options is everything that an Agent is joined from. Open fills it with the
// real parts; tests and the simulated demo give their own.
type Options struct {
	Config  config.Config
	ID      planner.HostID
	Name    string
	Version string
	// DriverName names the driver in the status; Simulated marks everything
	// that the agent tells as simulated.
	DriverName string
	Simulated  bool

	Driver  Driver
	Sampler Sampler
	Links   Links // nil: network rates are absent
	Mesh    Mesh  // nil: the host stands alone
	Store   Store
	Journal handover.Journal
	Host    HostReader
	// Listener is the local socket; nil leaves it out.
	Listener net.Listener
	// MetricsListener serves Prometheus over TCP; nil leaves it out.
	MetricsListener net.Listener
	Random          *rand.Rand
	Logger          *slog.Logger
}

// Agent is one host's agent. Make it with New, run it with Run.
type Agent struct {
	o       Options
	cfg     config.Config
	policy  planner.Policy
	log     *slog.Logger
	started time.Time
	hub     *hub
	desk    *handover.Desk
	book    *book
	moves   *moves
	offers  *offerLog
	models  chan model // forecasters' states that peers hand over
	dirty   chan dirtyRate
	lookNow chan struct{}
	tagging chan struct{} // held while the tags are being told
	pausing chan struct{} // held while a peer is asked for its order to pause or resume
	// standing is what operators have ordered.
	standing *standing

	view  atomic.Pointer[view]
	needs needs
	heard newsCount

	// proposals and requests are the loop's inbox.
	proposals chan proposal
	finished  chan handover.Update
	wg        sync.WaitGroup
}

// New joins the parts into an agent. Nothing runs before Run.
func New(o Options) (*Agent, error) {
	policy, err := policyOf(o.Config)
	if err != nil {
		return nil, err
	}
	a := &Agent{
		o: o, cfg: o.Config, policy: policy, log: o.Logger, started: time.Now(), hub: newHub(),
		book:      newBook(o.Store),
		moves:     newMoves(o.Store),
		offers:    &offerLog{},
		models:    make(chan model, 16),
		dirty:     make(chan dirtyRate, 1),
		lookNow:   make(chan struct{}, 1),
		tagging:   make(chan struct{}, 1),
		pausing:   make(chan struct{}, 1),
		proposals: make(chan proposal, 4),
		finished:  make(chan handover.Update, 64),
	}
	a.needs.kept = map[asked]promised{}
	a.view.Store(&view{missing: []string{"the agent has just started"}})
	if err := errors.Join(a.book.load(), a.moves.load()); err != nil {
		return nil, err
	}
	if a.standing, err = newStanding(o.Journal); err != nil {
		return nil, err
	}
	a.desk = handover.New(a.deskOptions())
	return a, nil
}

// Run works until ctx ends or a part fails, and returns when all goroutines
// have ended.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	run := func(name string, fn func(context.Context) error) {
		a.wg.Go(func() {
			if err := fn(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	inventories := make(chan inventory, 1)
	run("history", func(ctx context.Context) error { a.o.Store.Run(ctx); return nil })
	run("hand-over", a.desk.Run)
	run("inventory", func(ctx context.Context) error { return a.takeInventory(ctx, inventories) })
	run("event handlers", a.runHandlers)
	run("dirty rates", a.measureDirty)
	run("loop", func(ctx context.Context) error { return a.loop(ctx, inventories) })
	if a.o.Mesh != nil {
		a.handlePeers()
		run("mesh", a.pumpMesh)
	}
	server := api.NewServer(a, a.metrics(), a.log)
	if a.o.Listener != nil {
		run("local socket", func(context.Context) error { return server.Serve(a.o.Listener) })
	}
	metrics := a.metricsServer(run)
	a.log.Info("agent started", "host", a.o.Name, "id", a.o.ID, "mode", a.policy.Mode, "sampler", a.o.Sampler.Tier(), "simulated", a.o.Simulated)
	<-ctx.Done()
	stopCtx, done := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer done()
	err := server.Shutdown(stopCtx)
	if metrics != nil {
		err = errors.Join(err, metrics.Shutdown(stopCtx))
	}
	a.wg.Wait()
	a.log.Info("agent stopped")
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		err = errors.Join(cause, err)
	}
	return err
}

// metricsServer starts the Prometheus listener, if there is one.
func (a *Agent) metricsServer(run func(string, func(context.Context) error)) *http.Server {
	if a.o.MetricsListener == nil {
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", a.metrics())
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second}
	run("metrics", func(context.Context) error {
		if err := s.Serve(a.o.MetricsListener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return s
}

// deskOptions joins the hand-over desk to mesh, driver and journal.
func (a *Agent) deskOptions() handover.Options {
	h := a.cfg.Handover
	return handover.Options{
		Self: negotiate.HostID(a.o.ID), Hypervisor: a.o.Driver, Journal: a.o.Journal,
		Post: a.post, DestURI: a.destURI, Admit: a.admit, Notify: a.handoverUpdate,
		Now: time.Now, Since: func() time.Duration { return time.Since(a.started) }, Random: rand.Uint64,
		Limits:        negotiate.Limits{LeaseTTL: h.Lease.Duration, MaxIncoming: a.policy.MaxIncoming},
		BandwidthMiBs: float64(h.BandwidthMiBs), MaxDowntime: h.MaxDowntime.Duration,
		NoProgress: h.NoProgress.Duration, AutoConverge: h.AutoConverge, Parallel: h.Parallel, TLS: memoryTLS(h),
		RefuseByHand: h.ByHand == "refuse",
		Logger:       a.log.With("part", "handover"),
	}
}

// event tells the followers of the event stream.
func (a *Agent) event(kind, host, vm, text string) {
	a.hub.publish(api.Event{At: time.Now().UTC(), Kind: kind, Host: host, VM: vm, Text: text})
}

// record kinds in the store.
const (
	recordDecision  = "decision"
	recordMigration = "migration"
	blobLearned     = "learned"
)

var _ Store = (*history.Store)(nil)
