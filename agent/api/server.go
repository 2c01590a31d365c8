package api

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"
	"sync"
	"time"
)

//go:embed openapi.yaml
var openAPI []byte

// OpenAPI returns the OpenAPI 3 description of the interface, in YAML.
func OpenAPI() []byte { return bytes.Clone(openAPI) }

const (
	maxRequestBytes = 64 << 10
	maxStreams      = 32
	maxList         = 1000
	defaultList     = 20
	eventBuffer     = 256
	keepAliveEvery  = 15 * time.Second
)

// Errors that a Source returns and that the server turns into an HTTP status.
var (
	// ErrNotFound: no VM, decision or host of that name (404).
	ErrNotFound = errors.New("not found")
	// ErrConflict: the request is understood and cannot be done now (409).
	ErrConflict = errors.New("not possible now")
	// ErrInvalid: the request itself is wrong (400).
	ErrInvalid = errors.New("invalid request")
)

// Query limits a list: at most Limit items, newest first, of one VM if VM is
// not empty.
type Query struct {
	Limit int
	VM    string
}

// Source is what the server needs of the agent. Reads must not block on
// libvirt, the kernel or the network.
type Source interface {
	Status() Status
	VMs() []VM
	Forecast(vm string) (VMForecast, error)
	// History is the CPU demand kept of a VM for the time back; step 0 is the
	// source's choice.
	History(vm string, back, step time.Duration) (History, error)
	Slots() []Slot
	Members() []Member
	Offers(q Query) []Offer
	Decisions(q Query) ([]Decision, error)
	Decision(id string) (Decision, error)
	Migrations(q Query) ([]Migration, error)
	// Subscribe returns the events from now on; a slow reader loses events
	// rather than holding up the agent. The function ends the subscription.
	Subscribe(buffer int) (<-chan Event, func())
	// Migrate starts a move on an operator's word.
	Migrate(ctx context.Context, vm, to string) (MigrateReply, error)
	// Incoming answers libvirt's hook, which libvirt waits for: it must not ask
	// libvirt anything.
	Incoming(ctx context.Context, r IncomingRequest) (IncomingReply, error)
	Orphans() []Orphan
	// Override ends a hand-over on an operator's word.
	Override(ctx context.Context, vm string, r OverrideRequest) error
	// Drain says how far the emptying of this host is; SetDrain orders it or takes
	// the order back. An order is durable before it is answered.
	Drain() Drain
	SetDrain(on bool, reason string) (Drain, error)
	// Pause is the cluster's last order to pause or resume; SetPause gives one.
	Pause() Pause
	SetPause(on bool, reason string, lasts time.Duration) (Pause, error)
	// Answer approves or rejects the decision of that id, if it waits for it.
	Answer(id string, approve bool) (AnswerReply, error)
	// Plan makes a round on trial. Unlike the other reads it asks peers.
	Plan(ctx context.Context) (Plan, error)
	// Explain tells why a VM (name or UUID) stays or moved, or why a decision was made.
	Explain(what string) (Explanation, error)
}

// Server answers on the local socket.
type Server struct {
	source  Source
	metrics http.Handler
	log     *slog.Logger
	http    *http.Server
	streams chan struct{} // bounds the event streams
	stop    chan struct{} // closed on Shutdown: ends the event streams
	once    sync.Once
}

// NewServer returns a server for source. metrics answers /v1/metrics; nil
// leaves that path out.
func NewServer(source Source, metrics http.Handler, log *slog.Logger) *Server {
	s := &Server{
		source:  source,
		metrics: metrics,
		log:     log,
		streams: make(chan struct{}, maxStreams),
		stop:    make(chan struct{}),
	}
	s.http = &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	return s
}

// Handler is the server's routing, for tests and for embedding.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	get := func(path string, fn func(*http.Request) (any, error)) {
		mux.HandleFunc("GET /"+Version+path, func(w http.ResponseWriter, r *http.Request) {
			v, err := fn(r)
			reply(w, http.StatusOK, v, err)
		})
	}
	get("/status", func(*http.Request) (any, error) { return s.source.Status(), nil })
	get("/host", func(*http.Request) (any, error) { return s.source.Status().Host, nil })
	get("/vms", func(*http.Request) (any, error) { return list(s.source.VMs()), nil })
	get("/vms/{vm}/forecast", func(r *http.Request) (any, error) { return s.source.Forecast(r.PathValue("vm")) })
	get("/vms/{vm}/history", s.history)
	get("/slots", func(*http.Request) (any, error) { return list(s.source.Slots()), nil })
	get("/members", func(*http.Request) (any, error) { return list(s.source.Members()), nil })
	get("/offers", queried(func(q Query) ([]Offer, error) { return s.source.Offers(q), nil }))
	get("/decisions", queried(s.source.Decisions))
	get("/decisions/{id}", func(r *http.Request) (any, error) { return s.source.Decision(r.PathValue("id")) })
	get("/migrations", queried(s.source.Migrations))
	get("/orphans", func(*http.Request) (any, error) { return list(s.source.Orphans()), nil })
	s.explain(get)
	mux.HandleFunc("POST /"+Version+"/vms/{vm}/migrate", s.migrate)
	mux.HandleFunc("POST /"+Version+"/vms/{vm}/override", s.override)
	mux.HandleFunc("POST /"+Version+"/incoming", s.incoming)
	s.orders(mux)
	mux.HandleFunc("GET /"+Version+"/events", s.events)
	mux.HandleFunc("GET /"+Version+"/openapi.yaml", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(openAPI)
	})
	if s.metrics != nil {
		mux.Handle("GET /"+Version+"/metrics", s.metrics)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		reply(w, 0, nil, fmt.Errorf("%w: no %s %s in version %s of this interface; see /%s/openapi.yaml",
			ErrNotFound, r.Method, r.URL.Path, Version, Version))
	})
	return mux
}

