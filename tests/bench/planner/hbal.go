package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"headroom/planner"
	"headroom/planner/simulate"
)

// hbalLimit is how long hbal may think about one snapshot.
const hbalLimit = time.Minute

// hbal compares with Ganeti's balancer on the same snapshots: nodes, instances
// and their forecast CPU use in its text format. Both may move any VM.
func hbal(dir string, out *figures) error {
	program, err := exec.LookPath("hbal")
	if err != nil {
		fmt.Println("\nhbal is missing (Debian package ganeti-htools): not compared")
		return nil
	}
	pool, err := forecasts(dir)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "bench-hbal")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	fmt.Println("\nside by side with hbal: expected waiting core-s before, after (ours, hbal), moves, s")
	p := simulate.SimulatedPolicy(62.5)
	var ours, theirs, ourMoves, theirMoves, ourTime, theirTime float64
	for _, n := range []int{20, 50, 100, 200, 400} {
		rng := rand.New(rand.NewPCG(7, uint64(n)))
		hosts := snapshot(pool, n, rng)
		before := residual(hosts, p)
		placed, steps, took, err := runHbal(program, scratch, hosts)
		if err != nil {
			return err
		}
		if placed == nil {
			fmt.Printf("  %4d hosts: hbal did not finish within %s\n", n, hbalLimit)
			break
		}
		rest := residual(placed, p)
		began := time.Now()
		moves := plan(hosts, p, rng)
		mine := time.Since(began).Seconds()
		after := residual(hosts, p)
		fmt.Printf("  %4d hosts: %9.0f -> %8.1f %8.1f   %5d %5d   %7.3f %7.3f\n", n, before, after, rest, moves, steps, mine, took)
		ours, theirs = ours+after, theirs+rest
		ourMoves, theirMoves = ourMoves+float64(moves), theirMoves+float64(steps)
		ourTime, theirTime = ourTime+mine, theirTime+took
	}
	out.HbalResidual, out.HbalMoves, out.HbalTime = ratio(ours, theirs), ratio(ourMoves, theirMoves), ratio(ourTime, theirTime)
	return nil
}

// runHbal lets hbal balance a copy of the hosts and returns where its plan puts
// the VMs, the number of moves, and its time in s.
func runHbal(program, scratch string, hosts []planner.Host) ([]planner.Host, int, float64, error) {
	cluster, use, saved := filepath.Join(scratch, "cluster"), filepath.Join(scratch, "use"), filepath.Join(scratch, "out")
	text, util := hbalText(hosts)
	for name, body := range map[string]string{cluster: text, use: util} {
		if err := os.WriteFile(name, []byte(body), 0o600); err != nil {
			return nil, 0, 0, err
		}
	}
	began := time.Now()
	ctx, stop := context.WithTimeout(context.Background(), hbalLimit)
	defer stop()
	answer, err := exec.CommandContext(ctx, program, "-t", cluster, "-U", use, "-S", saved, "--no-disk-moves").CombinedOutput()
	took := time.Since(began).Seconds()
	if ctx.Err() != nil {
		return nil, 0, took, nil
	}
	if err != nil {
		return nil, 0, 0, fmt.Errorf("hbal: %w: %s", err, answer)
	}
	result, err := os.ReadFile(saved + ".balanced")
	if err != nil {
		return nil, 0, 0, fmt.Errorf("hbal's result: %w: %s", err, answer)
	}
	node := map[string]string{}
	for _, line := range strings.Split(string(result), "\n") {
		if cells := strings.Split(line, "|"); len(cells) > 8 && strings.HasPrefix(cells[0], "vm-") {
			node[cells[0]] = cells[6]
		}
	}
	return rehouse(hosts, node, took)
}

// rehouse moves copies of the VMs to the nodes named.
func rehouse(hosts []planner.Host, node map[string]string, took float64) ([]planner.Host, int, float64, error) {
	out := make([]planner.Host, len(hosts))
	index := map[string]int{}
	for i := range hosts {
		out[i] = hosts[i]
		out[i].VMs = nil
		index[hosts[i].Name] = i
	}
	moves := 0
	for i := range hosts {
		for _, vm := range hosts[i].VMs {
			to, ok := index[node[vm.Name]]
			if !ok {
				return nil, 0, 0, fmt.Errorf("hbal's result places %s on %q", vm.Name, node[vm.Name])
			}
			if to != i {
				moves++
			}
			out[to].VMs = append(out[to].VMs, vm)
		}
	}
	return out, moves, took, nil
}

// hbalLimits are instance policies that forbid nothing.
const hbalLimits = `


|128,1,1024,1,1,1|1,1,1,1,1,1;1048576,64,1048576,16,8,12|ext|64.0|1000.0
group|128,1,1024,1,1,1|1,1,1,1,1,1;1048576,64,1048576,16,8,12|ext|64.0|1000.0
`

// hbalText is the cluster in the format of Ganeti's text backend, and the
// utilisation file: CPU demand as the median of the next hour's peak, in cores
// over 2, the host's.
func hbalText(hosts []planner.Host) (cluster, use string) {
	var nodes, instances, util strings.Builder
	for i := range hosts {
		h := &hosts[i]
		used := 0.0
		for j := range h.VMs {
			vm := &h.VMs[j]
			used += float64(vm.Memory)
			fmt.Fprintf(&instances, "%s|%.0f|1024|1|running|Y|%s||ext||1|1|N\n", vm.Name, float64(vm.Memory), h.Name)
			fmt.Fprintf(&util, "%s %.6f 1 1 1\n", vm.Name, math.Max(1e-6, vm.CPU.Peak[0]/float64(h.Capacity.CPU)))
		}
		fmt.Fprintf(&nodes, "%s|%.0f|0|%.0f|1000000000|1000000000|%d|N|g|1||N|0|1|1.0\n", h.Name, float64(h.Capacity.Memory), float64(h.Capacity.Memory)-used, 64)
	}
	return "group|g|preferred||\n\n" + nodes.String() + "\n" + instances.String() + hbalLimits, util.String()
}
