package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"image/png"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"headroom/agent/api"
)

func TestReadSeries(t *testing.T) {
	nan := math.NaN()
	for name, c := range map[string]struct {
		in, column string
		sample     time.Duration
		want       []float64
		step       time.Duration
		says       string
	}{
		"seconds":              {in: "100,1\n110,2\n120,3\n", want: []float64{1, 2, 3}, step: 10 * time.Second},
		"milliseconds":         {in: "1376314846000;1\n1376315146000;2\n", want: []float64{1, 2}, step: 5 * time.Minute},
		"RFC 3339 and a head":  {in: "timestamp,value\n2026-01-01T00:00:00Z,1\n2026-01-01T00:00:05Z,2\n", want: []float64{1, 2}, step: 5 * time.Second},
		"date and time":        {in: "2014-02-14 14:30:00,0.5\n2014-02-14 14:35:00,0.6\n", want: []float64{0.5, 0.6}, step: 5 * time.Minute},
		"a column by name":     {in: "t,a,B\n0,1,7\n1,2,8\n", column: "b", want: []float64{7, 8}, step: time.Second},
		"gaps are missing":     {in: "0,1\n1,2\n4,5\n5,6\n6,7\n", want: []float64{1, 2, nan, nan, 5, 6, 7}, step: time.Second},
		"missing words":        {in: "0,1\n1,NA\n2,NaN\n3\n4,5\n", want: []float64{1, nan, nan, nan, 5}, step: time.Second},
		"repeated times":       {in: "0,1\n0,9\n1,2\n2,3\n", want: []float64{1, 2, 3}, step: time.Second},
		"a coarser grid":       {in: "0,1\n1,3\n2,5\n3,7\n", sample: 2 * time.Second, want: []float64{2, 6}, step: 2 * time.Second},
		"not sorted":           {in: "5,1\n4,1\n", says: "sort"},
		"no number":            {in: "0,1\n1,x\n", says: "line 2"},
		"no time":              {in: "t,v\nyesterday,1\n", says: "yesterday"},
		"no such column":       {in: "t,v\n0,1\n", column: "cpu", says: "cpu"},
		"empty":                {in: "", says: "0 lines"},
		"centuries of seconds": {in: "0,1\n1,1\n2,1\n9000000000,1\n", says: "--sample"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readSeries(strings.NewReader(c.in), c.column, c.sample)
			if c.says != "" {
				if !errors.Is(err, errSeries) || !strings.Contains(err.Error(), c.says) {
					t.Fatalf("error %v does not say %q", err, c.says)
				}
				return
			}
			if err != nil || got.Sample != c.step || fmt.Sprint(got.X) != fmt.Sprint(c.want) {
				t.Fatalf("%v every %v, %v; want %v every %v", got.X, got.Sample, err, c.want, c.step)
			}
		})
	}
}

// FuzzReadSeries: no file makes it panic, or take more memory than lines allow.
func FuzzReadSeries(f *testing.F) {
	f.Add("t,v\n2026-01-01T00:00:00Z,1\n2026-01-01T00:00:05Z,2\n", "v", int64(0))
	f.Add("1376314846000;1\n1376315146000;NaN\n", "", int64(1e9))
	f.Fuzz(func(t *testing.T, in, column string, sample int64) {
		s, err := readSeries(strings.NewReader(in), column, time.Duration(max(0, sample)))
		if err == nil && (len(s.X) == 0 || s.Sample <= 0) {
			t.Fatalf("no error and no series: %+v", s)
		}
	})
}

