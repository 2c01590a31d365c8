package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"headroom/cmd/headroom/traces"
	"headroom/planner/simulate"
)

// simulateCmd replays a recorded trace under one or more policies.
type simulateCmd struct {
	*env
	trace, policy, hosts string
	chart                string
	seed                 uint64
	csv, published       bool
	faults               simulate.Faults
}

const simulateLong = `Replays recorded demand of VMs over modelled hosts and lets a policy move them.
Policy headroom runs this program's own forecasts, planner and negotiation.

DIR is a day of PlanetLab (files of integers) or Bitbrains (*.csv, also in
folders). Without --hosts, so many hosts are taken that the 99th percentile of
all demand is 65 % of their capacity, of cores and, where the trace records it, of
disk and network traffic. The same arguments give the same result.

--policy takes names separated by commas, or «all»:
  `

func (c *simulateCmd) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "simulate --trace DIR",
		Short: "Replay a trace: what would headroom, or another policy, have moved",
		Long:  simulateLong + strings.Join(simulate.Policies(), " "),
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return c.run() },
	}
	f := cmd.Flags()
	f.StringVar(&c.trace, "trace", "", "folder of the trace")
	f.StringVar(&c.policy, "policy", "headroom", "policies, separated by commas")
	f.StringVar(&c.hosts, "hosts", "", "JSON file of hosts (default: sized for the trace)")
	f.Uint64Var(&c.seed, "seed", 1, "seed of all randomness")
	f.StringVar(&c.chart, "chart", "", "write how contention and moves grew to this .svg or .png file")
	f.BoolVar(&c.csv, "csv", false, "print CSV")
	f.BoolVar(&c.published, "published", false, "PlanetLab as CloudSim publishes it: 800 hosts of 4 GiB, memory not enforced, idle VMs deleted")
	f.Float64Var(&c.faults.LostGossip, "lose-gossip", 0, "share of digests that are lost")
	f.Float64Var(&c.faults.StaleOffers, "stale-offers", 0, "share of offers that come too late")
	f.Float64Var(&c.faults.DeadAgents, "dead-agents", 0, "share of hosts without a working agent")
	f.Float64Var(&c.faults.FailedMigrations, "fail-migrations", 0, "share of migrations that fail")
	f.Float64Var(&c.faults.SlowMigrations, "slow-migrations", 0, "share of migrations that take four times as long")
	f.Float64Var(&c.faults.WrongForecasts, "wrong-forecasts", 0, "relative error of forecasts")
	return cmd
}

func (c *simulateCmd) run() error {
	if c.trace == "" {
		return fmt.Errorf("%w: simulate: give --trace DIR", errUsage)
	}
	if ext := strings.ToLower(filepath.Ext(c.chart)); c.chart != "" && ext != ".svg" && ext != ".png" {
		return fmt.Errorf("%w: simulate: --chart %s: give a file that ends in .svg or .png", errUsage, c.chart)
	}
	s, err := c.setup()
	if err != nil {
		return err
	}
	policies := strings.Split(c.policy, ",")
	if c.policy == "all" {
		policies = simulate.Policies()
	}
	var results []simulate.Result
	var drawn runs
	for _, p := range policies {
		o := simulate.Options{Policy: p, Seed: c.seed, Faults: c.faults, Each: each, Progress: c.progress(p)}
		if c.chart != "" {
			o.Sample = drawn.add(p)
		}
		r, err := simulate.Run(s, o)
		if errors.Is(err, simulate.ErrPolicy) {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		if err != nil {
			return err
		}
		results = append(results, r)
	}
	if err := c.report(results); err != nil || c.chart == "" {
		return err
	}
	return drawn.write(c.chart, c.trace)
}

// report prints the results in the form asked for; one alone is one JSON object.
func (c *simulateCmd) report(results []simulate.Result) error {
	switch {
	case c.json && len(results) == 1:
		return writeJSON(c.out, results[0])
	case c.csv:
		return c.writeCSV(results)
	}
	return c.print(results, func(w *tabwriter.Writer) { simulateTable(w, results) })
}

func (c *simulateCmd) setup() (simulate.Setup, error) {
	if c.published {
		return traces.ReadPublished(c.trace)
	}
	if c.hosts == "" {
		return traces.Read(c.trace, nil, c.seed)
	}
	hosts, err := traces.ReadHosts(c.hosts)
	if err != nil {
		return simulate.Setup{}, err
	}
	return traces.Read(c.trace, hosts, c.seed)
}

// progress draws a bar on a terminal, and nothing elsewhere.
func (c *simulateCmd) progress(policy string) func(done, of int) {
	f, ok := c.errOut.(*os.File)
	if !ok || !isatty.IsTerminal(f.Fd()) {
		return nil
	}
	const width = 40
	last := -1
	return func(done, of int) {
		if p := 100 * done / max(1, of); p != last {
			last = p
			fmt.Fprintf(f, "\r%-14s [%-*s] %3d %%", policy, width, strings.Repeat("=", width*p/100), p)
			if p == 100 {
				fmt.Fprint(f, "\r\033[K")
			}
		}
	}
}

// each spreads work over all cores and waits for it.
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

var simulateColumns = []string{"policy", "contention_core_seconds", "starved_core_seconds", "migrations", "migrated_gib", "blackout_s", "unhelpful_moves", "ping_pongs",
	"energy_kwh", "slatah_percent", "pdm_percent", "slav_percent"}

func simulateRow(r *simulate.Result) []string {
	f := func(v float64, digits int) string { return strconv.FormatFloat(v, 'f', digits, 64) }
	return []string{r.Policy, f(r.Contention, 1), f(r.Starved, 1), itoa(r.Migrations), f(r.MigratedGiB, 1), f(r.BlackoutS, 1), itoa(r.UnhelpfulMoves), itoa(r.PingPongs),
		f(r.EnergyKWh, 2), f(r.SLATAHPercent, 3), f(r.PDMPercent, 4), f(r.SLAVPercent, 5)}
}

func simulateTable(w *tabwriter.Writer, results []simulate.Result) {
	r := &results[0]
	row(w, fmt.Sprintf("%s: %d VMs, %d hosts, %d steps, %.0f core-seconds of demand", r.Setup, r.VMs, r.Hosts, r.Steps, r.Demand))
	row(w, "POLICY", "CONTENTION CORE-S", "OF DISK, NET", "MIGRATIONS", "GIB", "BLACKOUT S", "UNHELPFUL", "PING-PONGS", "KWH", "SLATAH %", "PDM %", "SLAV %")
	for i := range results {
		row(w, simulateRow(&results[i])...)
	}
}

func (c *simulateCmd) writeCSV(results []simulate.Result) error {
	w := csv.NewWriter(c.out)
	lines := [][]string{append([]string{"seed"}, simulateColumns...)}
	for i := range results {
		lines = append(lines, append([]string{strconv.FormatUint(c.seed, 10)}, simulateRow(&results[i])...))
	}
	if err := w.WriteAll(lines); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}
