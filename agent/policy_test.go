package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"headroom/agent/config"
	"headroom/agent/hypervisor"
	"headroom/planner/negotiate"
	"headroom/predict"
)

func toJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestContentionIn(t *testing.T) {
	f := predict.Forecast{Step: 5 * time.Second, Steps: []predict.Quantiles{
		{0.1, 0.2, 0.3, 0.3, 0.4}, {0.4, 0.5, 0.6, 0.7, 0.8}, {0.9, 1, 1.1, 1.2, 1.3},
	}}
	for _, c := range []struct {
		usable, p, want float64 // want -1: none
	}{{0.7, 0.5, 10}, {0.55, 0.15, 5}, {2, 0.1, -1}, {0.05, 0.5, 0}} {
		got := contentionIn(f, c.usable, c.p)
		switch {
		case got == nil && c.want >= 0, got != nil && *got != c.want:
			t.Errorf("usable %v, probability %v: %v, want %v", c.usable, c.p, deref(got), c.want)
		}
	}
}

func deref(v *float64) float64 {
	if v == nil {
		return -1
	}
	return *v
}

func TestBoundKeepsTheUnknownUnknown(t *testing.T) {
	q := predict.Quantiles{0.5, 0.8, 1.5, 2, 3}
	bound(&q, 1.1)
	if want := (predict.Quantiles{0.5, 0.8, 1.1, 1.1, 1.1}); q != want {
		t.Errorf("bound: %v, want %v", q, want)
	}
	var f predict.Forecast
	if f.Peak.Known() {
		bound(&f.Peak, 1)
	}
}

// TestMemoryTLS: the copied memory is encrypted where the certificates are, unless
// the operator says otherwise.
func TestMemoryTLS(t *testing.T) {
	dir := t.TempDir()
	for _, file := range []string{"", "ca-cert.pem", "server-cert.pem", "client-cert.pem"} {
		if file != "" {
			if err := os.WriteFile(filepath.Join(dir, file), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for word, want := range map[string]bool{"on": true, "off": false, "auto": file == "client-cert.pem"} {
			if got := memoryTLS(config.Handover{TLS: word, TLSDir: dir}); got != want {
				t.Errorf("%s, up to %q: %v, want %v", word, file, got, want)
			}
		}
	}
}

// TestGuards: paused guards every VM, lock those whose lock is proven, plain none.
// What has no guard is not moved by itself; an operator moves it the safe way.
func TestGuards(t *testing.T) {
	for _, c := range []struct {
		configured     string
		locked         bool
		shown          negotiate.Guard
		auto, operator negotiate.Guard
	}{
		{"paused", false, "paused", "paused", "paused"},
		{"paused", true, "paused", "paused", "paused"},
		{"lock", true, "lock", "lock", "lock"},
		{"lock", false, "none", "plain", "paused"},
		{"plain", true, "none", "plain", "plain"},
	} {
		a := &Agent{cfg: config.Config{Handover: config.Handover{Guard: c.configured}}}
		dom := hypervisor.Domain{Locked: c.locked, LockWhy: "disk vda: nothing locks it"}
		g, why := a.guard(&dom)
		if g != c.shown || (why != "") != (g == noGuard) {
			t.Errorf("%s, locked %v: %s (%s), want %s", c.configured, c.locked, g, why, c.shown)
		}
		if auto, operator := a.guardFor(dom, ""), a.guardFor(dom, "me"); auto != c.auto || operator != c.operator {
			t.Errorf("%s, locked %v: %s by itself, %s for an operator; want %s and %s", c.configured, c.locked, auto, operator, c.auto, c.operator)
		}
	}
}
