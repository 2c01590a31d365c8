package main

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"

	"headroom/predict"
)

// report is everything that is printed, and the figures of the last line.
type report struct {
	tables  []setTable
	hosts   []hostTable
	spots   spotTable
	costs   string
	figures map[string]float64
}

func (r *report) print(out io.Writer) {
	for i := range r.tables {
		r.tables[i].print(out)
	}
	for i := range r.hosts {
		r.hosts[i].print(out)
	}
	r.spots.print(out)
	fmt.Fprint(out, r.costs)
}

// figure compares the selected forecast with the best single method of R.
func (r *report) figure() {
	r.figures = map[string]float64{"q95_coverage_min": math.Inf(1), "q95_coverage_max": 0}
	for i := range r.tables {
		t := &r.tables[i]
		ours, _ := t.row(predict.Selected)
		r.figures[t.set.name+"_mase_ratio"] = round(ours.mase / t.bestR(func(s summary) float64 { return s.mase }))
		r.figures["q95_coverage_min"] = min(r.figures["q95_coverage_min"], round(ours.q95))
		r.figures["q95_coverage_max"] = max(r.figures["q95_coverage_max"], round(ours.q95))
		if t.set.name == "google_cpu" || t.set.name == "bitbrains_cpu" {
			r.figures[t.set.name+"_pin95_ratio"] = round(ours.pin95 / t.bestR(func(s summary) float64 { return s.pin95 }))
		}
		if stl, ok := t.row("R stl_ets"); ok && t.set.name == "bitbrains_cpu" {
			r.figures["bitbrains_cpu_peak_pin95_ratio"] = round(ours.peakPin / stl.peakPin)
		}
		if t.set.name == "google_cpu" {
			own, _ := t.row(ownAuto)
			theirs, _ := t.row("R auto_arima")
			r.figures["autoarima_fit_ratio"] = own.fitMS / theirs.fitMS
		}
	}
}

func round(v float64) float64 { return math.Round(v*1e4) / 1e4 }

// measure adds what an update costs.
func (r *report) measure() error {
	alone, err := updateCost(predict.Config{Step: sampleTime, Season: 24 * time.Hour}, 2*day)
	if err != nil {
		return err
	}
	lstm, err := updateCost(predict.Config{Step: sampleTime, Season: 24 * time.Hour, LSTM: true}, 2*day)
	if err != nil {
		return err
	}
	percents, kb, err := fleetCost()
	if err != nil {
		return err
	}
	r.figures["update_ms"] = alone
	percent := percents[len(percents)/2]
	r.figures["cpu_percent_200vm_4signals"] = percent
	r.costs = fmt.Sprintf(`
### Cost

| what | cost |
|---|---|
| update and forecast of all members, daily season | %.4f ms |
| the same with the LSTM | %.4f ms |
| 200 VMs x 4 signals, a sample a second, steps of 5 s, starts spread: median of five stretches | %.2f %% of a core (%.2f .. %.2f) |
| memory of one forecaster in that setting | %.0f KiB |
`, alone, lstm, percent, percents[0], percents[len(percents)-1], kb)
	return nil
}

// updateCost is the mean time in ms of Observe and Forecast, searches for ARIMA
// models included, over n samples after a warm-up of as many.
func updateCost(c predict.Config, n int) (float64, error) {
	f, err := predict.New(c)
	if err != nil {
		return 0, err
	}
	rng := rand.New(rand.NewPCG(7, 7))
	feed := func() {
		for range n {
			f.Observe(1 + 0.3*rng.NormFloat64()*rng.Float64())
			_ = f.Forecast()
		}
	}
	feed()
	begin := cpuTime()
	for range 4 {
		feed()
	}
	return (cpuTime() - begin).Seconds() * 1000 / float64(4*n), nil
}

// fleetCost feeds 200 VMs x 4 signals for five times two simulated minutes after
// forty of warm-up, each forecaster started at another second, and asks each forecast
// once a step. It returns the percentages of one core, in order, and KiB a forecaster.
func fleetCost() (percents []float64, kb float64, err error) {
	const n, warm, run, runs = 800, 2400, 120, 5
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	fleet := make([]*predict.Forecaster, n)
	for i := range fleet {
		if fleet[i], err = predict.New(predict.Config{Sample: time.Second, Step: 5 * time.Second}); err != nil {
			return nil, 0, err
		}
	}
	rng := rand.New(rand.NewPCG(3, 3))
	level := make([]float64, n)
	second := func(t int) {
		for i, f := range fleet {
			if t < i%warm/2 {
				continue // not started yet
			}
			level[i] = min(max(0.1, level[i]+0.01*rng.NormFloat64()), 4)
			f.Observe(level[i] * (1 + 0.05*rng.NormFloat64()))
			if (t+i)%5 == 0 {
				_ = f.Forecast()
			}
		}
	}
	for t := range warm {
		second(t)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	for t := warm; t < warm+runs*run; {
		begin := cpuTime()
		for range run {
			second(t)
			t++
		}
		percents = append(percents, 100*(cpuTime()-begin).Seconds()/run)
	}
	slices.Sort(percents)
	return percents, float64(after.HeapAlloc-before.HeapAlloc) / 1024 / n, nil
}

// cpuTime is what this process has used, all threads, garbage collection
// included.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

const markBegin, markEnd = "<!-- bench-predict: begin -->\n", "<!-- bench-predict: end -->\n"

// write replaces what stands between the marks of a Markdown file.
func (r *report) write(name string) error {
	old, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	from, to := bytes.Index(old, []byte(markBegin)), bytes.Index(old, []byte(markEnd))
	if from < 0 || to < from {
		return fmt.Errorf("%s has no marks %q and %q", name, markBegin, markEnd)
	}
	var out bytes.Buffer
	out.Write(old[:from+len(markBegin)])
	r.print(&out)
	out.WriteByte('\n')
	out.Write(old[to:])
	return os.WriteFile(name, out.Bytes(), 0o644)
}