// list makes an empty list of a nil one, so that JSON shows [] and not null.
func list[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}

// queried adapts a list that takes ?limit= and ?vm=.
func queried[T any](fn func(Query) ([]T, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		q := Query{Limit: defaultList, VM: r.URL.Query().Get("vm")}
		if text := r.URL.Query().Get("limit"); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 || n > maxList {
				return nil, fmt.Errorf("%w: limit %q: give a whole number from 1 to %d", ErrInvalid, text, maxList)
			}
			q.Limit = n
		}
		items, err := fn(q)
		return list(items), err
	}
}

const (
	defaultBack = time.Hour
	maxBack     = 400 * 24 * time.Hour
)

func (s *Server) history(r *http.Request) (any, error) {
	back, err := duration(r, "back_s", defaultBack)
	if err != nil {
		return nil, err
	}
	step, err := duration(r, "step_s", 0)
	if err != nil {
		return nil, err
	}
	h, err := s.source.History(r.PathValue("vm"), back, step)
	h.Points = list(h.Points)
	return h, err
}

// duration reads a number of seconds from the query.
func duration(r *http.Request, name string, byDefault time.Duration) (time.Duration, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return byDefault, nil
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !(v >= 0 && v <= maxBack.Seconds()) {
		return 0, fmt.Errorf("%w: %s %q: give seconds from 0 to %.0f", ErrInvalid, name, text, maxBack.Seconds())
	}
	return time.Duration(v * float64(time.Second)), nil
}

func (s *Server) migrate(w http.ResponseWriter, r *http.Request) {
	var req MigrateRequest
	if err := decode(w, r, &req); err != nil {
		reply(w, 0, nil, err)
		return
	}
	v, err := s.source.Migrate(r.Context(), r.PathValue("vm"), req.To)
	reply(w, http.StatusAccepted, v, err)
}

func (s *Server) incoming(w http.ResponseWriter, r *http.Request) {
	var req IncomingRequest
	if err := decode(w, r, &req); err != nil {
		reply(w, 0, nil, err)
		return
	}
	v, err := s.source.Incoming(r.Context(), req)
	reply(w, http.StatusOK, v, err)
}

func (s *Server) override(w http.ResponseWriter, r *http.Request) {
	var req OverrideRequest
	if err := decode(w, r, &req); err != nil {
		reply(w, 0, nil, err)
		return
	}
	vm := r.PathValue("vm")
	reply(w, http.StatusOK, OverrideReply{VM: vm, Action: req.Action}, s.source.Override(r.Context(), vm, req))
}

// reply writes v, or the error in the interface's form.
func reply(w http.ResponseWriter, code int, v any, err error) {
	if err != nil {
		code, v = errorReply(err)
	}
	body, err := json.Marshal(v)
	if err != nil {
		code, v = errorReply(fmt.Errorf("encode answer: %w", err))
		body, _ = json.Marshal(v) // two strings: cannot fail
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n')) // the client is gone when this fails
}

func errorReply(err error) (int, ErrorReply) {
	code, name := http.StatusInternalServerError, "internal"
	switch {
	case errors.Is(err, ErrNotFound):
		code, name = http.StatusNotFound, "not_found"
	case errors.Is(err, ErrConflict):
		code, name = http.StatusConflict, "conflict"
	case errors.Is(err, ErrInvalid):
		code, name = http.StatusBadRequest, "invalid"
	}
	return code, ErrorReply{Code: name, Message: err.Error()}
}

// Listen makes the socket at path with mode 0660 for group. A stale socket
// file of a dead agent is replaced; one that answers is an error.
func Listen(path, group string) (net.Listener, error) {
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("socket %s: another agent answers there; stop it first", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove stale socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w; does its directory exist?", path, err)
	}
	if err := own(path, group); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func own(path, group string) error {
	if err := os.Chmod(path, 0o660); err != nil {
		return fmt.Errorf("socket mode: %w", err)
	}
	if group == "" {
		return nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return fmt.Errorf("socket group %s: %w; create it with `groupadd --system %s` or set agent.socket_group to \"\"", group, err, group)
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return fmt.Errorf("socket group %s: gid %q: %w", group, g.Gid, err)
	}
	if err := os.Chown(path, -1, gid); err != nil {
		return fmt.Errorf("socket group %s: %w", group, err)
	}
	return nil
}

// Serve answers on l until Shutdown; it returns nil after a Shutdown.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the local socket: %w", err)
	}
	return nil
}

// Shutdown ends the event streams, lets running requests finish until ctx
// ends, and removes the socket.
func (s *Server) Shutdown(ctx context.Context) error {
	s.once.Do(func() { close(s.stop) })
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("shut the local socket down: %w", err), s.http.Close())
	}
	return nil
}
