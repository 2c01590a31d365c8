package simulate

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lopsided is two hosts of which one has four VMs of 60 % of a core each on two
// cores, for a day.
func lopsided() Setup {
	s := Setup{Name: "lopsided", Step: 300, Steps: 288, CoreMIPS: 1000, EnforceMemory: true, KeepIdle: true, DirtyShare: 0.01}
	for i := range 2 {
		s.Hosts = append(s.Hosts, Host{ID: fmt.Sprintf("h%d", i), PEs: 2, MIPS: 1000, Memory: 8192, Bandwidth: 100, Power: &PowerML110G5})
	}
	for i := range 4 {
		v := VM{ID: fmt.Sprintf("v%d", i), VCPUs: 1, MIPS: 1000, Memory: 1024}
		for k := range s.Steps {
			v.Demand = append(v.Demand, 0.6+0.01*float32((k+i)%3))
		}
		s.VMs = append(s.VMs, v)
		s.Start = append(s.Start, 0)
	}
	return s
}

func TestPoliciesRelieve(t *testing.T) {
	none, err := Run(lopsided(), Options{Policy: "none"})
	if err != nil || none.Contention < 30_000 || none.Migrations != 0 {
		t.Fatalf("without moves %.0f core-s wait, %d moves, %v; 0.4 cores short for a day are 35,000", none.Contention, none.Migrations, err)
	}
	for _, p := range []string{"reactive", "oracle", "headroom"} {
		r, err := Run(lopsided(), Options{Policy: p, Seed: 1})
		if err != nil || r.Contention > none.Contention/5 || r.Migrations == 0 || r.HarmfulMoves > 0 || r.PingPongs > 0 {
			t.Errorf("%s: %.0f core-s wait after %d moves, %d harmful, %d back and forth, %v", p, r.Contention, r.Migrations, r.HarmfulMoves, r.PingPongs, err)
		}
	}
}

// TestTrafficIsContentionToo: four VMs on one host ask its disk for 160 of 100 MB/s.
// Its cores idle: whoever looks at them alone sees nothing.
func TestTrafficIsContentionToo(t *testing.T) {
	s := lopsided()
	for i := range s.Hosts {
		s.Hosts[i].Disk = 100
	}
	for i := range s.VMs {
		v := &s.VMs[i]
		v.Disk = make([]float32, s.Steps)
		for k := range v.Demand {
			v.Demand[k], v.Disk[k] = 0.1+0.01*float32((k+i)%3), 40
		}
	}
	none, err := Run(s, Options{Policy: "none"})
	// 0.6 of two cores from the end of the first step to the last update.
	if want := 0.6 * 2 * (300*float64(s.Steps-1) - 300./substeps); err != nil || none.Contention != none.Starved || math.Abs(none.Starved-want) > 1 {
		t.Fatalf("without moves %.0f core-s, %.0f of them for the disk, want %.0f: %v", none.Contention, none.Starved, want, err)
	}
	if r, err := Run(s, Options{Policy: "sandpiper"}); err != nil || r.Starved != none.Starved || r.Migrations > 0 {
		t.Errorf("sandpiper: %.0f core-s, %d moves, %v", r.Starved, r.Migrations, err)
	}
	for _, p := range []string{"reactive", "oracle", "headroom"} {
		r, err := Run(s, Options{Policy: p, Seed: 1})
		if err != nil || r.Starved > none.Starved/10 || r.Migrations != 2 || r.UnhelpfulMoves > 0 {
			t.Errorf("%s: %.0f core-s for the disk after %d moves, %d unhelpful, %v; two moves end it", p, r.Starved, r.Migrations, r.UnhelpfulMoves, err)
		}
	}
	s.VMs[0].Disk = s.VMs[0].Disk[:5]
	if _, err := Run(s, Options{Policy: "none"}); err == nil {
		t.Error("five values of traffic for a day were accepted")
	}
}