// waves writes a file with 400 samples of a noisy daily wave, some missing.
func waves(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("time,ignored,demand\n")
	for i := range 400 {
		if i%37 != 5 {
			fmt.Fprintf(&b, "%d,0,%.3f\n", 1_700_000_000+300*i, 2+math.Sin(float64(i)/20)+0.1*float64(i*7919%13)/13)
		}
	}
	name := filepath.Join(t.TempDir(), "demand.csv")
	if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestBacktestOfAFile(t *testing.T) {
	file, chart := waves(t), filepath.Join(t.TempDir(), "demand.svg")
	out, code, err := call(t, "backtest", file, "--column", "demand", "--json", "--chart", chart)
	if code != exitOK {
		t.Fatal(err)
	}
	var r backtestReport
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if r.Samples != 400 || r.Missing != 11 || r.SampleS != 300 || r.Horizon != 12 {
		t.Errorf("%+v", r)
	}
	by := map[string]backtestScore{}
	for _, m := range r.Methods {
		by[m.Name] = m
		if m.Outcomes != r.Methods[0].Outcomes {
			t.Errorf("%s is scored on %d outcomes, %s on %d", m.Name, m.Outcomes, r.Methods[0].Name, r.Methods[0].Outcomes)
		}
	}
	if s, n := by["selected"], by["naive"]; s.Outcomes < 1500 || !(*s.MASE < 0.9**n.MASE) {
		t.Errorf("on a smooth wave: selected %+v, naive %+v", s, n)
	}
	svg, err := os.ReadFile(chart)
	if err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(svg, new(struct{ XMLName xml.Name })); err != nil || !bytes.Contains(svg, []byte("forecast P95")) {
		t.Errorf("the chart is no SVG with a legend: %v", err)
	}
	chart = filepath.Join(t.TempDir(), "demand.png")
	if _, _, err := call(t, "backtest", file, "--column", "demand", "--chart", chart); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(chart); err != nil {
		t.Error(err)
	} else if c, err := png.DecodeConfig(bytes.NewReader(data)); err != nil || c.Width != chartWidth || c.Height != chartHeight {
		t.Errorf("the chart is no PNG of %d x %d: %+v, %v", chartWidth, chartHeight, c, err)
	}
	if out, _, err = call(t, "backtest", file, "--column", "demand"); err != nil || !strings.Contains(out, "METHOD") || !strings.Contains(out, "11 missing") {
		t.Errorf("table: %v\n%s", err, out)
	}
}

// TestChartTitles: a long path and round times take the room that a title has.
func TestChartTitles(t *testing.T) {
	if got, want := shortName("/a/b/"+strings.Repeat("x", 80)+".csv"), strings.Repeat("x", 59)+"…"; got != want {
		t.Errorf("name %q, want %q", got, want)
	}
	if got := shortName("/a/web1"); got != "web1" {
		t.Errorf("name %q", got)
	}
	for d, want := range map[time.Duration]string{time.Hour: "1h", 90 * time.Minute: "1h30m", time.Minute: "1m",
		10 * time.Second: "10s", 90 * time.Second: "1m30s", 20 * time.Minute: "20m", time.Hour + 30*time.Second: "1h0m30s"} {
		if got := shortTime(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

func TestBacktestRefuses(t *testing.T) {
	file := waves(t)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"/no/such/file.csv"}, exitFailed, "/no/such/file.csv"},
		{[]string{"web1"}, exitNoAgent, "no file web1"},
		{[]string{file, "--train", "1"}, exitUsage, "--train"},
		{[]string{file, "--horizon", "300"}, exitFailed, "horizon"},
		{[]string{file, "--train", "0.99"}, exitFailed, "too short"},
		{[]string{file, "--column", "none"}, exitFailed, "none"},
	} {
		_, code, err := call(t, append([]string{"backtest"}, c.args...)...)
		if code != c.code || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("backtest %v: exit %d, want %d; %v does not say %q", c.args, code, c.code, err, c.says)
		}
	}
}

// historian is an agent of which only the history is asked.
type historian struct{ api.Source }

func (historian) History(vm string, back, step time.Duration) (api.History, error) {
	if vm != "web1" {
		return api.History{}, fmt.Errorf("VM %q: %w", vm, api.ErrNotFound)
	}
	h := api.History{VM: "id", Name: vm, StepS: 10}
	for i := range int(back.Seconds() / 10) {
		if i%50 != 7 {
			h.Points = append(h.Points, api.HistoryPoint{At: time.Unix(int64(10*i), 0), Cores: 1 + float64(i*7919%13)/13})
		}
	}
	return h, nil
}

func TestBacktestOfAVM(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	l, err := api.Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	s := api.NewServer(historian{}, nil, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	var out bytes.Buffer
	for _, c := range []struct {
		vm   string
		code int
	}{{"web1", exitOK}, {"other", exitNotFound}} {
		out.Reset()
		root := newRoot(&out, io.Discard)
		root.SetArgs([]string{"--socket", path, "backtest", c.vm, "--window", "1h"})
		if err := root.ExecuteContext(t.Context()); exitCode(err) != c.code {
			t.Errorf("backtest %s: %v", c.vm, err)
		}
		if c.code == exitOK && !strings.Contains(out.String(), "web1, 360 samples of 10s, 8 missing") {
			t.Errorf("table:\n%s", out.String())
		}
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
