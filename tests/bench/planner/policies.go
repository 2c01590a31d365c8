package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"headroom/cmd/headroom/traces"
	"headroom/planner/simulate"
)

// published is the output of CloudSim 3.0.3 for 20110303, files sorted by name.
var published = []struct {
	policy          string
	kwh, migrations float64
}{
	{"dvfs", 802.75, 0}, {"thr-mmt-0.8", 192.62, 26711}, {"iqr-mmt-1.5", 189.98, 26282},
	{"mad-mmt-2.5", 185.79, 26556}, {"lr-mmt-1.2", 163.48, 27859}, {"lr-mc-1.2", 151.07, 23380},
}

func fidelity(dir string, out *figures) error {
	s, err := traces.ReadPublished(filepath.Join(dir, "20110303"))
	if err != nil {
		return err
	}
	fmt.Println("CloudSim's benchmark, 20110303: kWh and migrations, ours and CloudSim 3.0.3's")
	energy, migrations := 0.0, 0.0
	for _, want := range published {
		began := time.Now()
		r, err := simulate.Run(s, simulate.Options{Policy: want.policy, Each: each})
		if err != nil {
			return err
		}
		took := time.Since(began).Seconds()
		fmt.Printf("  %-12s %7.2f %7.2f  %6d %6.0f  SLATAH %.2f %%  PDM %.2f %%  %.2f s\n", want.policy, r.EnergyKWh, want.kwh, r.Migrations, want.migrations, r.SLATAHPercent, r.PDMPercent, took)
		energy = math.Max(energy, 100*math.Abs(r.EnergyKWh/want.kwh-1))
		if want.migrations > 0 {
			migrations = math.Max(migrations, 100*math.Abs(float64(r.Migrations)/want.migrations-1))
		}
		if want.policy == "lr-mmt-1.2" {
			out.DayLRMMT = some(took)
		}
	}
	out.EnergyError, out.MigrationsError = some(energy), some(migrations)
	return nil
}

// day is the cost of policy headroom on the benchmark's size.
func day(dir string, out *figures) error {
	s, err := traces.ReadPublished(filepath.Join(dir, "20110303"))
	if err != nil {
		return err
	}
	for i := range s.Hosts {
		s.Hosts[i].Memory = 16384
	}
	if s, err = s.Corrected().Scatter(1); err != nil {
		return err
	}
	began := time.Now()
	r, err := simulate.Run(s, simulate.Options{Policy: "headroom", Seed: 1, Each: each})
	if err != nil {
		return err
	}
	out.DayHeadroom, out.RSS = some(time.Since(began).Seconds()), some(peakMiB())
	fmt.Printf("\none day, 800 hosts, 1052 VMs, policy headroom: %.2f s, %d migrations, %.0f MiB\n", *out.DayHeadroom, r.Migrations, *out.RSS)
	return nil
}

// placements are the start placements, by their seed, on which policies are compared. A
// slight change of anything moves the result of one by a quarter.
const placements = 6

// compare runs policies on one setup and prints the table.
func compare(s simulate.Setup, seed uint64, policies []string) (map[string]simulate.Result, error) {
	fmt.Printf("\n%s, placement %d: %d VMs, %d hosts, %d steps\n", s.Name, seed, len(s.VMs), len(s.Hosts), s.Steps)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "policy\tcontention core-s\tmigrations\tGiB\tblackout s\tunhelpful\tharmful\tping-pongs\tkWh\tSLATAH %\tPDM %\ts\t")
	results := map[string]simulate.Result{}
	for _, p := range policies {
		began := time.Now()
		r, err := simulate.Run(s, simulate.Options{Policy: p, Seed: seed, Each: each})
		if err != nil {
			return nil, err
		}
		results[p] = r
		fmt.Fprintf(w, "%s\t%.0f\t%d\t%.1f\t%.1f\t%d\t%d\t%d\t%.2f\t%.3f\t%.4f\t%.1f\t\n", p, r.Contention, r.Migrations, r.MigratedGiB, r.BlackoutS,
			r.UnhelpfulMoves, r.HarmfulMoves, r.PingPongs, r.EnergyKWh, r.SLATAHPercent, r.PDMPercent, time.Since(began).Seconds())
	}
	return results, w.Flush()
}