// TestRefusedVMsDoNotHideSmallerOnes: the two VMs whose leaving would cure the
// shortage have no room in the other host's memory; the two small ones do, and
// both together cure it as well.
func TestRefusedVMsDoNotHideSmallerOnes(t *testing.T) {
	s := lopsided()
	for i, v := range []struct {
		demand float32
		memory float64
	}{{0.95, 3000}, {0.95, 3000}, {0.25, 256}, {0.25, 256}} {
		s.VMs[i].Memory = v.memory
		for k := range s.VMs[i].Demand {
			s.VMs[i].Demand[k] = v.demand + 0.01*float32((k+i)%3)
		}
	}
	full := VM{ID: "full", VCPUs: 1, MIPS: 1000, Memory: 6000, Demand: make([]float32, s.Steps)}
	s.VMs, s.Start = append(s.VMs, full), append(s.Start, 1)
	none, err := Run(s, Options{Policy: "none"})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Run(s, Options{Policy: "headroom", Seed: 1})
	if err != nil || r.Migrations != 2 || r.Contention > none.Contention/5 {
		t.Errorf("%.0f of %.0f core-s wait after %d moves, %v; want the two small VMs moved", r.Contention, none.Contention, r.Migrations, err)
	}
}

// TestNobodyKnowsTheFuture: VMs that stop after a sample are moved until then as those
// are that go on, wherever it lies in what the forecasters take in one go.
func TestNobodyKnowsTheFuture(t *testing.T) {
	some := 0
	for last := 60; last < 60+ahead; last++ {
		var moved [2][]int
		for i, after := range []float32{0.6, 0} {
			s := lopsided()
			for v := range s.VMs {
				for k := range s.Steps {
					switch {
					case k < last-1:
						s.VMs[v].Demand[k] *= 0.5
					case k > last:
						s.VMs[v].Demand[k] = after
					}
				}
			}
			_, err := Run(s, Options{Policy: "headroom", Seed: 1, Sample: func(x Sample) {
				if x.Step <= last {
					moved[i] = append(moved[i], x.Migrations)
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
		}
		if moved[0][len(moved[0])-1] > 0 {
			some++
		}
		if diff := cmp.Diff(moved[0], moved[1]); diff != "" {
			t.Errorf("last sample %d: %s", last, diff)
		}
	}
	if some <= ahead/2 {
		t.Errorf("in %d runs of %d alone something moved at once: the others show nothing", some, ahead)
	}
}

func TestSameArgumentsSameResult(t *testing.T) {
	o := Options{Policy: "headroom", Seed: 3, Faults: Faults{FailedMigrations: 0.5, SlowMigrations: 0.5, LostGossip: 0.5, StaleOffers: 0.5, WrongForecasts: 0.3}}
	a, err := Run(lopsided(), o)
	if err != nil {
		t.Fatal(err)
	}
	o.Each = func(n int, do func(i int)) {
		for i := n - 1; i >= 0; i-- {
			do(i)
		}
	}
	b, _ := Run(lopsided(), o)
	if diff := cmp.Diff(a, b); diff != "" {
		t.Error(diff)
	}
}

func TestRefused(t *testing.T) {
	if _, err := Run(lopsided(), Options{Policy: "thr-mmt-x"}); !errors.Is(err, ErrPolicy) {
		t.Errorf("%v", err)
	}
	s := lopsided()
	s.VMs[0].Demand = s.VMs[0].Demand[:5]
	if _, err := Run(s, Options{Policy: "none"}); err == nil {
		t.Error("a VM with too few values was accepted")
	}
}

// TestSamples: what a run is told of after each step grows to its result.
func TestSamples(t *testing.T) {
	s := lopsided()
	s.Warmup = 30
	var samples []Sample
	r, err := Run(s, Options{Policy: "reactive", Sample: func(x Sample) { samples = append(samples, x) }})
	if err != nil {
		t.Fatal(err)
	}
	if len(samples) != s.Steps-s.Warmup {
		t.Fatalf("%d samples of %d steps after %d of warm-up", len(samples), s.Steps, s.Warmup)
	}
	for k, x := range samples {
		if x.Step != k || x.At != 300*float64(k+s.Warmup+1) {
			t.Errorf("sample %d is of step %d at %v s", k, x.Step, x.At)
		}
		if k > 0 && (x.Contention < samples[k-1].Contention-1e-9 || x.Migrations < samples[k-1].Migrations) {
			t.Errorf("step %d: %v after %v", k, x, samples[k-1])
		}
	}
	last := samples[len(samples)-1]
	if last.Migrations != r.Migrations || r.Migrations == 0 || last.Contention < r.Contention-1e-6 || last.Contention > r.Contention+300 {
		t.Errorf("the last sample is %+v, the result %.1f core-s and %d moves", last, r.Contention, r.Migrations)
	}
}
