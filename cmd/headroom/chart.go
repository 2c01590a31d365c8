package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-analyze/charts"

	"headroom/predict"
)

// track keeps what the chart shows: the series and, at the time for which it was
// said, the forecast of the last step of the horizon.
type track struct {
	series      regular
	conf        predict.Config
	median, p95 []float64
}

func newTrack(s regular, c predict.Config) *track {
	t := &track{series: s, conf: c, median: make([]float64, len(s.X)), p95: make([]float64, len(s.X))}
	for i := range s.X {
		t.median[i], t.p95[i] = charts.GetNullValue(), charts.GetNullValue()
	}
	return t
}

// add takes the forecast made after sample i.
func (t *track) add(i int, f predict.Forecast) {
	at := i + len(f.Steps)*int(f.Step/t.series.Sample)
	if n := len(f.Steps); n > 0 && at < len(t.median) {
		t.median[at], t.p95[at] = f.Steps[n-1][0], f.Steps[n-1][3]
	}
}

const (
	chartWidth, chartHeight = 1200, 480
	chartPoints             = 600 // more would only blur
)

// chartColors tell what was from what was said of it: demand stands back.
var chartColors = []charts.Color{charts.ColorFromHex("#9aa5b1"), charts.ColorFromHex("#1f5fbf"), charts.ColorFromHex("#d9480f")}

// write draws the last chartPoints samples to a PNG or SVG file, as name ends.
func (t *track) write(name, source string) error {
	format := charts.ChartOutputSVG
	if strings.EqualFold(filepath.Ext(name), ".png") {
		format = charts.ChartOutputPNG
	}
	from := max(0, len(t.series.X)-chartPoints)
	n := len(t.series.X) - from
	demand, labels := make([]float64, n), make([]string, n)
	layout := "15:04:05"
	if time.Duration(n)*t.series.Sample > 24*time.Hour {
		layout = "Jan 2 15:04"
	}
	for i := range demand {
		if demand[i] = t.series.X[from+i]; demand[i] != demand[i] {
			demand[i] = charts.GetNullValue()
		}
		labels[i] = t.series.Start.Add(time.Duration(from+i) * t.series.Sample).Format(layout)
	}
	o := charts.NewLineChartOptionWithData([][]float64{demand, t.median[from:], t.p95[from:]})
	o.Title.Text = fmt.Sprintf("%s, and what was forecast of it %s before", shortName(source), shortTime(t.conf.Step*time.Duration(t.conf.Horizon)))
	o.Theme = charts.GetTheme(charts.ThemeLight).WithSeriesColors(chartColors)
	o.Legend.SeriesNames = []string{"demand", "forecast P50", "forecast P95"}
	o.Legend.Offset = charts.OffsetStr{Left: charts.PositionRight, Top: "0"}
	o.XAxis.Labels = labels
	o.XAxis.LabelCount = 6
	o.Symbol = charts.Symbol{Shape: charts.SymbolNone}
	o.LineStrokeWidth = 1.2
	p := charts.NewPainter(charts.PainterOptions{OutputFormat: format, Width: chartWidth, Height: chartHeight})
	if err := p.LineChart(o); err != nil {
		return fmt.Errorf("chart: %w", err)
	}
	out, err := p.Bytes()
	if err != nil {
		return fmt.Errorf("chart: %w", err)
	}
	return os.WriteFile(name, out, 0o644)
}

// shortName is source without its folders, cut to what a title has room for.
func shortName(source string) string {
	const most = 60
	name := []rune(filepath.Base(source))
	if len(name) > most {
		return string(name[:most-1]) + "…"
	}
	return string(name)
}

// shortTime is d without the units that are 0: 1h, not 1h0m0s.
func shortTime(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
