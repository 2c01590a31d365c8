// Command predict scores the forecaster and R's forecast package on public VM
// traces, by the same rolling-origin protocol in one run, and ends with one JSON
// line of figures. See docs/FORECAST.md.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"gonum.org/v1/gonum/stat/distuv"

	"headroom/predict"
)

type options struct {
	data, cache, half, only, doc string
	google, bitbrains            int
	seed                         uint64
	full, lstm, noR              bool
}

func main() {
	var o options
	data := os.Getenv("HEADROOM_TRACES")
	if data == "" {
		data = "../shared/data"
	}
	flag.StringVar(&o.data, "data", data, "folder with google-gcd-800.tar.xz and bitbrains-68vms.tar.xz (or HEADROOM_TRACES)")
	flag.StringVar(&o.cache, "cache", filepath.Join(os.TempDir(), "headroom-bench-predict"), "folder for unpacked traces and R's forecasts")
	flag.StringVar(&o.half, "half", "report", "series by name: tune (even ones), report (odd ones) or all")
	flag.StringVar(&o.only, "only", "", "one set: google_cpu, google_mem, bitbrains_cpu or bitbrains_mem")
	flag.StringVar(&o.doc, "doc", "", "Markdown file whose tables between the bench-predict marks are replaced")
	flag.IntVar(&o.google, "google", 40, "Google VMs sampled")
	flag.IntVar(&o.bitbrains, "bitbrains", 16, "Bitbrains windows sampled")
	flag.Uint64Var(&o.seed, "seed", 1, "of the samples")
	flag.BoolVar(&o.full, "full", false, "every series of both sets (hours in R)")
	flag.BoolVar(&o.lstm, "lstm", true, "run the LSTM as well")
	flag.BoolVar(&o.noR, "no-r", false, "leave R out; no figures")
	flag.Parse()
	if err := run(o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench-predict:", err)
		os.Exit(1)
	}
}

func run(o options, out io.Writer) error {
	if o.full {
		o.half, o.google, o.bitbrains = "all", 1<<20, 1<<20
	}
	sets, err := load(o)
	if err != nil {
		return err
	}
	report := report{}
	for _, s := range sets {
		if o.only != "" && o.only != s.name {
			continue
		}
		begin := time.Now()
		var rs []result
		if !o.noR {
			if rs, err = runR(s, o.cache); err != nil {
				return err
			}
		}
		ours, err := runOurs(s, o.lstm)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s: %d series, %.0f s\n", s.name, len(s.series), time.Since(begin).Seconds())
		own, err := runAutoARIMA(s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		report.tables = append(report.tables, newTable(s, append(append(ours, own), rs...)))
	}
	if o.noR || o.only != "" {
		report.print(out)
		return nil
	}
	if report.hosts, err = sumAll(o); err != nil {
		return err
	}
	if report.spots, err = scoreSpots(o.data, o.cache); err != nil {
		return err
	}
	report.figure()
	if err := report.measure(); err != nil {
		return err
	}
	report.print(out)
	if o.doc != "" {
		if err := report.write(o.doc); err != nil {
			return err
		}
	}
	return json.NewEncoder(out).Encode(report.figures)
}

// sumAll scores hosts of more series than R has time for: on five hosts of 40 VMs the
// peaks of 77 origins are some thirty outcomes, of which chance alone decides.
func sumAll(o options) (out []hostTable, err error) {
	o.google, o.bitbrains = max(o.google, hostsGoogle), max(o.bitbrains, hostsBitbrains)
	sets, err := load(o)
	if err != nil {
		return nil, err
	}
	for _, s := range sets {
		h, err := sumHosts(s, rand.New(rand.NewPCG(o.seed, 3)))
		if err != nil {
			return nil, err
		}
		out = append(out, h)
	}
	return out, nil
}

func load(o options) ([]*set, error) {
	if err := os.MkdirAll(o.cache, 0o755); err != nil {
		return nil, err
	}
	g, err1 := unpack(filepath.Join(o.data, "google-gcd-800.tar.xz"), o.cache)
	b, err2 := unpack(filepath.Join(o.data, "bitbrains-68vms.tar.xz"), o.cache)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	gs, err1 := google(g, o.half, o.google, rand.New(rand.NewPCG(o.seed, 1)))
	bs, err2 := bitbrains(b, o.half, o.bitbrains, rand.New(rand.NewPCG(o.seed, 2)))
	return append(gs, bs...), errors.Join(err1, err2)
}

// config is the forecaster's for a set.
func config(s *set, lstm bool) predict.Config {
	return predict.Config{Step: sampleTime, Season: time.Duration(s.season) * sampleTime, LSTM: lstm}
}

const sampleTime = 5 * time.Minute

// runOurs scores the forecast given out and every member, as the agent runs
// them; and, with lstm, the network and the forecast given out when it takes
// part.
func runOurs(s *set, lstm bool) ([]result, error) {
	out, err := backtest(s, false)
	if err != nil || !lstm {
		return out, err
	}
	with, err := backtest(s, true)
	for _, r := range with {
		switch r.name {
		case "lstm":
			out = append(out, r)
		case predict.Selected:
			r.name += " with lstm"
			out = append(out, r)
		}
	}
	return out, err
}

// backtest scores one configuration on every series.
func backtest(s *set, lstm bool) ([]result, error) {
	var out []result
	for i, x := range s.series {
		scores, err := predict.Backtest(config(s, lstm), x, s.train, s.every, nil)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.ids[i], err)
		}
		for m, sc := range scores {
			if i == 0 {
				out = append(out, result{name: sc.Name})
			}
			out[m].scores = append(out[m].scores, sc)
		}
	}
	return out, nil
}

// ownAuto is the row of AutoARIMA fitted once, as R's auto.arima is.
const ownAuto = "AutoARIMA"

// runAutoARIMA fits our ARIMA once on the training part of every series and
// moves its state on, by R's protocol and with normal quantiles as R's.
func runAutoARIMA(s *set) (result, error) {
	r := result{name: ownAuto}
	for _, x := range s.series {
		begin := cpuTime()
		m, err := predict.AutoARIMA(x[:s.train])
		if err != nil {
			return r, err
		}
		r.fit = append(r.fit, (cpuTime() - begin).Seconds())
		score := predict.Score{Name: r.name, Unit: change(x[:s.train])}
		for o := range s.origins {
			now := s.train + o*s.every
			steps, peak := normal(m.Forecast(horizon))
			score.Add(steps, peak, x[now:now+horizon])
			for _, v := range x[now:min(now+s.every, len(x))] {
				m.Observe(v)
			}
		}
		r.scores = append(r.scores, score)
	}
	return r, nil
}

// normal makes quantiles of means and standard deviations, as R does.
func normal(mean, sd []float64) (steps []predict.Quantiles, peak predict.Quantiles) {
	steps = make([]predict.Quantiles, len(mean))
	for h := range steps {
		for l, p := range predict.Levels {
			steps[h][l] = max(0, mean[h]+sd[h]*distuv.UnitNormal.Quantile(p))
			peak[l] = max(peak[l], steps[h][l])
		}
	}
	return steps, peak
}
