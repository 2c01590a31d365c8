// Command planner measures the planner against what others publish and run: the
// simulator against CloudSim's own output, the policy headroom against other
// policies on recorded traces, its plan for a snapshot against Ganeti's hbal, and
// its cost. `make bench-planner TRACES=DIR` runs it; DIR holds the unpacked
// traces (20110303, 20110306, fastStorage-2013-8, rnd-2013-7). docs/PLANNER.md
// tells what is measured and how hosts are sized. The last line is one JSON
// object; a figure that could not be measured is null.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// figures is the last line.
type figures struct {
	EnergyError     *float64 `json:"cloudsim_energy_error_percent_max"`
	MigrationsError *float64 `json:"cloudsim_migrations_error_percent_max"`
	Contention      *float64 `json:"bitbrains_contention_ratio"`
	Moves           *float64 `json:"bitbrains_moves_ratio"`
	OracleGap       *float64 `json:"oracle_gap_ratio"`
	HbalResidual    *float64 `json:"hbal_residual_ratio"`
	HbalMoves       *float64 `json:"hbal_moves_ratio"`
	HbalTime        *float64 `json:"hbal_time_ratio"`
	RoundMS         *float64 `json:"round_ms"`
	DayHeadroom     *float64 `json:"day_headroom_s"`
	DayLRMMT        *float64 `json:"day_lrmmt_s"`
	RSS             *float64 `json:"rss_mib"`
}

// chosen are the snapshots on which hbal is compared.
var chosen = flag.String("snapshots", "", "with part hbal: only these snapshots, as in even/20,hot/400")

func main() {
	dir := flag.String("traces", os.Getenv("HEADROOM_TRACES"), "folder of the unpacked traces")
	only := flag.String("only", "", "measure these parts alone: "+strings.Join(names(), ","))
	flag.Parse()
	if *dir == "" {
		fmt.Fprintln(os.Stderr, "give -traces DIR, or set HEADROOM_TRACES: a folder with 20110303, fastStorage-2013-8, ...")
		os.Exit(2)
	}
	todo, err := selected(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	var out figures
	for _, part := range todo {
		if err := part.run(*dir, &out); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", part.name, err)
			os.Exit(1)
		}
	}
	line, err := json.Marshal(out)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(string(line))
}

// part is one part of the benchmark; each can be measured alone.
type part struct {
	name string
	run  func(dir string, out *figures) error
}

func parts() []part {
	return []part{{"round", measureRound}, {"fidelity", fidelity}, {"day", day}, {"planetlab", planetlab},
		{"bitbrains", bitbrains}, {"hbal", hbal}, {"growth", growth}}
}

func names() []string {
	var out []string
	for _, p := range parts() {
		out = append(out, p.name)
	}
	return out
}

// selected are the parts of a list of names, all for an empty one.
func selected(only string) ([]part, error) {
	if only == "" {
		return parts(), nil
	}
	var out []part
	for name := range strings.SplitSeq(only, ",") {
		i := slices.Index(names(), name)
		if i < 0 {
			return nil, fmt.Errorf("part %q is not known: use some of %s", name, strings.Join(names(), ","))
		}
		out = append(out, parts()[i])
	}
	return out, nil
}

func some(v float64) *float64 { return &v }

// peakMiB is the most memory that this process has had.
func peakMiB() float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(text), "\n") {
		var kib float64
		if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kib); n == 1 {
			return kib / 1024
		}
	}
	return 0
}

// each spreads work over all cores.
func each(n int, do func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	wg.Wait()
}
