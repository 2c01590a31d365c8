package traces

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"headroom/planner/simulate"
)

// daySteps is the length of a PlanetLab file in lines.
const daySteps = 288

// planetlab reads one day, in the order of the files' names.
func planetlab(dir string, names []string) (simulate.Setup, error) {
	ids := make([]string, len(names))
	demand := make([][]float32, len(names))
	for i, name := range names {
		text, err := read(name)
		if err != nil {
			return simulate.Setup{}, err
		}
		if demand[i], err = percents(text); err != nil {
			return simulate.Setup{}, fmt.Errorf("read trace %s: %w", name, err)
		}
		ids[i] = filepath.Base(name)
	}
	return simulate.PlanetLab(filepath.Base(dir), ids, demand, 800, 4096), nil
}

// percents reads one file: 288 integers of 0..100, one a line.
func percents(text string) ([]float32, error) {
	words := strings.Fields(text)
	if len(words) < daySteps {
		return nil, fmt.Errorf("%d values, want %d: %w", len(words), daySteps, ErrNoTrace)
	}
	out := make([]float32, daySteps)
	for k, word := range words[:daySteps] {
		v, err := strconv.Atoi(word)
		if err != nil || v < 0 || v > 100 {
			return nil, fmt.Errorf("line %d: %q is no percentage: %w", k+1, word, ErrNoTrace)
		}
		out[k] = float32(v) / 100
	}
	return out, nil
}
