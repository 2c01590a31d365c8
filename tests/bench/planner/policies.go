package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
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

// compare runs every policy on one setup and prints the table.
func compare(s simulate.Setup) (map[string]simulate.Result, error) {
	fmt.Printf("\n%s: %d VMs, %d hosts, %d steps\n", s.Name, len(s.VMs), len(s.Hosts), s.Steps)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "policy\tcontention core-s\tmigrations\tGiB\tblackout s\tunhelpful\tharmful\tping-pongs\tkWh\tSLATAH %\tPDM %\ts\t")
	results := map[string]simulate.Result{}
	for _, p := range simulate.Policies() {
		began := time.Now()
		r, err := simulate.Run(s, simulate.Options{Policy: p, Seed: 1, Each: each})
		if err != nil {
			return nil, err
		}
		results[p] = r
		fmt.Fprintf(w, "%s\t%.0f\t%d\t%.1f\t%.1f\t%d\t%d\t%d\t%.2f\t%.3f\t%.4f\t%.1f\t\n", p, r.Contention, r.Migrations, r.MigratedGiB, r.BlackoutS,
			r.UnhelpfulMoves, r.HarmfulMoves, r.PingPongs, r.EnergyKWh, r.SLATAHPercent, r.PDMPercent, time.Since(began).Seconds())
	}
	return results, w.Flush()
}

func planetlab(dir string, _ *figures) error {
	for _, day := range []string{"20110303", "20110306"} {
		s, err := traces.Read(filepath.Join(dir, day), nil, 1)
		if err != nil {
			return err
		}
		if _, err := compare(s); err != nil {
			return err
		}
	}
	return nil
}

// reactive are the policies that do not look ahead and do not consolidate.
var reactive = []string{"reactive", "sandpiper", "n-sigma"}

func bitbrains(dir string, out *figures) error {
	// Both months of Bitbrains lie in folders of their own; other traces beside
	// them must not be read.
	for _, month := range []string{"fastStorage-2013-8", "rnd-2013-7"} {
		s, err := traces.Read(filepath.Join(dir, month), nil, 1)
		if err != nil {
			return err
		}
		results, err := compare(s)
		if err != nil {
			return err
		}
		if month == "fastStorage-2013-8" {
			ratios(results, out)
		}
	}
	return nil
}

// ratios are headroom's figures over those of the best others.
func ratios(results map[string]simulate.Result, out *figures) {
	best, calm := math.Inf(1), ""
	for p, r := range results {
		if p != "headroom" && p != "oracle" {
			best = math.Min(best, r.Contention)
		}
	}
	for _, p := range reactive {
		if calm == "" || results[p].Contention < results[calm].Contention {
			calm = p
		}
	}
	h, o := results["headroom"], results["oracle"]
	out.Contention = ratio(h.Contention, best)
	out.Moves = ratio(float64(h.Migrations), float64(results[calm].Migrations))
	out.OracleGap = ratio(h.Contention, o.Contention)
	fmt.Printf("the best reactive policy is %s\n", calm)
}

func ratio(a, b float64) *float64 {
	if b == 0 {
		return nil
	}
	return some(a / b)
}
