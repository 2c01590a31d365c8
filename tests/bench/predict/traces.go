package main

import (
	"bufio"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// set is one group of series and how forecasts of them are made and scored.
type set struct {
	name    string // google_cpu, ...
	train   int    // samples before the first origin
	every   int    // samples between origins
	origins int
	season  int // samples, 0: none
	ids     []string
	series  [][]float64
}

// length is the number of samples of each series.
func (s *set) length() int { return s.train + (s.origins-1)*s.every + horizon }

const (
	horizon = 12  // steps of 5 minutes
	day     = 288 // samples
)

// unpack extracts an archive once into dir/name and returns that folder.
func unpack(archive, dir string) (string, error) {
	name, _, _ := strings.Cut(filepath.Base(archive), ".")
	to := filepath.Join(dir, name)
	if _, err := os.Stat(to); err == nil {
		return to, nil
	}
	half := to + ".part"
	if err := os.RemoveAll(half); err != nil {
		return "", err
	}
	if err := os.MkdirAll(half, 0o755); err != nil {
		return "", err
	}
	if out, err := exec.Command("tar", "-xJf", archive, "-C", half).CombinedOutput(); err != nil {
		return "", fmt.Errorf("unpack %s: %w: %s: -data names the folder with the traces", archive, err, out)
	}
	return to, os.Rename(half, to)
}

// split keeps the half of the names that tuning may look at ("tune"), the other
// one ("report"), or both.
func split(names []string, half string) []string {
	slices.Sort(names)
	if half == "all" {
		return names
	}
	var out []string
	for i, n := range names {
		if (i%2 == 0) == (half == "tune") {
			out = append(out, n)
		}
	}
	return out
}

// table reads the numeric columns of a trace; lines that repeat the timestamp
// before them are left out, lines that are not numbers as well.
func table(name, comma string, columns int, stamped bool) ([][]float64, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out [][]float64
	for s := bufio.NewScanner(f); s.Scan(); {
		var line []float64
		for _, c := range strings.FieldsFunc(s.Text(), func(r rune) bool { return strings.ContainsRune(comma, r) }) {
			v, err := strconv.ParseFloat(c, 64)
			if err != nil {
				break
			}
			line = append(line, v)
		}
		if len(line) < columns || stamped && len(out) > 0 && line[0] <= out[len(out)-1][0] {
			continue
		}
		out = append(out, line)
	}
	return out, nil
}

// google loads CPU and memory of at most n VMs whose series vary.
func google(dir, half string, n int, rng *rand.Rand) ([]*set, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*", "vm_*"))
	if err != nil {
		return nil, err
	}
	names = split(names, half)
	rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	sets := []*set{
		{name: "google_cpu", train: 200, every: 1, origins: 77},
		{name: "google_mem", train: 200, every: 1, origins: 77}}
	for _, name := range names {
		rows, err := table(name, ", \t", 2, false)
		if err != nil {
			return nil, err
		}
		for c, s := range sets {
			x := column(rows, func(r []float64) float64 { return r[c] })
			if len(s.series) < n && len(x) >= s.length() && varies(x[:s.train], 0, 0.02) {
				s.ids, s.series = append(s.ids, filepath.Base(name)), append(s.series, x[:s.length()])
			}
		}
	}
	return sets, nil
}

// bitbrains loads CPU and memory, in percent, of at most n windows of VMs that
// do something: 8 days from the 1st, 9th and 17th day of each.
func bitbrains(dir, half string, n int, rng *rand.Rand) ([]*set, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*", "*.csv"))
	if err != nil {
		return nil, err
	}
	names = split(names, half)
	rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	sets := []*set{
		{name: "bitbrains_cpu", train: 7 * day, every: 6, origins: 47, season: day},
		{name: "bitbrains_mem", train: 7 * day, every: 6, origins: 47, season: day}}
	read := []func(r []float64) float64{
		func(r []float64) float64 { return r[4] },
		func(r []float64) float64 { return min(100, 100*r[6]/max(r[5], 1)) }}
	tables := make([][][]float64, len(names))
	for i, name := range names {
		if tables[i], err = table(name, ";\t ", 7, true); err != nil {
			return nil, err
		}
	}
	for window := range 3 {
		for i, rows := range tables {
			from := window * 8 * day
			if len(rows) < from+sets[0].length() {
				continue
			}
			rows = rows[from : from+sets[0].length()]
			cpu := column(rows, read[0])
			for c, s := range sets {
				x := column(rows, read[c])
				if len(s.series) < n && varies(cpu[:s.train], 10, 3) && changes(x[:s.train]) {
					s.ids = append(s.ids, fmt.Sprintf("%s.%d", filepath.Base(filepath.Dir(names[i])+"-"+filepath.Base(names[i])), window))
					s.series = append(s.series, x)
				}
			}
		}
	}
	return sets, nil
}

func column(rows [][]float64, read func([]float64) float64) []float64 {
	out := make([]float64, len(rows))
	for i, r := range rows {
		out[i] = read(r)
	}
	return out
}

// varies says whether the mean is at least least and the standard deviation at
// least sd: of the mean, when least is 0.
func varies(x []float64, least, sd float64) bool {
	m, s := moments(x)
	if least == 0 {
		return m > 0 && s > sd*m
	}
	return m >= least && s >= sd
}

// changes says whether naive is wrong at all: MASE divides by it.
func changes(x []float64) bool { _, s := moments(x); return s > 0 }

func moments(x []float64) (mean, sd float64) {
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		sd += (v - mean) * (v - mean) / float64(len(x))
	}
	return mean, math.Sqrt(sd)
}
