package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a Source with every optional field set, so that the whole shape is
// seen on the wire.
type fake struct {
	events  chan Event
	ended   chan struct{}
	migrate func(vm, to string) (MigrateReply, error)
}

func (f *fake) Status() Status {
	return Status{HostID: "h1", HostName: "alpha", NotReady: []string{}, Host: f.host(),
		Sampler: SamplerStatus{Refused: []string{}}, Mesh: MeshStatus{Refused: map[string]uint64{"foreign_ca": 2}}}
}

func (f *fake) host() Host {
	return Host{ID: "h1", ContentionInS: ptr(12.5), Forecast: fakeForecast()}
}

func fakeForecast() Forecast {
	return Forecast{Unit: "cores", Levels: []float64{0.5}, Steps: [][]float64{{0.1}}, Peak: []float64{0.2},
		Members: []ForecasterMember{{Name: "naive", Loss: ptr(0.1)}}}
}

func (f *fake) VMs() []VM {
	return []VM{{ID: "v1", Name: "web", Absent: []string{"io: closed"}, HotSpots: []string{}}}
}
func (f *fake) Forecast(vm string) (VMForecast, error) {
	if vm != "web" {
		return VMForecast{}, fmt.Errorf("VM %q: %w on this host", vm, ErrNotFound)
	}
	return VMForecast{VM: "v1", Name: "web", CPU: fakeForecast(), HotSpots: []string{}}, nil
}
func (f *fake) History(vm string, back, step time.Duration) (History, error) {
	if vm != "web" {
		return History{}, fmt.Errorf("VM %q: %w on this host", vm, ErrNotFound)
	}
	return History{VM: "v1", Name: "web", StepS: step.Seconds(), Points: []HistoryPoint{{At: time.Unix(int64(back.Seconds()), 0).UTC(), Cores: 1}}}, nil
}
func (f *fake) Slots() []Slot     { return []Slot{{Class: "small", Until: time.Unix(1, 0).UTC()}} }
func (f *fake) Members() []Member { return []Member{{ID: "h1", Free: map[string]int{"small": 1}}} }
func (f *fake) Offers(Query) []Offer {
	return nil // a nil list must still be [] on the wire
}
func (f *fake) Decisions(q Query) ([]Decision, error) {
	d := Decision{ID: "d1", Considered: []Considered{{Reason: "r", Terms: []CostTerm{{Name: "copy"}}}}, ContentionAt: ptr(time.Unix(2, 0).UTC())}
	return slices.Repeat([]Decision{d}, min(q.Limit, 3)), nil
}
func (f *fake) Decision(id string) (Decision, error) {
	if id != "d1" {
		return Decision{}, fmt.Errorf("decision %q: %w", id, ErrNotFound)
	}
	return Decision{ID: "d1", Considered: []Considered{}, Record: map[string]any{"a": 1}}, nil
}
func (f *fake) Migrations(Query) ([]Migration, error) { return []Migration{{ID: "m1"}}, nil }
func (f *fake) Subscribe(int) (<-chan Event, func())  { return f.events, func() { close(f.ended) } }
func (f *fake) Migrate(_ context.Context, vm, to string) (MigrateReply, error) {
	return f.migrate(vm, to)
}

func (f *fake) Orphans() []Orphan {
	return []Orphan{{VM: "v1", Name: "web", Role: "destination", Peer: "h2", Attempt: 3, State: "incoming", Here: "paused", WaitsS: 61}}
}
func (f *fake) Override(_ context.Context, vm string, r OverrideRequest) error {
	if r.Evidence == "" {
		return fmt.Errorf("%w: no evidence", ErrInvalid)
	}
	return nil
}

func (f *fake) Incoming(_ context.Context, r IncomingRequest) (IncomingReply, error) {
	if r.Lease == "" {
		return IncomingReply{Reason: "no lease"}, nil
	}
	return IncomingReply{Allow: true}, nil
}

