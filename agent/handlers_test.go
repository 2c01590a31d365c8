package agent

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"headroom/agent/api"
	"headroom/agent/config"
)

// program writes a shell script and returns its path.
func program(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "handler")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func handlerAgent(log *bytes.Buffer) *Agent {
	return &Agent{o: Options{Name: "h1"}, log: slog.New(slog.NewTextHandler(log, nil))}
}

// TestHandlersGetTheirEvents: a program is run for the kinds that it asked for,
// with the event on its standard input and the main words in its environment.
func TestHandlersGetTheirEvents(t *testing.T) {
	dir := t.TempDir()
	script := program(t, `cat > "$1/$HEADROOM_EVENT.json"; echo "$HEADROOM_HOST $HEADROOM_VM $2" > "$1/$HEADROOM_EVENT.env"`)
	var log bytes.Buffer
	events := make(chan api.Event, 3)
	want := api.Event{At: time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC), Kind: "migration-done", Host: "h2", VM: "web $(touch x)", Text: "web: h1 -> h2"}
	events <- api.Event{Kind: "member-join"}
	events <- want
	close(events)
	handlerAgent(&log).serveHandlers(t.Context(), []config.Handler{
		{On: []string{"migration-done", "alarm"}, Command: []string{script, dir, "a b"}}}, events)
	text, err := os.ReadFile(filepath.Join(dir, "migration-done.json"))
	if err != nil {
		t.Fatalf("%v; log: %s", err, &log)
	}
	var got api.Event
	if err := json.Unmarshal(text, &got); err != nil || bytes.Count(text, []byte("\n")) != 1 {
		t.Fatalf("%q: %v", text, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	if env, err := os.ReadFile(filepath.Join(dir, "migration-done.env")); err != nil || string(env) != "h1 web $(touch x) a b\n" {
		t.Errorf("environment %q, %v", env, err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 2 {
		t.Errorf("%v in the folder, %v: the handler ran for another kind", list, err)
	}
	if log.Len() > 0 {
		t.Errorf("logged: %s", &log)
	}
}

// TestHandlersFail: a program that fails, hangs or is not there is logged and
// ended, and holds up nothing.
func TestHandlersFail(t *testing.T) {
	var log bytes.Buffer
	begin := time.Now()
	events := make(chan api.Event, 1)
	events <- api.Event{Kind: "alarm"}
	close(events)
	limit := config.Duration{Duration: 200 * time.Millisecond}
	handlerAgent(&log).serveHandlers(t.Context(), []config.Handler{
		{On: []string{"*"}, Command: []string{program(t, "yes no such disk | head -c 100000 >&2; exit 3")}},
		{On: []string{"*"}, Command: []string{program(t, "exec sleep 600")}, Timeout: limit},
		{On: []string{"*"}, Command: []string{"/nonexistent/handler"}},
	}, events)
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
	text := log.String()
	for _, want := range []string{"exit status 3", "no such disk", "signal: killed", "/nonexistent/handler"} {
		if !strings.Contains(text, want) {
			t.Errorf("the log lacks %q:\n%s", want, text)
		}
	}
	if len(text) > 8<<10 {
		t.Errorf("a handler's complaint filled %d bytes of log", len(text))
	}
}
