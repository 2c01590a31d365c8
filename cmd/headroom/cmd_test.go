package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"headroom/agent/api"
)

// call runs the program with arguments and returns its output and exit code.
func call(t *testing.T, args ...string) (out string, code int, err error) {
	t.Helper()
	var b bytes.Buffer
	root := newRoot(&b, io.Discard)
	root.SetArgs(append([]string{"--socket", filepath.Join(t.TempDir(), "none.sock")}, args...))
	err = root.ExecuteContext(context.Background())
	return b.String(), exitCode(err), err
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		args []string
		want int
		says string
	}{
		{[]string{"status"}, exitNoAgent, "systemctl start headroom"},
		{[]string{"forecast"}, exitUsage, "forecast VM"},
		{[]string{"status", "--nonsense"}, exitUsage, "nonsense"},
		{[]string{"events"}, exitUsage, "--follow"},
		{[]string{"orphans", "resume", "web"}, exitUsage, "--evidence"},
		{[]string{"orphans", "destroy", "--evidence", "x"}, exitUsage, "destroy VM"},
		{[]string{"drain", "--wait"}, exitNoAgent, "systemctl start headroom"},
		{[]string{"undrain", "now"}, exitUsage, "headroom undrain"},
		{[]string{"pause", "--for", "-1h"}, exitUsage, "from now on"},
		{[]string{"pause", "--for", "soon"}, exitUsage, "soon"},
		{[]string{"resume"}, exitNoAgent, "systemctl start headroom"},
		{[]string{"approve"}, exitUsage, "approve ID"},
		{[]string{"explain"}, exitUsage, "explain VM|DECISION"},
		{[]string{"plan"}, exitNoAgent, "systemctl start headroom"},
		{[]string{"reject", "1", "2"}, exitUsage, "reject ID"},
		{[]string{"config", "check", "/no/such/file"}, exitFailed, "/no/such/file"},
		{[]string{"cert", "host", "--dir", "/no/such/dir", "--id", "x"}, exitFailed, "headroom cert ca"},
	} {
		_, code, err := call(t, c.args...)
		if code != c.want || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("headroom %v: exit %d, want %d; %v does not say %q", c.args, code, c.want, err, c.says)
		}
	}
	for err, want := range map[error]int{nil: exitOK, context.Canceled: exitOK, api.ErrNotFound: exitNotFound, api.ErrConflict: exitConflict, errors.New("x"): exitFailed} {
		if got := exitCode(err); got != want {
			t.Errorf("exit code of %v: %d, want %d", err, got, want)
		}
	}
}

func TestHelpNamesEveryCommand(t *testing.T) {
	out, code, err := call(t, "--help")
	if code != exitOK {
		t.Fatal(err)
	}
	for _, name := range []string{"status", "vms", "forecast", "backtest", "slots", "members", "offers", "decisions", "migrations", "events", "migrate", "simulate", "doctor", "agent", "config", "cert", "hook", "orphans", "completion", "approve", "reject", "drain", "undrain", "pause", "resume", "plan", "explain"} {
		if !strings.Contains(out, "\n  "+name+" ") {
			t.Errorf("help does not name %s", name)
		}
	}
	if out, _, err := call(t, "completion", "bash"); err != nil || !strings.Contains(out, "headroom") {
		t.Errorf("completion: %v", err)
	}
}

