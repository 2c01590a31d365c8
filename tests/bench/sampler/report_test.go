package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSeries(t *testing.T) {
	for _, c := range []struct {
		name string
		s    series
		q    float64
		want float64
	}{
		{"one", series{3}, 0.5, 3},
		{"odd", series{9, 1, 5}, 0.5, 5},
		{"even", series{4, 1, 3, 2}, 0.5, 2.5},
		{"lower quartile", series{5, 4, 3, 2, 1}, 0.25, 2},
		{"least", series{5, 4}, 0, 4},
		{"most", series{5, 4}, 1, 5},
	} {
		if got := c.s.quantile(c.q); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if !math.IsNaN(series{}.median()) {
		t.Error("nothing has a median")
	}
	// Round by round: a machine half as fast in the second round changes nothing.
	if got := (series{40, 80}).over(series{1, 2}); got[0] != 40 || got[1] != 40 {
		t.Errorf("ratios %v", got)
	}
	if got := (series{40, 80}).less(series{1, 2}); got[0] != 39 || got[1] != 78 {
		t.Errorf("differences %v", got)
	}
}

func TestGoals(t *testing.T) {
	for _, c := range []struct {
		g    *goal
		v    float64
		want string
	}{
		{atMost(2), 1, "met"}, {atMost(2), 2, "met"}, {atMost(2), 3, "missed"},
		{atLeast(2), 1, "missed"}, {atLeast(2), 2, "met"}, {atLeast(2), 3, "met"},
		{nil, 1, ""}, {atMost(2), math.NaN(), ""},
	} {
		if got := c.g.verdict(c.v); got != c.want {
			t.Errorf("goal %v, %v: %q, want %q", c.g, c.v, got, c.want)
		}
	}
}

func TestLastLineHasEveryFigure(t *testing.T) {
	r := newReport()
	r.add("pass_hot_us_per_vm", "pass", "us", series{0.25, 0.75, 0.5}, atMost(0.5))
	line, err := r.json()
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]*float64
	if err := json.Unmarshal([]byte(line), &got); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	if len(got) != len(keys) || got["pass_hot_us_per_vm"] == nil || *got["pass_hot_us_per_vm"] != 0.5 {
		t.Errorf("last line %s", line)
	}
	if v, ok := got["libvirt_ratio"]; !ok || v != nil {
		t.Errorf("a figure not measured must be null: %s", line)
	}
}

func TestReplaceFigures(t *testing.T) {
	file := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(file, []byte("a\n"+figuresBegin+"old\n"+figuresEnd+"b\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := replaceFigures(file, "new\n"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := "a\n" + figuresBegin + "new\n" + figuresEnd + "b\n"; string(text) != want {
		t.Errorf("%q, want %q", text, want)
	}
	if err := os.WriteFile(file, []byte("nothing"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := replaceFigures(file, "new\n"); err == nil || !strings.Contains(err.Error(), "no place") {
		t.Errorf("a document without marks: %v", err)
	}
}

func TestFirstNumber(t *testing.T) {
	for text, want := range map[string]uint64{"123 456\n": 123, "rchar: 77\n": 77, "9": 9} {
		if got, ok := firstNumber([]byte(text)); !ok || got != want {
			t.Errorf("%q: %d, %v", text, got, ok)
		}
	}
	if _, ok := firstNumber([]byte("none")); ok {
		t.Error("a number in a text without one")
	}
}
