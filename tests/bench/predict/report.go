package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"

	"headroom/predict"
)

// summary is one method's means over the series of a set: each series counts
// the same.
type summary struct {
	name                                      string
	mase, rmse, pin95, q95, peakPin, peakHeld float64
	fitMS                                     float64
}

func summarise(r result) summary {
	out := summary{name: r.name, fitMS: math.NaN()}
	mean := func(read func(*predict.Score) float64) float64 {
		var sum float64
		for i := range r.scores {
			sum += read(&r.scores[i]) / float64(len(r.scores))
		}
		return sum
	}
	out.mase = mean((*predict.Score).MASE)
	out.rmse = math.Sqrt(mean(func(s *predict.Score) float64 { return s.RMSE() * s.RMSE() }))
	out.pin95 = mean((*predict.Score).Pin95)
	out.q95 = mean((*predict.Score).Coverage)
	out.peakPin = mean((*predict.Score).PeakPin95)
	out.peakHeld = mean((*predict.Score).PeakCoverage)
	if len(r.fit) > 0 {
		out.fitMS = 0
		for _, v := range r.fit {
			out.fitMS += 1000 * v / float64(len(r.fit))
		}
	}
	return out
}

// table is the result of one set.
type setTable struct {
	set  *set
	rows []summary
}

func newTable(s *set, rs []result) setTable {
	t := setTable{set: s}
	for _, r := range rs {
		t.rows = append(t.rows, summarise(r))
	}
	return t
}

// row finds a method.
func (t *setTable) row(name string) (summary, bool) {
	for _, r := range t.rows {
		if r.name == name {
			return r, true
		}
	}
	return summary{}, false
}

// bestR is the smallest value of any single method of R.
func (t *setTable) bestR(read func(summary) float64) float64 {
	best := math.Inf(1)
	for _, r := range t.rows {
		if strings.HasPrefix(r.name, "R ") {
			best = min(best, read(r))
		}
	}
	return best
}

func (t *setTable) print(out io.Writer) {
	fmt.Fprintf(out, "\n### %s: %d series, %d origins each\n\n", t.set.name, len(t.set.series), t.set.origins)
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', tabwriter.TabIndent)
	fmt.Fprintln(w, "| method\t| MASE\t| RMSE\t| pinball 0.95\t| at or below q95\t| peak pinball 0.95\t| peak at or below\t| fit, ms\t|")
	fmt.Fprintln(w, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
	for _, r := range t.rows {
		fit := "-"
		if !math.IsNaN(r.fitMS) {
			fit = fmt.Sprintf("%.1f", r.fitMS)
		}
		fmt.Fprintf(w, "| %s\t| %.3f\t| %.2f\t| %.3f\t| %.3f\t| %.3f\t| %.3f\t| %s\t|\n", r.name, r.mase, r.rmse, r.pin95, r.q95, r.peakPin, r.peakHeld, fit)
	}
	w.Flush()
}
