package main

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"headroom/predict"
)

//go:embed methods.R
var methodsR []byte

// result is how one method did on every series of a set.
type result struct {
	name   string
	scores []predict.Score
	fit    []float64 // seconds, per series; nil when not measured
}

// parts is the number of R processes.
const parts = 2

// runR lets R's methods forecast the series of s. What they gave is kept in
// cache under a name that depends on the script and on the series.
func runR(s *set, cache string) ([]result, error) {
	var lines strings.Builder
	for _, x := range s.series {
		for i, v := range x {
			if i > 0 {
				lines.WriteByte(',')
			}
			lines.WriteString(strconv.FormatFloat(v, 'g', -1, 64))
		}
		lines.WriteByte('\n')
	}
	key := sha256.New()
	fmt.Fprintln(key, s.train, s.every, s.origins, s.season, lines.String())
	key.Write(methodsR)
	dir := filepath.Join(cache, fmt.Sprintf("%s-%x", s.name, key.Sum(nil)[:8]))
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		if err := callR(s, dir, lines.String()); err != nil {
			return nil, err
		}
	}
	return readR(s, dir)
}

func callR(s *set, dir, lines string) error {
	half := dir + ".part"
	if err := errors.Join(os.RemoveAll(half), os.MkdirAll(half, 0o755)); err != nil {
		return err
	}
	input, script := filepath.Join(half, "series"), filepath.Join(half, "methods.R")
	if err := errors.Join(os.WriteFile(input, []byte(lines), 0o644), os.WriteFile(script, methodsR, 0o644)); err != nil {
		return err
	}
	var g errgroup.Group
	for p := range parts {
		g.Go(func() error {
			args := []string{script, input, half}
			for _, v := range []int{s.train, s.every, s.origins, s.season, p, parts} {
				args = append(args, strconv.Itoa(v))
			}
			if out, err := exec.Command("Rscript", args...).CombinedOutput(); err != nil {
				return fmt.Errorf("run R: %w: %s: install Debian's r-cran-forecast", err, out)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return os.Rename(half, dir)
}

// readR scores what callR left.
func readR(s *set, dir string) ([]result, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.0"))
	if err != nil {
		return nil, err
	}
	var out []result
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".0")
		if name == "failed" {
			continue
		}
		r := result{name: "R " + name, scores: make([]predict.Score, len(s.series)), fit: make([]float64, len(s.series))}
		for p := range parts {
			if err := readPart(s, &r, filepath.Join(dir, fmt.Sprintf("%s.%d", name, p)), p); err != nil {
				return nil, err
			}
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b result) int { return strings.Compare(a.name, b.name) })
	return out, nil
}

// readPart reads what process p of R gave: series p-1, p-1+parts, ... because R
// counts lines from 1.
func readPart(s *set, r *result, name string, p int) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	times, err := os.ReadFile(name + ".s")
	if err != nil {
		return err
	}
	secs := bytes.Fields(times)
	in := bytes.NewReader(data)
	for i := (p + parts - 1) % parts; i < len(s.series); i += parts {
		if r.fit[i], err = strconv.ParseFloat(string(secs[i/parts]), 64); err != nil {
			return fmt.Errorf("%s.s: %w", name, err)
		}
		r.scores[i] = predict.Score{Name: r.name, Unit: change(s.series[i][:s.train])}
		for o := range s.origins {
			steps, peak, err := readForecast(in)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			now := s.train + o*s.every
			r.scores[i].Add(steps, peak, s.series[i][now:now+horizon])
		}
	}
	return nil
}

// readForecast reads one forecast; as its peak it takes the highest of the
// steps' quantiles, for R's methods forecast no peak. Demand is not negative.
func readForecast(in io.Reader) ([]predict.Quantiles, predict.Quantiles, error) {
	var raw [horizon][5]float32
	if err := binary.Read(in, binary.LittleEndian, &raw); err != nil {
		return nil, predict.Quantiles{}, err
	}
	steps := make([]predict.Quantiles, horizon)
	var peak predict.Quantiles
	for h := range steps {
		for l := range steps[h] {
			steps[h][l] = max(0, float64(raw[h][l]))
			peak[l] = max(peak[l], steps[h][l])
		}
	}
	return steps, peak, nil
}

// change is the mean absolute one-step change: the unit of MASE.
func change(x []float64) float64 {
	var sum float64
	for i := 1; i < len(x); i++ {
		sum += math.Abs(x[i] - x[i-1])
	}
	return sum / float64(len(x)-1)
}
