package simulate

import (
	"math"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"
)

// planetlab reads one day, files sorted by name, as CloudSim does.
func planetlab(t testing.TB, day string, hosts int, memory float64) Setup {
	t.Helper()
	root := os.Getenv("HEADROOM_TRACES")
	if root == "" {
		t.Skip("HEADROOM_TRACES names no directory of unpacked traces")
	}
	names, err := filepath.Glob(filepath.Join(root, day, "*"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no traces of %s in %s: %v", day, root, err)
	}
	sort.Strings(names)
	var demand [][]float32
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var x []float32
		for _, word := range strings.Fields(string(text))[:288] {
			v, err := strconv.Atoi(word)
			if err != nil {
				t.Fatal(err)
			}
			x = append(x, float32(v)/100)
		}
		demand = append(demand, x)
	}
	return PlanetLab(day, names, demand, hosts, memory)
}

// TestCloudSimFidelity compares with the output of CloudSim 3.0.3 itself on the
// day 20110303 (files sorted by name): energy and migrations within 1 %.
func TestCloudSimFidelity(t *testing.T) {
	s := planetlab(t, "20110303", 800, 4096)
	for _, want := range []struct {
		policy              string
		kwh, migrations     float64
		slav, slatah, pdmPc float64
	}{
		{"dvfs", 802.75, 0, 0, 0, 0},
		{"thr-mmt-0.8", 192.62, 26711, 0.00318, 4.91, 0.06},
		{"iqr-mmt-1.5", 189.98, 26282, 0.00301, 4.82, 0.06},
		{"mad-mmt-2.5", 185.79, 26556, 0.00334, 5.05, 0.07},
		{"lr-mmt-1.2", 163.48, 27859, 0.00464, 5.86, 0.08},
		{"lr-mc-1.2", 151.07, 23380, 0.00683, 7.01, 0.10},
	} {
		t.Run(want.policy, func(t *testing.T) {
			began := time.Now()
			r, err := Run(s, Options{Policy: want.policy})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%.2f kWh (CloudSim %.2f), %d migrations (%.0f), SLAV %.5f %% (%.5f), SLATAH %.2f %% (%.2f), PDM %.2f %% (%.2f), %d VMs left, %v",
				r.EnergyKWh, want.kwh, r.Migrations, want.migrations, r.SLAVPercent, want.slav, r.SLATAHPercent, want.slatah, r.PDMPercent, want.pdmPc, r.VMsAtEnd, time.Since(began))
			if math.Abs(r.EnergyKWh/want.kwh-1) > 0.01 {
				t.Errorf("energy %.2f kWh, CloudSim has %.2f", r.EnergyKWh, want.kwh)
			}
			if math.Abs(float64(r.Migrations)-want.migrations) > 0.01*want.migrations {
				t.Errorf("%d migrations, CloudSim has %.0f", r.Migrations, want.migrations)
			}
		})
	}
}

// TestCorrectedCloudSim compares with CloudSim in which memory is enforced and
// no VM is removed, on hosts of 16 GiB.
func TestCorrectedCloudSim(t *testing.T) {
	s := planetlab(t, "20110303", 800, 16384).Corrected()
	for _, want := range []struct {
		policy          string
		kwh, migrations float64
	}{
		{"lr-mmt-1.2", 221.84, 2410}, {"iqr-mmt-1.5", 227.64, 7349}, {"thr-mmt-0.8", 225.68, 5686},
	} {
		r, err := Run(s, Options{Policy: want.policy})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %.2f kWh (CloudSim %.2f), %d migrations (%.0f), SLATAH %.2f %%, %.0f core-s waited", want.policy, r.EnergyKWh, want.kwh, r.Migrations, want.migrations, r.SLATAHPercent, r.Contention)
	}
}
