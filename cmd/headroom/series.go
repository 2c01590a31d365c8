package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// errSeries says that a file holds no series that can be read.
var errSeries = errors.New("no time series")

const (
	maxSeriesLines = 2_000_000
	maxSeriesBytes = 1 << 16 // of a line
)

// regular is a series on a grid: one value per sample, NaN where missing.
type regular struct {
	Start  time.Time
	Sample time.Duration
	X      []float64
}

type stampedValue struct {
	at time.Time
	v  float64
}

// readSeries reads lines of «timestamp,value», or «timestamp;value», with more
// columns when column names the one to take from the head line. A timestamp is
// RFC 3339, «2006-01-02 15:04:05» in UTC, or a Unix time in seconds or
// milliseconds. Lines must be in order of time; of equal times the first counts.
// An empty value, «NaN» or «NA» is a missing one. The grid is the usual distance
// of two lines, or sample when it is not 0.
func readSeries(in io.Reader, column string, sample time.Duration) (regular, error) {
	var points []stampedValue
	at, lines := 1, 0
	s := bufio.NewScanner(in)
	s.Buffer(make([]byte, 4096), maxSeriesBytes)
	for s.Scan() {
		if lines++; lines > maxSeriesLines {
			return regular{}, fmt.Errorf("%w: more than %d lines", errSeries, maxSeriesLines)
		}
		cells := strings.FieldsFunc(s.Text(), func(r rune) bool { return r == ',' || r == ';' || r == '\t' })
		if len(cells) == 0 {
			continue
		}
		p, err := readPoint(cells, at)
		switch {
		case err == nil && (len(points) == 0 || p.at.After(points[len(points)-1].at)):
			points = append(points, p)
		case err == nil && p.at.Before(points[len(points)-1].at):
			return regular{}, fmt.Errorf("%w: line %d is earlier than the one before: sort the file by time", errSeries, lines)
		case err != nil && len(points) == 0 && lines == 1:
			if at, err = columnOf(cells, column); err != nil {
				return regular{}, err
			}
		case err != nil:
			return regular{}, fmt.Errorf("%w: line %d: %w", errSeries, lines, err)
		}
	}
	if err := s.Err(); err != nil {
		return regular{}, fmt.Errorf("%w: line %d: %w", errSeries, lines+1, err)
	}
	return onGrid(points, sample)
}

// columnOf finds the value's column in the head line.
func columnOf(head []string, name string) (int, error) {
	if name == "" {
		return 1, nil
	}
	i := slices.IndexFunc(head, func(c string) bool { return strings.EqualFold(strings.TrimSpace(c), name) })
	if i < 1 {
		return 0, fmt.Errorf("%w: no column %q among %q", errSeries, name, head)
	}
	return i, nil
}

func readPoint(cells []string, at int) (stampedValue, error) {
	when, err := readTime(strings.TrimSpace(cells[0]))
	if err != nil {
		return stampedValue{}, err
	}
	if at >= len(cells) {
		return stampedValue{when, math.NaN()}, nil
	}
	text := strings.TrimSpace(cells[at])
	if text == "" || text == "NA" {
		return stampedValue{when, math.NaN()}, nil
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return stampedValue{}, fmt.Errorf("%q is not a number", text)
	}
	return stampedValue{when, v}, nil
}

func readTime(s string) (time.Time, error) {
	if v, err := strconv.ParseFloat(s, 64); err == nil {
		if v > 1e11 {
			v /= 1000
		}
		if !(v >= 0 && v <= 1e11) {
			return time.Time{}, fmt.Errorf("%q is not a Unix time", s)
		}
		whole, part := math.Modf(v)
		return time.Unix(int64(whole), int64(part*1e9)).UTC(), nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateTime} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: want RFC 3339, 2006-01-02 15:04:05 or a Unix time", s)
}

// onGrid puts points on a grid of the given distance, or of their usual one.
func onGrid(points []stampedValue, sample time.Duration) (regular, error) {
	if len(points) < 2 {
		return regular{}, fmt.Errorf("%w: %d lines of timestamp and value", errSeries, len(points))
	}
	if sample == 0 {
		gaps := make([]time.Duration, len(points)-1)
		for i := range gaps {
			gaps[i] = points[i+1].at.Sub(points[i].at)
		}
		slices.Sort(gaps)
		if sample = gaps[len(gaps)/2]; sample > time.Second {
			sample = sample.Round(time.Second)
		}
	}
	out := regular{Start: points[0].at, Sample: sample}
	n := points[len(points)-1].at.Sub(out.Start)/sample + 1
	if n > maxSeriesLines {
		return regular{}, fmt.Errorf("%w: %d samples of %v between the first and the last line, at most %d: give a longer --sample", errSeries, n, sample, maxSeriesLines)
	}
	sums, counts := make([]float64, n), make([]int, n)
	for _, p := range points {
		if i := p.at.Sub(out.Start) / sample; !math.IsNaN(p.v) {
			sums[i] += p.v
			counts[i]++
		}
	}
	for i := range sums {
		sums[i] /= float64(counts[i]) // NaN where there is none
	}
	out.X = sums
	return out, nil
}
