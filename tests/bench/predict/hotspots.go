package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"headroom/predict"
)

// spotTable says how the hot spots do on series whose anomalies are labelled: the
// Numenta Anomaly Benchmark's of servers (Lavin and Ahmad 2015).
type spotTable struct {
	series, windows int
	days            float64 // scored outside of windows
	rows            []spotRow
}

// spotRow is one kind of hot spot. An alarm is the sample at which it appears.
type spotRow struct {
	kind   string
	found  int     // windows with an alarm
	wrong  int     // alarms outside of windows
	chance float64 // windows that as many alarms at random times would find
}

// probation is the share of each series that teaches and is not scored, as in
// that benchmark.
const probation = 0.15

const anyKind = "any"

// labelled is one series: its values and which lie in a window, by its number.
type labelled struct {
	values []float64
	window []int // 0: in none
	count  int
}

// scoreSpots runs the hot spots over every labelled series in data's archive; an
// archive that is not there leaves the table empty.
func scoreSpots(data, cache string) (spotTable, error) {
	archive := filepath.Join(data, "nab-aws.tar.xz")
	if _, err := os.Stat(archive); errors.Is(err, fs.ErrNotExist) {
		return spotTable{}, nil
	}
	dir, err := unpack(archive, cache)
	if err != nil {
		return spotTable{}, err
	}
	labels, err := os.ReadFile(filepath.Join(dir, "nab", "labels", "combined_windows.json"))
	if err != nil {
		return spotTable{}, err
	}
	windows := map[string][][2]string{}
	if err := json.Unmarshal(labels, &windows); err != nil {
		return spotTable{}, fmt.Errorf("labels: %w", err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "nab", "data", "*", "*.csv"))
	if err != nil {
		return spotTable{}, err
	}
	slices.Sort(names)
	t := spotTable{}
	for _, k := range []string{"rise", "level-shift", "volatile", anyKind} {
		t.rows = append(t.rows, spotRow{kind: k})
	}
	for _, name := range names {
		x, err := readLabelled(name, windows[filepath.Base(filepath.Dir(name))+"/"+filepath.Base(name)])
		if err != nil {
			return spotTable{}, fmt.Errorf("%s: %w", name, err)
		}
		if err := t.add(x); err != nil {
			return spotTable{}, err
		}
	}
	return t, nil
}

// readLabelled reads lines of time and value.
func readLabelled(name string, windows [][2]string) (*labelled, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	out := &labelled{count: len(windows)}
	for i, line := range strings.Split(strings.TrimSpace(string(data)), "\n")[1:] {
		at, value, _ := strings.Cut(strings.TrimSpace(line), ",")
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+2, err)
		}
		in := 0
		for w, span := range windows {
			if at >= span[0][:len(at)] && at <= span[1][:len(at)] {
				in = w + 1
			}
		}
		out.values, out.window = append(out.values, v), append(out.window, in)
	}
	return out, nil
}

// add scores one series.
func (t *spotTable) add(x *labelled) error {
	f, err := predict.New(predict.Config{Step: sampleTime})
	if err != nil {
		return err
	}
	from := int(probation * float64(len(x.values)))
	was := map[string]bool{}
	found, alarms := make([]map[int]bool, len(t.rows)), make([]int, len(t.rows))
	for i := range found {
		found[i] = map[int]bool{}
	}
	length := make([]int, x.count+1)
	for i, v := range x.values {
		f.Observe(v)
		now := map[string]bool{}
		for _, s := range f.HotSpots() {
			now[s.Kind] = true
		}
		begun := map[string]bool{}
		for kind := range now {
			if !was[kind] {
				begun[kind], begun[anyKind] = true, true
			}
		}
		was = now
		if i < from {
			continue
		}
		length[x.window[i]]++
		for r := range t.rows {
			if !begun[t.rows[r].kind] {
				continue
			}
			alarms[r]++
			found[r][x.window[i]] = true
			if x.window[i] == 0 {
				t.rows[r].wrong++
			}
		}
	}
	t.count(x, length, found, alarms, from)
	return nil
}

// count adds up what add saw in the samples of each window (0: in none): windows
// found, and alarms, per row.
func (t *spotTable) count(x *labelled, length []int, found []map[int]bool, alarms []int, from int) {
	t.series++
	t.windows += x.count
	t.days += float64(length[0]) * sampleTime.Hours() / (24 * time.Hour).Hours()
	scored := float64(len(x.values) - from)
	for r := range t.rows {
		for w := 1; w <= x.count; w++ {
			if found[r][w] {
				t.rows[r].found++
			}
			t.rows[r].chance += 1 - math.Exp(-float64(alarms[r])*float64(length[w])/scored)
		}
	}
}

func (t *spotTable) print(out io.Writer) {
	if t.series == 0 {
		return
	}
	fmt.Fprintf(out, "\n### Hot spots: %d labelled series of servers (NAB), %d windows\n\n", t.series, t.windows)
	fmt.Fprintln(out, "| kind | windows found | by chance | false alarms a day |")
	fmt.Fprintln(out, "|---|---|---|---|")
	for _, r := range t.rows {
		n := float64(t.windows)
		fmt.Fprintf(out, "| %s | %.2f | %.2f | %.2f |\n", r.kind, float64(r.found)/n, r.chance/n, float64(r.wrong)/t.days)
	}
}