func TestCertificatesForACluster(t *testing.T) {
	dir := t.TempDir()
	ca, host := filepath.Join(dir, "ca"), filepath.Join(dir, "hv1")
	const id = "0123456789abcdef0123456789abcdef"
	for _, args := range [][]string{
		{"cert", "ca", "--dir", ca, "--cluster", "prod"},
		{"cert", "key", "--out", filepath.Join(ca, "gossip.key")},
		{"cert", "host", "--dir", ca, "--out", host, "--id", id, "--name", "hv1"},
	} {
		if _, code, err := call(t, args...); code != exitOK {
			t.Fatalf("%v: %v", args, err)
		}
	}
	out, _, err := call(t, "cert", "show", "--ca", filepath.Join(ca, "ca.pem"), filepath.Join(host, "host.pem"))
	if err != nil || !strings.Contains(out, id) || !strings.Contains(out, "cluster prod") {
		t.Errorf("show: %q, %v", out, err)
	}
	if _, code, err := call(t, "cert", "ca", "--dir", ca, "--cluster", "prod"); code != exitFailed || !strings.Contains(err.Error(), "not overwritten") {
		t.Errorf("a second CA in the same folder: %v", err)
	}
	if info, err := os.Stat(filepath.Join(ca, "ca.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("ca.key: %v, %v", info.Mode(), err)
	}
}

func render(table func(w *tabwriter.Writer)) string {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	table(w)
	_ = w.Flush() // a buffer takes everything
	return b.String()
}

func TestTables(t *testing.T) {
	p := func(v float64) *float64 { return &v }
	vms := []api.VM{
		{Name: "web", State: "running", VCPUs: 2, MemoryMiB: 4096, Measured: true, UsedCores: 0.5, WaitCores: 0.125, PeakP50Cores: p(0.6), PeakP90Cores: p(0.9),
			Method: "holt", Mode: "auto", Guard: "paused", HotSpots: []string{"rise: from 0.1 to 0.5"}},
		{Name: "db", State: "paused", VCPUs: 1, MemoryMiB: 512, Why: "not running: paused", Mode: "advise", Guard: "paused"},
	}
	want := `NAME  STATE    VCPU  MIB   USED  WAITED  P50   P90   METHOD  MODE    GUARD   NOTE
web   running  2     4096  0.50  0.12    0.60  0.90  holt    auto    paused  rise
db    paused   1     512   -     -       -     -     -       advise  paused  not running: paused
`
	if got := render(func(w *tabwriter.Writer) { vmsTable(w, vms) }); got != want {
		t.Errorf("vms:\n%s\nwant\n%s", got, want)
	}
	now := time.Now()
	list := []api.Decision{{ID: "42", LastAt: now, Verdict: "stuck", VMName: "web", Repeats: 3, Reason: "no peer is feasible"}}
	got := render(func(w *tabwriter.Writer) { decisionsTable(w, list) })
	for _, part := range []string{now.Local().Format("15:04:05"), "42", "stuck", "web", " 4 ", "no peer is feasible"} {
		if !strings.Contains(got, part) {
			t.Errorf("decisions lack %q:\n%s", part, got)
		}
	}
}

func TestOrdersOnOneLine(t *testing.T) {
	until := time.Now().Add(time.Minute)
	for want, got := range map[string]string{
		"moves may begin": pauseLine(api.Pause{Hosts: 3, Aware: 3}),
		"paused on hv1 (switch) until " + until.Local().Format("15:04:05") + "; 2 of 3 hosts know": pauseLine(api.Pause{Paused: true, Version: 1, Host: "hv1", Reason: "switch", Until: &until, Hosts: 3, Aware: 2}),
		"moves may begin, on the word of hv2; 3 of 3 hosts know":                                   pauseLine(api.Pause{Version: 2, Host: "hv2", Hosts: 3, Aware: 3}),
		"held: paused: gossip tells of it":                                                         pauseLine(api.Pause{Held: "paused: gossip tells of it"}),
		"2 VMs here, 1 of them leaving, 1 still arriving; web: pinned":                             drainLine(api.Drain{Known: true, VMs: 2, Outgoing: 1, Arriving: 1, Note: "web: pinned"}),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	done := api.Drain{Draining: true, Known: true}
	arriving, unknown := done, done
	arriving.Arriving, unknown.Known = 1, false
	if !done.Done() || arriving.Done() || unknown.Done() {
		t.Error("a drain is done when it is known that nothing is here or on its way here")
	}
	got := learnedLine(api.Learned{Migrations: 4, CopyFactor: 1.5, BlackoutFactor: 0.8, Moves: 5, Failed: 1,
		Links: []api.LearnedLink{{Peer: "a", MiBPerS: 100}, {Peer: "b"}, {Peer: "c"}, {Peer: "d"}, {Peer: "e"}}})
	for _, part := range []string{"by 1.50", "by 0.80", "a takes 100 MiB/s", "2 more peers", "1 of 5 moves failed"} {
		if !strings.Contains(got, part) {
			t.Errorf("%q lacks %q", got, part)
		}
	}
}

func TestDoctorWithoutAnythingSaysHowToMend(t *testing.T) {
	out, code, err := call(t, "doctor", "--json", "--config", "/no/such/headroom.toml")
	if code != exitFailed {
		t.Errorf("exit %d (%v), want a failure: there is no configuration", code, err)
	}
	var findings []finding
	if err := json.Unmarshal([]byte(out), &findings); err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		if f.Grade == gradeFail && f.Fix == "" {
			t.Errorf("%s failed and nothing says how to mend it: %+v", f.Check, f)
		}
	}
}
