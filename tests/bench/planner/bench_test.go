package main

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"headroom/planner"
	"headroom/planner/simulate"
	"headroom/predict"
)

// TestLastLine holds the last line to the names that readers of it rely on.
func TestLastLine(t *testing.T) {
	want := []string{
		"cloudsim_energy_error_percent_max", "cloudsim_migrations_error_percent_max", "bitbrains_contention_ratio",
		"bitbrains_moves_ratio", "oracle_gap_ratio", "hbal_residual_ratio", "hbal_moves_ratio", "hbal_time_ratio",
		"round_ms", "day_headroom_s", "day_lrmmt_s", "rss_mib",
	}
	var got []string
	kind := reflect.TypeFor[figures]()
	for i := range kind.NumField() {
		got = append(got, kind.Field(i).Tag.Get("json"))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	line, err := json.Marshal(figures{RoundMS: some(2.5)})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"round_ms":2.5`, `"rss_mib":null`} {
		if !strings.Contains(string(line), part) {
			t.Errorf("%s is missing in %s", part, line)
		}
	}
}

func TestSelected(t *testing.T) {
	all, err := selected("")
	if err != nil || len(all) != len(parts()) {
		t.Errorf("%d parts by default: %v", len(all), err)
	}
	some, err := selected("day,round")
	if err != nil || len(some) != 2 || some[0].name != "day" || some[1].name != "round" {
		t.Errorf("day,round selects %d parts: %v", len(some), err)
	}
	if _, err := selected("days"); err == nil || !strings.Contains(err.Error(), "planetlab") {
		t.Errorf("an unknown part: %v, want the known ones named", err)
	}
}

// hbalOutput is what hbal 3.0.2 prints, shortened.
const hbalOutput = `Loaded 20 nodes, 430 instances
Group size 20 nodes, 430 instances
Selected node group: group
Initial check done: 0 bad nodes, 0 bad instances.
Initial score: 8.07954330
Trying to minimize the CV...
    1. vm-00042 node-0003           => node-0002             7.45179875 a=fa:node-0002
    2. vm-00006 node-0014           => node-0002             6.90141626 a=fa:node-0002
   10. vm-00026 node-0008           => node-0006             3.89321814 a=fa:node-0006
Cluster score improved from 8.07954330 to 1.67664838
Solution length=10
`

func TestReadSteps(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []step
	}{
		"plan":    {hbalOutput, []step{{"vm-00042", "node-0002"}, {"vm-00006", "node-0002"}, {"vm-00026", "node-0006"}}},
		"cut off": {hbalOutput[:strings.Index(hbalOutput, "6.9014")], []step{{"vm-00042", "node-0002"}}},
		"nothing": {"Initial score: 0.5\nCluster is already well balanced (initial score 0.5,\nminimum score 1e-09).\nNothing to do, exiting\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readSteps(strings.NewReader(c.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(step{})); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := readSteps(strings.NewReader(strings.Repeat("x", 1<<17))); err == nil {
		t.Error("a line without end was read")
	}
}

// vm wants a constant number of cores.
func vm(name string, cores float64) planner.VM {
	q := predict.Quantiles{cores, cores, cores, cores, cores}
	f := predict.Forecast{Step: 5 * time.Minute, Peak: q, Ready: true, Observed: 100}
	for range 12 {
		f.Steps = append(f.Steps, q)
	}
	return planner.VM{ID: planner.VMID(name), Name: name, VCPUs: 4, Memory: 1024, Measured: true, Guarded: true, HasDirtyRate: true,
		CPU: f, NowCPU: planner.Cores(cores)}
}

func host(name string, vms ...planner.VM) planner.Host {
	return planner.Host{ID: planner.HostID(name), Name: name, Complete: true, View: planner.View{Stable: true}, Horizon: time.Hour,
		Capacity: planner.Capacity{CPU: hostCores, Memory: hostMemory}, VMs: vms}
}

// crowded is a host short of 0.8 cores, and one with room for that.
func crowded() []planner.Host {
	return []planner.Host{host("a", vm("x", 1.2), vm("y", 0.8), vm("z", 0.8)), host("b")}
}

func policy() planner.Policy { return simulate.SimulatedPolicy(62.5) }

func TestReplay(t *testing.T) {
	hosts := crowded()
	got, err := replay(hosts, []step{{"y", "b"}, {"x", "b"}, {"z", "b"}}, policy())
	if err != nil {
		t.Fatal(err)
	}
	// 0.8 cores wait for an hour; nobody; nobody (0.8 and 2.0); again 0.8.
	want := []float64{2880, 0, 0, 2880}
	for k := range want {
		if len(got) != len(want) || math.Abs(got[k]-want[k]) > 1e-6 {
			t.Fatalf("residuals %v, want %v", got, want)
		}
	}
	if len(hosts[0].VMs) != 3 || len(hosts[1].VMs) != 0 {
		t.Error("the hosts given were changed")
	}
	for _, wrong := range []step{{"w", "b"}, {"x", "c"}} {
		if _, err := replay(hosts, []step{wrong}, policy()); err == nil {
			t.Errorf("%v was replayed", wrong)
		}
	}
}

func TestSettle(t *testing.T) {
	hosts := crowded()
	out := settle(hosts, policy(), rand.New(rand.NewPCG(1, 1)))
	if out.moves != 1 || out.residual > 1e-6 {
		t.Errorf("%+v: one move takes all contention away", out)
	}
	if out.rounds != 1+quietRounds {
		t.Errorf("%d rounds, want the move's and %d without any", out.rounds, quietRounds)
	}
	if n := len(hosts[0].VMs) + len(hosts[1].VMs); n != 3 || len(hosts[1].VMs) != 1 {
		t.Errorf("%d of %d VMs are on the second host", len(hosts[1].VMs), n)
	}
	moved := &hosts[1].VMs[0]
	if moved.History.LastFrom != "a" || len(moved.History.Moves) != 1 {
		t.Errorf("its history is %+v: cool-down and return ban rest on it", moved.History)
	}
	if len(hosts[0].Outgoing)+len(hosts[1].Incoming) != 0 {
		t.Error("a move is still under way")
	}
}

// TestSettleConcurrency: a host starts and takes at most one VM in a round.
func TestSettleConcurrency(t *testing.T) {
	hosts := []planner.Host{host("a", vm("1", 1), vm("2", 1), vm("3", 1)), host("b", vm("4", 1), vm("5", 1), vm("6", 1)), host("c")}
	rng := rand.New(rand.NewPCG(1, 1))
	s := settling{hosts: hosts, p: policy(), rng: rng, states: make([]planner.State, 3), peers: peersOf(hosts, policy()),
		index: map[planner.HostID]int{"a": 0, "b": 1, "c": 2}}
	if moved := s.round(epoch); moved != 1 || len(hosts[2].VMs) != 1 {
		t.Errorf("%d moves, %d VMs arrived: the only free host takes one at a time", moved, len(hosts[2].VMs))
	}
}

func TestSnapshot(t *testing.T) {
	pool := []planner.VM{vm("p", 0.1), vm("q", 0.2)}
	for _, how := range []crowding{even, hot} {
		hosts := snapshot(pool, 50, how, rand.New(rand.NewPCG(1, 1)))
		total, crowd := 0.0, 0.0
		for i := range hosts {
			for j := range hosts[i].VMs {
				d := hosts[i].VMs[j].CPU.Steps[0][0]
				if total += d; i%5 == 0 {
					crowd += d
				}
			}
		}
		if share := total / (50 * hostCores); share < how.demand || share > how.demand+0.01 {
			t.Errorf("%s: demand is %.3f of capacity, want %.2f", how.name, share, how.demand)
		}
		want := how.hotter / (how.hotter + 4)
		if math.Abs(crowd/total-want) > 0.06 {
			t.Errorf("%s: every fifth host has %.2f of the demand, want %.2f", how.name, crowd/total, want)
		}
	}
}

func TestHbalText(t *testing.T) {
	cluster, use := hbalText(crowded())
	for _, line := range []string{
		"a|32768|0|29696|1000000000|1000000000|64|N|g|1||N|0|1|1.0\n",
		"b|32768|0|32768|",
		"y|1024|1024|1|running|Y|a||ext||1|1|N\n",
	} {
		if !strings.Contains(cluster, line) {
			t.Errorf("%q is missing in\n%s", line, cluster)
		}
	}
	if want := "x 0.600000 0 0 0\ny 0.400000 0 0 0\nz 0.400000 0 0 0\n"; use != want {
		t.Errorf("utilisation %q, want %q", use, want)
	}
}

func TestCompared(t *testing.T) {
	var out figures
	compared([]comparison{
		{ours: outcome{residual: 10, moves: 2, took: 1}, theirs: outcome{residual: 30, moves: 5, took: 60}, needed: -1},
		{ours: outcome{residual: 20, moves: 3, took: 2}, theirs: outcome{residual: 10, moves: 5, took: 40}, needed: 4},
	}, &out)
	if *out.HbalResidual != 0.75 || *out.HbalMoves != 0.75 || *out.HbalTime != 0.03 {
		t.Errorf("ratios %v, %v, %v of the sums, of moves where hbal gets as far; want 0.75, 0.75, 0.03", *out.HbalResidual, *out.HbalMoves, *out.HbalTime)
	}
	compared(nil, &out)
	if out.HbalResidual != nil {
		t.Error("a ratio of nothing")
	}
}

// TestRatios: the best other is chosen by its sum over all placements.
func TestRatios(t *testing.T) {
	sum := total{}
	sum.add(map[string]simulate.Result{
		"headroom": {Contention: 15, Migrations: 4}, "oracle": {Contention: 4}, "lr-mmt-1.2": {Contention: 20, Migrations: 1},
		"reactive": {Contention: 10, Migrations: 10}, "sandpiper": {Contention: 60, Migrations: 5}, "n-sigma": {Contention: 70, Migrations: 5},
	})
	sum.add(map[string]simulate.Result{
		"headroom": {Contention: 5, Migrations: 6}, "oracle": {Contention: 6}, "lr-mmt-1.2": {Contention: 10, Migrations: 1},
		"reactive": {Contention: 40, Migrations: 30}, "sandpiper": {Contention: 1, Migrations: 5}, "n-sigma": {Contention: 1, Migrations: 5},
	})
	other := total{}
	other.add(map[string]simulate.Result{"headroom": {}, "oracle": {}, "reactive": {}, "sandpiper": {}, "n-sigma": {}})
	sum = total(nil).plus(sum).plus(other)
	if _, ok := sum["lr-mmt-1.2"]; ok {
		t.Error("a policy that was not played on one of the months counts")
	}
	var out figures
	sum.ratios(&out)
	if *out.Contention != 0.4 || *out.Moves != 0.25 || *out.OracleGap != 2 {
		t.Errorf("ratios %v, %v, %v; want 0.4, 0.25, 2", *out.Contention, *out.Moves, *out.OracleGap)
	}
}

// TestContenders: what is hopeless on the first placement is not played on the others,
// headroom, oracle and the reactive ones always are.
func TestContenders(t *testing.T) {
	results := map[string]simulate.Result{}
	for _, p := range simulate.Policies() {
		results[p] = simulate.Result{Contention: 1000}
	}
	results["reactive"] = simulate.Result{Contention: 10}
	results["thr-mmt-0.8"] = simulate.Result{Contention: 100}
	want := []string{"thr-mmt-0.8", "reactive", "sandpiper", "n-sigma", "headroom", "oracle"}
	if diff := cmp.Diff(want, contenders(results)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRunHbal(t *testing.T) {
	if testing.Short() || !installed() {
		t.Skip("hbal is missing (Debian package ganeti-htools)")
	}
	steps, took, finished, err := runHbal(t.TempDir(), crowded())
	if err != nil || !finished || took <= 0 {
		t.Fatalf("%d steps in %v s, finished %v: %v", len(steps), took, finished, err)
	}
	rest, err := replay(crowded(), steps, policy())
	if err != nil {
		t.Fatal(err)
	}
	if last := rest[len(rest)-1]; last > 1e-6 {
		t.Errorf("hbal's plan %v leaves %.1f of %.1f core-seconds", steps, last, rest[0])
	}
}
