package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
)

// series are the values of one figure, one a round.
type series []float64

// quantile interpolates between the values; NaN of none.
func (s series) quantile(q float64) float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	v := slices.Sorted(slices.Values(s))
	at := q * float64(len(v)-1)
	low := int(at)
	if low+1 == len(v) {
		return v[low]
	}
	return v[low] + (at-float64(low))*(v[low+1]-v[low])
}

func (s series) median() float64 { return s.quantile(0.5) }

// over divides round by round: what disturbed both in one round cancels out.
func (s series) over(t series) series {
	out := make(series, min(len(s), len(t)))
	for i := range out {
		out[i] = s[i] / t[i]
	}
	return out
}

// less subtracts round by round.
func (s series) less(t series) series {
	out := make(series, min(len(s), len(t)))
	for i := range out {
		out[i] = s[i] - t[i]
	}
	return out
}

// goal is a bound on a figure, of one side.
type goal struct {
	bound   float64
	atLeast bool
}

func atMost(v float64) *goal  { return &goal{bound: v} }
func atLeast(v float64) *goal { return &goal{bound: v, atLeast: true} }

func (g *goal) String() string {
	switch {
	case g == nil:
		return ""
	case g.atLeast:
		return fmt.Sprintf(">= %g", g.bound)
	}
	return fmt.Sprintf("<= %g", g.bound)
}

func (g *goal) verdict(v float64) string {
	switch {
	case g == nil || math.IsNaN(v):
		return ""
	case g.atLeast == (v >= g.bound) || v == g.bound:
		return "met"
	}
	return "missed"
}

// keys are the figures of the last line, in its order.
var keys = []string{
	"pass_hot_us_per_vm", "pass_cold_us_per_vm", "kept_open_ratio", "readfile_ratio", "libvirt_ratio",
	"loop_10hz_cpu_percent", "tail_ns_per_switch", "textbook_ns_per_switch", "io_ns_per_io", "net_us_per_tap",
	"accuracy_sd_percent", "allocs_per_pass",
}

type row struct {
	what, unit string
	values     series
	goal       *goal
}

type report struct {
	rows    []row
	figures map[string]float64
}

func newReport() *report { return &report{figures: map[string]float64{}} }

// add writes a row; key names it in the last line, "" for a row of the table
// alone.
func (r *report) add(key, what, unit string, values series, g *goal) {
	r.rows = append(r.rows, row{what, unit, values, g})
	if key != "" {
		r.figures[key] = values.median()
	}
}

func (r *report) table() string {
	var b strings.Builder
	b.WriteString("| figure | unit | median | quartiles | rounds | goal | |\n| --- | --- | --: | --: | --: | --- | --- |\n")
	for _, w := range r.rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s .. %s | %d | %s | %s |\n", w.what, w.unit, digits(w.values.median()),
			digits(w.values.quantile(0.25)), digits(w.values.quantile(0.75)), len(w.values), w.goal, w.goal.verdict(w.values.median()))
	}
	return b.String()
}

// digits shows three significant digits, and whole numbers from 100 on.
func digits(v float64) string {
	if math.Abs(v) >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// json is the last line. A figure that could not be measured is null.
func (r *report) json() (string, error) {
	var parts []string
	for _, k := range keys {
		value := "null"
		if v, ok := r.figures[k]; ok && !math.IsNaN(v) && !math.IsInf(v, 0) {
			text, err := json.Marshal(math.Round(v*1e4) / 1e4)
			if err != nil {
				return "", err
			}
			value = string(text)
		}
		parts = append(parts, fmt.Sprintf("%q:%s", k, value))
	}
	return "{" + strings.Join(parts, ",") + "}", nil
}

const figuresBegin, figuresEnd = "<!-- figures: make bench-sampler -->\n", "<!-- end of figures -->"

// replaceFigures writes the table into a document, between its two marks.
func replaceFigures(file, table string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(text), figuresBegin)
	_, tail, closed := strings.Cut(rest, figuresEnd)
	if !ok || !closed {
		return fmt.Errorf("%s has no place for the figures: put %q and %q into it", file, figuresBegin, figuresEnd)
	}
	return os.WriteFile(file, []byte(head+figuresBegin+table+figuresEnd+tail), 0o644)
}