func (f *fake) Drain() Drain { return Drain{Draining: true, Since: ptr(time.Unix(3, 0).UTC()), VMs: 2} }
func (f *fake) SetDrain(on bool, reason string) (Drain, error) {
	return Drain{Draining: on, Reason: reason}, nil
}
func (f *fake) Pause() Pause {
	return Pause{Paused: true, Version: 3, Until: ptr(time.Unix(4, 0).UTC())}
}
func (f *fake) SetPause(on bool, reason string, lasts time.Duration) (Pause, error) {
	return Pause{Paused: on, Reason: reason, Until: ptr(time.Unix(0, 0).Add(lasts).UTC())}, nil
}
func (f *fake) Answer(id string, approve bool) (AnswerReply, error) {
	if id != "d1" {
		return AnswerReply{}, fmt.Errorf("decision %q: %w", id, ErrNotFound)
	}
	return AnswerReply{Decision: id, Approved: approve}, nil
}

func (f *fake) Plan(context.Context) (Plan, error) {
	return Plan{Decision: Decision{Considered: []Considered{}}, Text: []string{"stay"}, Learned: Learned{Links: []LearnedLink{{Peer: "beta"}}}}, nil
}
func (f *fake) Explain(what string) (Explanation, error) {
	if what == "nosuch" {
		return Explanation{}, fmt.Errorf("%q: %w", what, ErrNotFound)
	}
	return Explanation{VM: what, Decision: Decision{Considered: []Considered{}}, Text: []string{"because"}, Learned: Learned{Links: []LearnedLink{}},
		Deciding: &Deciding{By: "gain", Factor: ptr(2.1)}, Verdict: &Verdict{Finding: "better"}, VerdictDue: ptr(time.Unix(5, 0).UTC())}, nil
}

func ptr[T any](v T) *T { return &v }

