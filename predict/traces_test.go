package predict

import (
	"bufio"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestTraces measures the forecaster on public 5-minute traces, one hour ahead.
// It needs HEADROOM_TRACES: a directory with the traces unpacked (20110303,
// GCD_VMs, fastStorage). HEADROOM_SPLIT chooses the series: tune (even ones, by
// name) or final (odd ones, not looked at while tuning). It asserts only what
// must hold on every trace: calibration, and no loss to naive.
func TestTraces(t *testing.T) {
	root := os.Getenv("HEADROOM_TRACES")
	if root == "" {
		t.Skip("HEADROOM_TRACES names no directory of unpacked traces")
	}
	rest := 0
	if os.Getenv("HEADROOM_SPLIT") == "final" {
		rest = 1
	}
	for _, set := range []struct {
		name, glob string
		column     int
		comma      string
		from, to   int
		keep       func([]float64) bool
	}{
		{"planetlab", "20110303/*", 0, " ", 200, 288, active},
		{"google-cpu", "GCD_VMs/*", 0, ",", 200, 288, varied},
		{"google-mem", "GCD_VMs/*", 1, ",", 200, 288, varied},
		{"bitbrains-cpu", "*/*.csv", 4, ";", 2016, 2304, active},
	} {
		t.Run(set.name, func(t *testing.T) {
			var all []score
			names, _ := filepath.Glob(filepath.Join(root, set.glob))
			sort.Strings(names)
			for i, name := range names {
				if i%2 != rest || len(all) == 60 {
					continue
				}
				x := column(t, name, set.column, set.comma)
				if len(x) < set.to || !set.keep(x[:set.from]) {
					continue
				}
				all = append(all, measure(t, x[:set.to], set.from))
			}
			report(t, all)
		})
	}
}

func varied(x []float64) bool { m, s := moments(x); return m > 0 && s > 0.02*m }

func active(x []float64) bool { m, s := moments(x); return m >= 10 && s >= 3 }

func moments(x []float64) (mean, sd float64) {
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		sd += (v - mean) * (v - mean) / float64(len(x))
	}
	return mean, math.Sqrt(sd)
}

func column(t *testing.T, name string, i int, comma string) (out []float64) {
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	last := ""
	for s := bufio.NewScanner(f); s.Scan(); {
		cells := strings.FieldsFunc(s.Text(), func(r rune) bool { return strings.ContainsRune(comma+"\t ", r) })
		if len(cells) <= i || len(cells) > 2 && cells[0] == last {
			continue // Bitbrains repeats some timestamps
		}
		if v, err := strconv.ParseFloat(cells[i], 64); err == nil {
			out, last = append(out, v), cells[0]
		}
	}
	return out
}

// score is one series' result, in units of its in-sample one-step change.
type score struct{ mase, naive, pin95, peak95, skill, q95, peak float64 }

func measure(t *testing.T, x []float64, from int) score {
	c := Config{Step: 5 * time.Minute, LSTM: os.Getenv("HEADROOM_LSTM") != ""}
	if from > 2*288 {
		c.Season = 24 * time.Hour
	}
	f, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	var unit float64
	for i := 1; i < from; i++ {
		unit += math.Abs(x[i]-x[i-1]) / float64(from-1)
	}
	var s score
	var n, np, loss, base float64
	for i, v := range x {
		f.Observe(v)
		if i < from || i+12 >= len(x) {
			continue
		}
		fc, top := f.Forecast(), 0.0
		for h := range fc.Steps {
			y := x[i+1+h]
			top = math.Max(top, y)
			s.mase += math.Abs(y-fc.Steps[h][0]) / unit
			s.naive += math.Abs(y-v) / unit
			s.pin95 += one(0.95, fc.Steps[h][3], y)
			loss += pinball(&fc.Steps[h], y)
			base += pinball(&f.steps[0][h], y)
			s.q95 += share(y <= fc.Steps[h][3])
			n++
		}
		s.peak95 += one(0.95, fc.Peak[3], top)
		s.peak += share(top <= fc.Peak[3])
		np++
	}
	return score{s.mase / n, s.naive / n, s.pin95 / n, s.peak95 / np, 1 - loss/base, s.q95 / n, s.peak / np}
}

func one(p, q, y float64) float64 { return math.Max(p*(y-q), (p-1)*(y-q)) }

func share(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func report(t *testing.T, all []score) {
	var m score
	n := float64(len(all))
	for _, s := range all {
		m.mase += s.mase / n
		m.naive += s.naive / n
		m.pin95 += s.pin95 / n
		m.peak95 += s.peak95 / n
		m.skill += s.skill / n
		m.q95 += s.q95 / n
		m.peak += s.peak / n
	}
	t.Logf("%d series: MASE %.3f (naive %.3f), pinball 0.95 %.3f, of the peak %.3f; skill %.3f; at or below q0.95: steps %.3f, peak %.3f",
		len(all), m.mase, m.naive, m.pin95, m.peak95, m.skill, m.q95, m.peak)
	if n == 0 {
		t.Fatal("no series found")
	}
	if m.skill <= 0 {
		t.Errorf("skill %.3f: naive is no worse", m.skill)
	}
	if m.q95 < 0.92 || m.q95 > 0.98 || m.peak < 0.9 {
		t.Errorf("coverage of 0.95: steps %.3f, peak %.3f", m.q95, m.peak)
	}
}
