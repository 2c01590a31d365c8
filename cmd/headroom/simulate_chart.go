package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-analyze/charts"

	"headroom/planner/simulate"
)

// runs keeps what the chart of simulations shows: how contention and moves of
// each policy grew.
type runs struct {
	names []string
	// Per policy, for every step: end of the step in s, core-seconds, moves.
	at, contention, moves [][]float64
}

// add makes room for one more policy and returns what its samples go to.
func (r *runs) add(policy string) func(simulate.Sample) {
	k := len(r.names)
	r.names = append(r.names, policy)
	r.at, r.contention, r.moves = append(r.at, nil), append(r.contention, nil), append(r.moves, nil)
	return func(s simulate.Sample) {
		r.at[k] = append(r.at[k], s.At)
		r.contention[k] = append(r.contention[k], s.Contention)
		r.moves[k] = append(r.moves[k], float64(s.Migrations))
	}
}

const (
	runsWidth, panelHeight = 1200, 420
	legendHeight           = 30
)

// runColors tell up to 14 policies apart; headroom's stands out.
var runColors = []string{"#5c7cfa", "#f08c00", "#2b8a3e", "#ae3ec9", "#0c8599", "#868e96", "#212529", "#94d82d", "#fcc419", "#22b8cf", "#845ef7", "#a0522d", "#495057"}

const headroomColor = "#e03131"

// write draws both panels to a PNG or SVG file, as name ends.
func (r *runs) write(name, trace string) error {
	if len(r.at) == 0 || len(r.at[0]) == 0 {
		return fmt.Errorf("chart %s: no step to draw", name)
	}
	format := charts.ChartOutputSVG
	if strings.EqualFold(filepath.Ext(name), ".png") {
		format = charts.ChartOutputPNG
	}
	p := charts.NewPainter(charts.PainterOptions{OutputFormat: format, Width: runsWidth, Height: 2 * panelHeight})
	for k, panel := range []struct {
		title string
		lines [][]float64
	}{
		{shortName(trace) + ": demand not served until then, core-seconds", r.contention},
		{"moves until then", r.moves},
	} {
		o := r.panel(panel.title, panel.lines)
		o.Legend.Show = charts.Ptr(k == 0)
		box := charts.NewBox(0, k*panelHeight, runsWidth, (k+1)*panelHeight)
		if err := p.Child(charts.PainterBoxOption(box)).LineChart(o); err != nil {
			return fmt.Errorf("chart: %w", err)
		}
	}
	out, err := p.Bytes()
	if err != nil {
		return fmt.Errorf("chart: %w", err)
	}
	return os.WriteFile(name, out, 0o644)
}

// panel is one chart of the policies' lines on a logarithmic scale: policies
// differ by orders of magnitude.
func (r *runs) panel(title string, lines [][]float64) charts.LineChartOption {
	data, top := make([][]float64, len(lines)), 1.0
	for k, line := range lines {
		data[k] = thinned(line, chartPoints)
		for i, v := range data[k] {
			data[k][i] = math.Log10(math.Max(1, v)) // 1 stands for 0 as well
			top = math.Max(top, math.Ceil(data[k][i]))
		}
	}
	o := charts.NewLineChartOptionWithData(data)
	o.Theme = charts.GetTheme(charts.ThemeLight).WithSeriesColors(r.colors())
	o.Title.Text = title
	o.Title.FontStyle.FontSize = 13
	o.Legend.SeriesNames = r.names
	o.Legend.Offset = charts.OffsetStr{Left: charts.PositionCenter, Top: "24"}
	o.Padding = charts.NewBox(20, 12, 24, 12)
	o.XAxis.Labels = hours(thinned(r.at[0], chartPoints))
	o.XAxis.LabelCount = 9
	o.YAxis = []charts.YAxisOption{{Min: charts.Ptr(0.0), Max: charts.Ptr(top), LabelCount: int(top) + 1, ValueFormatter: power}}
	o.Symbol = charts.Symbol{Shape: charts.SymbolNone}
	o.LineStrokeWidth = 1.6
	return o
}

func (r *runs) colors() []charts.Color {
	out, next := make([]charts.Color, len(r.names)), 0
	for k, name := range r.names {
		if name == "headroom" {
			out[k] = charts.ColorFromHex(headroomColor)
			continue
		}
		out[k] = charts.ColorFromHex(runColors[next%len(runColors)])
		next++
	}
	return out
}

// power labels the logarithm of a value: 10, 1,000, 1e+06.
func power(log float64) string {
	v := math.Pow(10, log)
	switch {
	case v < 1.5:
		return "≤ 1"
	case v < 1e3:
		return fmt.Sprintf("%.0f", v)
	case v < 1e6:
		return fmt.Sprintf("%.0f,000", v/1e3)
	}
	return fmt.Sprintf("%.0f,000,000", v/1e6)
}

// thinned are at most n values of x, evenly apart, the last one among them.
func thinned(x []float64, n int) []float64 {
	if len(x) <= n {
		return append([]float64(nil), x...)
	}
	out := make([]float64, n)
	for i := range out {
		out[i] = x[(i+1)*len(x)/n-1]
	}
	return out
}

// hours labels seconds since a trace began: 03:25, or 2d 03:25 after the first day.
func hours(at []float64) []string {
	const day = 24 * time.Hour
	out := make([]string, len(at))
	for i, s := range at {
		t := time.Duration(s * float64(time.Second)).Round(time.Minute)
		out[i] = fmt.Sprintf("%02d:%02d", int(t%day/time.Hour), int(t%time.Hour/time.Minute))
		if at[len(at)-1] > 1.5*day.Seconds() {
			out[i] = fmt.Sprintf("day %d, %s", 1+int(t/day), out[i])
		}
	}
	return out
}