// serve runs a server on a socket and returns a client and the raw HTTP client.
func serve(t *testing.T, f *fake) (*Client, *Server) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.sock")
	l, err := Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(f, nil, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	c := NewClient(path)
	t.Cleanup(func() {
		c.http.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c, s
}

// TestServerMatchesOpenAPI sends each GET of the description to the server and
// validates the answer against its schema.
func TestServerMatchesOpenAPI(t *testing.T) {
	doc := loadDoc(t)
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := serve(t, &fake{})
	fill := strings.NewReplacer("{vm}", "web", "{id}", "d1", "{what}", "web")
	missing := strings.NewReplacer("{vm}", "nosuch", "{id}", "nosuch", "{what}", "nosuch")
	for path, item := range doc.Paths.Map() {
		if item.Get == nil || strings.HasSuffix(path, "/events") || strings.HasSuffix(path, "/metrics") {
			continue
		}
		validate(t, router, c, fill.Replace(path), http.StatusOK)
		if p := missing.Replace(path); p != path {
			validate(t, router, c, p, http.StatusNotFound)
		}
		if item.Get.Parameters.GetByInAndName("query", "limit") != nil {
			validate(t, router, c, path+"?limit=2", http.StatusOK)
		}
	}
	// An out-of-range limit must be refused, not clamped in silence.
	resp, err := c.send(t.Context(), http.MethodGet, "/decisions", map[string][]string{"limit": {"0"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("limit=0: status %d, want 400", resp.StatusCode)
	}
}

func loadDoc(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(OpenAPI())
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return doc
}

func validate(t *testing.T, router routers.Router, c *Client, path string, want int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://headroom"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != want {
		t.Errorf("GET %s: status %d, want %d: %s", path, resp.StatusCode, want, body)
		return
	}
	route, params, err := router.FindRoute(req)
	if err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	in := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route},
		Status:                 resp.StatusCode, Header: resp.Header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	in.SetBodyBytes(body)
	if err := openapi3filter.ValidateResponse(t.Context(), in); err != nil {
		t.Errorf("GET %s does not match openapi.yaml: %v", path, err)
	}
}

// TestSchemasMatchTypes holds every schema against its Go type, field by
// field: optional fields, which an answer may leave out, are seen only here.
func TestSchemasMatchTypes(t *testing.T) {
	doc := loadDoc(t)
	types := []any{Status{}, HypervisorStatus{}, SamplerStatus{}, MeshStatus{}, HistoryStatus{}, SelfStatus{}, Host{},
		VM{}, VMBlockIO{}, VMWaitTail{}, VMExits{}, Forecast{}, ForecasterMember{}, VMForecast{}, History{}, HistoryPoint{},
		Slot{}, Member{}, Offer{}, CostTerm{}, Considered{}, Decision{}, Migration{}, Event{}, MigrateRequest{},
		MigrateReply{}, IncomingRequest{}, IncomingReply{}, Orphan{}, OverrideRequest{}, OverrideReply{}, Drain{}, DrainRequest{}, Pause{},
		PauseRequest{}, AnswerReply{}, Plan{}, Explanation{}, Deciding{}, Verdict{}, Learned{}, LearnedLink{}, ErrorReply{}}
	if len(types) != len(doc.Components.Schemas) {
		t.Errorf("%d types, %d schemas", len(types), len(doc.Components.Schemas))
	}
	for _, v := range types {
		ty := reflect.TypeOf(v)
		ref, ok := doc.Components.Schemas[ty.Name()]
		if !ok {
			t.Errorf("no schema %s", ty.Name())
			continue
		}
		var names, required []string
		for i := range ty.NumField() {
			name, opt, _ := strings.Cut(ty.Field(i).Tag.Get("json"), ",")
			names = append(names, name)
			if opt == "" {
				required = append(required, name)
			}
		}
		slices.Sort(names)
		slices.Sort(required)
		var have []string
		for name := range ref.Value.Properties {
			have = append(have, name)
		}
		slices.Sort(have)
		slices.Sort(ref.Value.Required)
		if !slices.Equal(names, have) {
			t.Errorf("%s: fields %v, schema %v", ty.Name(), names, have)
		}
		if !slices.Equal(required, ref.Value.Required) {
			t.Errorf("%s: required fields %v, schema %v", ty.Name(), required, ref.Value.Required)
		}
	}
}

func TestClientSeesTypedErrors(t *testing.T) {
	f := &fake{migrate: func(vm, to string) (MigrateReply, error) {
		if to == "busy" {
			return MigrateReply{}, fmt.Errorf("VM %s: %w: a move is running", vm, ErrConflict)
		}
		return MigrateReply{VM: vm, To: to, Attempt: 3}, nil
	}}
	c, _ := serve(t, f)
	if _, err := c.Forecast(t.Context(), "nosuch"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("forecast of an unknown VM: %v", err)
	}
	h, err := c.History(t.Context(), "web", 90*time.Second, 500*time.Millisecond)
	if err != nil || h.StepS != 0.5 || h.Points[0].At.Unix() != 90 {
		t.Errorf("history: %+v, %v", h, err)
	}
	if _, err := c.History(t.Context(), "web", -time.Second, 0); !errors.Is(err, ErrInvalid) {
		t.Errorf("history of a negative time: %v", err)
	}
	if _, err := c.Migrate(t.Context(), "web", "busy"); !errors.Is(err, ErrConflict) {
		t.Errorf("migrate of a busy VM: %v", err)
	}
	got, err := c.Migrate(t.Context(), "web", "beta")
	if err != nil || got.Attempt != 3 || got.To != "beta" {
		t.Errorf("migrate: %+v, %v", got, err)
	}
	for lease, want := range map[string]IncomingReply{"l1": {Allow: true}, "": {Reason: "no lease"}} {
		if in, err := c.Incoming(t.Context(), IncomingRequest{VM: "v1", Lease: lease}); err != nil || in != want {
			t.Errorf("incoming with lease %q: %+v, %v", lease, in, err)
		}
	}
	if err := c.Override(t.Context(), "web", OverrideRequest{Action: "resume", By: "me", Evidence: "h2 is off"}); err != nil {
		t.Errorf("override: %v", err)
	}
	if err := c.Override(t.Context(), "web", OverrideRequest{Action: "resume", By: "me"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("override without evidence: %v", err)
	}
	none := NewClient(filepath.Join(t.TempDir(), "none.sock"))
	if _, err := none.Status(t.Context()); !errors.Is(err, ErrNoAgent) {
		t.Errorf("status without an agent: %v", err)
	}
}

func TestOrdersReachTheSource(t *testing.T) {
	c, _ := serve(t, &fake{})
	if d, err := c.SetDrain(t.Context(), true, "new disks"); err != nil || !d.Draining || d.Reason != "new disks" {
		t.Errorf("drain: %+v, %v", d, err)
	}
	if d, err := c.SetDrain(t.Context(), false, ""); err != nil || d.Draining {
		t.Errorf("undrain: %+v, %v", d, err)
	}
	if p, err := c.SetPause(t.Context(), true, "switch", 90*time.Second); err != nil || !p.Paused || p.Until.Unix() != 90 {
		t.Errorf("pause: %+v, %v", p, err)
	}
	if p, err := c.SetPause(t.Context(), false, "", 0); err != nil || p.Paused {
		t.Errorf("resume: %+v, %v", p, err)
	}
	for _, approve := range []bool{true, false} {
		if a, err := c.Answer(t.Context(), "d1", approve); err != nil || a.Approved != approve {
			t.Errorf("answer %v: %+v, %v", approve, a, err)
		}
		if _, err := c.Answer(t.Context(), "d2", approve); !errors.Is(err, ErrNotFound) {
			t.Errorf("answer to an unknown decision: %v", err)
		}
	}
	for _, lasts := range []time.Duration{-time.Second, 2 * maxPause} {
		if _, err := c.SetPause(t.Context(), true, "", lasts); !errors.Is(err, ErrInvalid) {
			t.Errorf("pause for %v: %v", lasts, err)
		}
	}
	if d, err := c.Drain(t.Context()); err != nil || d.VMs != 2 || d.Done() {
		t.Errorf("state of the drain: %+v, %v", d, err)
	}
	if p, err := c.Pause(t.Context()); err != nil || p.Version != 3 {
		t.Errorf("state of the pause: %+v, %v", p, err)
	}
}

func TestEventsStreamEndsWithTheServer(t *testing.T) {
	f := &fake{events: make(chan Event, 1), ended: make(chan struct{})}
	c, s := serve(t, f)
	f.events <- Event{Kind: "news", Text: "hello"}
	seen := make(chan Event, 1)
	done := make(chan error, 1)
	go func() {
		done <- c.Events(t.Context(), func(ev Event) error { seen <- ev; return nil })
	}()
	select {
	case ev := <-seen:
		if ev.Text != "hello" {
			t.Errorf("event %+v", ev)
		}
	case err := <-done:
		t.Fatalf("the stream ended before its first event: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, ErrNoAgent) {
		t.Errorf("after shutdown: %v", err)
	}
	<-f.ended // the subscription was given back
}

func TestListenReplacesOnlyADeadSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(path, "")
	if err != nil {
		t.Fatalf("stale socket: %v", err)
	}
	defer l.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v; want 0660", info.Mode(), err)
	}
	if _, err := Listen(path, ""); err == nil {
		t.Error("a second agent got the socket of a living one")
	}
	if _, err := Listen(filepath.Join(t.TempDir(), "x"), "no-such-group-here"); err == nil || !strings.Contains(err.Error(), "groupadd") {
		t.Errorf("unknown group: %v", err)
	}
}

func TestMigrateRefusesUnknownFields(t *testing.T) {
	c, _ := serve(t, &fake{})
	body, _ := json.Marshal(map[string]string{"target": "beta"})
	err := c.do(t.Context(), http.MethodPost, "/vms/web/migrate", nil, body, new(MigrateReply))
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "target") {
		t.Errorf("unknown field: %v", err)
	}
}
