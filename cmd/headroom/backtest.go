package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"headroom/agent/api"
	"headroom/predict"
)

// backtestCmd scores the forecasting methods on a file or on a VM's history.
type backtestCmd struct {
	*env
	column, chart                string
	sample, step, season, window time.Duration
	horizon, every               int
	train                        float64
	lstm                         bool
}

const backtestLong = `backtest shows how good the forecasts would have been: it replays a series,
forecasts at one moment after the other from what was known then, and compares
with what happened. The series is a CSV file of timestamp and value, or the
history that the local agent keeps of a VM's demand.

MASE below 1 is better than saying "as now" one step ahead; a calibrated
forecast has 0.95 of the outcomes at or below its P95.`

func (c *backtestCmd) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backtest FILE|VM",
		Short: "Score the forecasting methods on a CSV file or on a VM's history",
		Long:  backtestLong,
		Example: `  headroom backtest demand.csv --season 24h --chart demand.svg
  headroom backtest web1 --window 6h --step 10s`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args[0]) },
	}
	f := cmd.Flags()
	f.StringVar(&c.column, "column", "", "the file's column by its head (default: the second)")
	f.StringVar(&c.chart, "chart", "", "write a chart of demand and forecast to this file, SVG or PNG")
	f.DurationVar(&c.sample, "sample", 0, "time between two samples (default: as the series has)")
	f.DurationVar(&c.step, "step", 0, "length of a forecast step (default: one sample)")
	f.IntVar(&c.horizon, "horizon", 12, "steps forecast")
	f.DurationVar(&c.season, "season", 0, "length of a season, for instance 24h; 0: none")
	f.Float64Var(&c.train, "train", 0.5, "share of the series that is only learned from")
	f.IntVar(&c.every, "every", 1, "samples between two forecasts that are scored")
	f.DurationVar(&c.window, "window", 24*time.Hour, "how far back a VM's history is read")
	f.BoolVar(&c.lstm, "lstm", false, "score the recurrent network as well")
	return cmd
}

// backtestReport is what --json prints.
type backtestReport struct {
	Source  string          `json:"source"`
	Samples int             `json:"samples"`
	Missing int             `json:"missing"`
	SampleS float64         `json:"sample_s"`
	StepS   float64         `json:"step_s"`
	Horizon int             `json:"horizon"`
	Methods []backtestScore `json:"methods"`
}

type backtestScore struct {
	Name         string   `json:"name"`
	Outcomes     int      `json:"outcomes"`
	MASE         *float64 `json:"mase"`
	RMSE         *float64 `json:"rmse"`
	Pinball      *float64 `json:"pinball"`
	Pinball95    *float64 `json:"pinball_p95"`
	Coverage95   *float64 `json:"coverage_p95"`
	PeakPin95    *float64 `json:"peak_pinball_p95"`
	PeakCoverage *float64 `json:"peak_coverage_p95"`
}

func (c *backtestCmd) run(ctx context.Context, source string) error {
	series, err := c.read(ctx, source)
	if err != nil {
		return err
	}
	if !(c.train > 0 && c.train < 1) || c.every < 1 {
		return fmt.Errorf("%w: --train %g is not within 0 and 1, or --every %d is not at least 1", errUsage, c.train, c.every)
	}
	conf := predict.Config{Sample: series.Sample, Step: c.step, Horizon: c.horizon, Season: c.season, LSTM: c.lstm}
	if conf.Step == 0 {
		conf.Step = series.Sample
	}
	from := max(1, int(c.train*float64(len(series.X))))
	track := newTrack(series, conf)
	scores, err := predict.Backtest(conf, series.X, from, c.every, track.add)
	if err != nil {
		return err
	}
	if c.chart != "" {
		if err := track.write(c.chart, source); err != nil {
			return err
		}
	}
	r := newBacktestReport(source, series, conf, scores)
	return c.print(r, func(w *tabwriter.Writer) { backtestTable(w, r) })
}

// read takes source for a file when there is one of that name, and for a VM
// when not.
func (c *backtestCmd) read(ctx context.Context, source string) (regular, error) {
	f, err := os.Open(source)
	if err == nil {
		defer f.Close()
		s, err := readSeries(f, c.column, c.sample)
		if err != nil {
			return s, fmt.Errorf("%s: %w", source, err)
		}
		return s, nil
	}
	if !errors.Is(err, fs.ErrNotExist) || strings.ContainsAny(source, "/.") {
		return regular{}, err
	}
	h, err := c.client().History(ctx, source, c.window, c.sample)
	if err != nil {
		return regular{}, fmt.Errorf("no file %s, and of a VM of that name: %w", source, err)
	}
	return fromHistory(h)
}

// fromHistory puts what the agent answered on a grid.
func fromHistory(h api.History) (regular, error) {
	points := make([]stampedValue, len(h.Points))
	for i, p := range h.Points {
		points[i] = stampedValue{p.At, p.Cores}
	}
	return onGrid(points, time.Duration(h.StepS*float64(time.Second)))
}

func newBacktestReport(source string, s regular, c predict.Config, scores []predict.Score) backtestReport {
	r := backtestReport{Source: source, Samples: len(s.X), SampleS: s.Sample.Seconds(), StepS: c.Step.Seconds(), Horizon: c.Horizon}
	for _, v := range s.X {
		if math.IsNaN(v) {
			r.Missing++
		}
	}
	for i := range scores {
		sc := &scores[i]
		r.Methods = append(r.Methods, backtestScore{Name: sc.Name, Outcomes: sc.Steps, MASE: finite(sc.MASE()), RMSE: finite(sc.RMSE()),
			Pinball: finite(sc.Pinball()), Pinball95: finite(sc.Pin95()), Coverage95: finite(sc.Coverage()),
			PeakPin95: finite(sc.PeakPin95()), PeakCoverage: finite(sc.PeakCoverage())})
	}
	return r
}

// finite is nil for what JSON cannot say.
func finite(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

func backtestTable(w *tabwriter.Writer, r backtestReport) {
	row(w, "Series:", fmt.Sprintf("%s, %d samples of %s, %d missing; %d steps of %s ahead", r.Source, r.Samples,
		time.Duration(r.SampleS*float64(time.Second)), r.Missing, r.Horizon, time.Duration(r.StepS*float64(time.Second))))
	row(w)
	row(w, "METHOD", "MASE", "RMSE", "PINBALL", "PINBALL P95", "AT OR BELOW P95", "PEAK PINBALL P95", "PEAK AT OR BELOW")
	for _, m := range r.Methods {
		row(w, m.Name, opt(m.MASE, "%.3f"), opt(m.RMSE, "%.4g"), opt(m.Pinball, "%.4g"), opt(m.Pinball95, "%.4g"),
			opt(m.Coverage95, "%.3f"), opt(m.PeakPin95, "%.4g"), opt(m.PeakCoverage, "%.3f"))
	}
}
