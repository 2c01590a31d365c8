package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"headroom/planner/simulate"
)

// smallTrace is a day of PlanetLab with few VMs.
func smallTrace(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for v := range 12 {
		var b strings.Builder
		for k := range 288 {
			fmt.Fprintln(&b, (7*v+k*(v+3))%90)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("vm-%02d", v)), []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestSimulateCommand(t *testing.T) {
	dir, chart := smallTrace(t), filepath.Join(t.TempDir(), "c.svg")
	out, code, err := call(t, "simulate", "--trace", dir, "--policy", "none,reactive", "--csv", "--chart", chart)
	if code != exitOK {
		t.Fatalf("exit %d: %v", code, err)
	}
	lines, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || len(lines) != 3 || lines[1][1] != "none" || lines[2][1] != "reactive" {
		t.Errorf("CSV %v, %v: want a line for each policy", lines, err)
	}
	svg, err := os.ReadFile(chart)
	if err != nil || !strings.Contains(string(svg), "<svg") {
		t.Fatalf("chart: %v", err)
	}
	for _, word := range []string{"none", "reactive", "core-seconds", "moves until then"} {
		if !strings.Contains(string(svg), word) {
			t.Errorf("the chart does not say %q", word)
		}
	}
	out, _, err = call(t, "simulate", "--trace", dir, "--policy", "reactive", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal([]byte(out), &object); err != nil {
		t.Fatalf("JSON: %v in %s", err, out)
	}
	for _, name := range append([]string{"seed"}, simulateColumns...) {
		if _, ok := object[name]; !ok {
			t.Errorf("JSON lacks %s", name)
		}
	}
	if _, code, err := call(t, "simulate", "--trace", dir, "--chart", "c.pdf"); code != exitUsage || !strings.Contains(err.Error(), ".svg") {
		t.Errorf("a chart of another format: exit %d, %v", code, err)
	}
	if _, code, err := call(t, "simulate", "--trace", dir, "--policy", "best"); code != exitUsage || !strings.Contains(err.Error(), "sandpiper") {
		t.Errorf("an unknown policy: exit %d, %v; want the known ones named", code, err)
	}
}

func TestChartScale(t *testing.T) {
	for log, want := range map[float64]string{0: "≤ 1", 1: "10", 2: "100", 3: "1,000", 5: "100,000", 7: "10,000,000"} {
		if got := power(log); got != want {
			t.Errorf("10^%v is labelled %q, want %q", log, got, want)
		}
	}
	if diff := cmp.Diff([]float64{2, 4, 6}, thinned([]float64{1, 2, 3, 4, 5, 6}, 3)); diff != "" {
		t.Errorf("thinned (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"02:35", "00:00"}, hours([]float64{9300, 86400})); diff != "" {
		t.Errorf("hours of a day (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"day 1, 02:35", "day 3, 01:00"}, hours([]float64{9300, 176400})); diff != "" {
		t.Errorf("hours of more (-want +got):\n%s", diff)
	}
}

func TestRunsKeepTheirColours(t *testing.T) {
	r := runs{names: []string{"none", "headroom", "oracle"}}
	c := r.colors()
	if c[0] == c[2] || c[1] != (&runs{names: []string{"headroom"}}).colors()[0] {
		t.Errorf("colours %v", c)
	}
	if err := r.write(filepath.Join(t.TempDir(), "x.png"), "x"); err == nil {
		t.Error("a chart of nothing was written")
	}
	r = runs{}
	add := r.add("reactive")
	add(simulate.Sample{At: 300, Contention: 5, Migrations: 2})
	if r.names[0] != "reactive" || r.moves[0][0] != 2 || r.contention[0][0] != 5 {
		t.Errorf("kept %+v", r)
	}
}