// total is what policies came to over all placements.
type total map[string]amount

type amount struct{ contention, moves float64 }

func (t total) add(results map[string]simulate.Result) {
	for p, r := range results {
		t[p] = amount{t[p].contention + r.Contention, t[p].moves + float64(r.Migrations)}
	}
}

// reactive are the policies that do not look ahead and do not consolidate.
var reactive = []string{"reactive", "sandpiper", "n-sigma"}

// overPlacements compares every policy on the first placement of a trace, and on the
// others those that were within ten times the best one's contention there.
func overPlacements(dir string) (total, error) {
	sum := total{}
	policies := simulate.Policies()
	for seed := range uint64(placements) {
		s, err := traces.Read(dir, nil, seed+1)
		if err != nil {
			return nil, err
		}
		results, err := compare(s, seed+1, policies)
		if err != nil {
			return nil, err
		}
		sum.add(results)
		if seed == 0 {
			policies = contenders(results)
		}
	}
	for p := range sum {
		if !slices.Contains(policies, p) {
			delete(sum, p)
		}
	}
	fmt.Printf("%s, all %d placements:\n", filepath.Base(dir), placements)
	for _, p := range policies {
		fmt.Printf("  %-12s %9.0f core-s %6.0f migrations\n", p, sum[p].contention, sum[p].moves)
	}
	return sum, nil
}

// contenders are the policies that a trace is worth playing again for.
func contenders(results map[string]simulate.Result) []string {
	least := math.Inf(1)
	for p, r := range results {
		if p != "oracle" {
			least = math.Min(least, r.Contention)
		}
	}
	var out []string
	for _, p := range simulate.Policies() {
		if p == "headroom" || p == "oracle" || slices.Contains(reactive, p) || results[p].Contention <= 10*least {
			out = append(out, p)
		}
	}
	return out
}

func planetlab(dir string, _ *figures) error {
	for _, day := range []string{"20110303", "20110306"} {
		if _, err := overPlacements(filepath.Join(dir, day)); err != nil {
			return err
		}
	}
	return nil
}

func bitbrains(dir string, out *figures) error {
	// Both months of Bitbrains lie in folders of their own; other traces beside
	// them must not be read.
	var both total
	for _, month := range []string{"fastStorage-2013-8", "rnd-2013-7"} {
		sum, err := overPlacements(filepath.Join(dir, month))
		if err != nil {
			return err
		}
		both = both.plus(sum)
	}
	both.ratios(out)
	return nil
}

// plus is the sum for the policies that stand in both.
func (t total) plus(other total) total {
	if t == nil {
		return other
	}
	out := total{}
	for p, a := range t {
		if b, ok := other[p]; ok {
			out[p] = amount{a.contention + b.contention, a.moves + b.moves}
		}
	}
	return out
}

// ratios are headroom's figures over those of the best others.
func (t total) ratios(out *figures) {
	best, calm := math.Inf(1), ""
	for p, r := range t {
		if p != "headroom" && p != "oracle" {
			best = math.Min(best, r.contention)
		}
	}
	for _, p := range reactive {
		if calm == "" || t[p].contention < t[calm].contention {
			calm = p
		}
	}
	h, o := t["headroom"], t["oracle"]
	out.Contention = ratio(h.contention, best)
	out.Moves = ratio(h.moves, t[calm].moves)
	out.OracleGap = ratio(h.contention, o.contention)
	fmt.Printf("the best reactive policy is %s\n", calm)
}

func ratio(a, b float64) *float64 {
	if b == 0 {
		return nil
	}
	return some(a / b)
}
