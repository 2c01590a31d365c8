package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"headroom/planner"
	"headroom/planner/simulate"
)

// hbalLimit is the processor time that hbal may take for one snapshot. What it
// has found until then counts as its result. It runs on one thread; hbalPatience
// bounds its time on a machine that is busy with other things.
const (
	hbalLimit    = time.Minute
	hbalPatience = 10 * time.Minute
)

// hbalSizes are the numbers of hosts compared.
var hbalSizes = []int{20, 50, 100, 200, 400}

// hbal compares with Ganeti's balancer on the same snapshots: nodes, instances
// and their forecast CPU use in its text format. Both may move any VM.
func hbal(dir string, out *figures) error {
	if !installed() {
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
	fmt.Println("\nside by side with hbal: expected waiting in core-s, processor time in s")
	fmt.Println("  snapshot |   VMs   before | headroom  moves rounds       s | hbal, as many moves | hbal's end  moves       s | its moves to headroom's residual")
	snapshots := strings.Fields(strings.ReplaceAll(*chosen, ",", " "))
	var all []comparison
	for _, crowding := range []crowding{even, hot} {
		for _, n := range hbalSizes {
			if name := fmt.Sprintf("%s/%d", crowding.name, n); len(snapshots) > 0 && !slices.Contains(snapshots, name) {
				continue
			}
			c, err := sideBySide(scratch, pool, crowding, n)
			if err != nil {
				return err
			}
			fmt.Println("  " + c.String())
			all = append(all, c)
		}
	}
	compared(all, out)
	return nil
}

// installed says whether hbal, and what limits it, can be run.
func installed() bool {
	for _, program := range []string{"hbal", "prlimit"} {
		if _, err := exec.LookPath(program); err != nil {
			return false
		}
	}
	return true
}

// comparison is one snapshot planned by both.
type comparison struct {
	crowding   crowding
	hosts, vms int
	before     float64 // expected waiting, core-s
	ours       outcome
	theirs     outcome
	// level is hbal's residual after as many moves as headroom's; needed is how
	// many moves hbal takes to headroom's residual, -1: it does not get there.
	level    float64
	needed   int
	finished bool // hbal ended by itself
}

// outcome is what one balancer leaves, and what it took.
type outcome struct {
	residual float64 // core-s
	moves    int
	rounds   int
	took     float64 // s of processor time
}

func (c comparison) String() string {
	end, needed := " ", "never"
	if !c.finished {
		end = ">"
	}
	if c.needed >= 0 {
		needed = fmt.Sprint(c.needed)
	}
	return fmt.Sprintf("%-4s %4d | %5d %8.0f | %8.1f %6d %6d %7.3f | %19.1f | %10.1f %6d %s%6.2f | %s", c.crowding.name, c.hosts, c.vms, c.before,
		c.ours.residual, c.ours.moves, c.ours.rounds, c.ours.took, c.level, c.theirs.residual, c.theirs.moves, end, c.theirs.took, needed)
}

// compared fills in the ratios of the sums over all snapshots; that of the moves, to
// the same residual, over those in which hbal gets as far as headroom. Where hbal was
// cut off, its time is the limit: the ratio of times is an upper bound.
func compared(all []comparison, out *figures) {
	var ours, theirs outcome
	for _, c := range all {
		ours.residual, theirs.residual = ours.residual+c.ours.residual, theirs.residual+c.theirs.residual
		if c.needed >= 0 {
			ours.moves, theirs.moves = ours.moves+c.ours.moves, theirs.moves+c.needed
		}
		ours.took, theirs.took = ours.took+c.ours.took, theirs.took+c.theirs.took
	}
	out.HbalResidual = ratio(ours.residual, theirs.residual)
	out.HbalMoves = ratio(float64(ours.moves), float64(theirs.moves))
	out.HbalTime = ratio(ours.took, theirs.took)
}

// sideBySide lets both plan the same snapshot.
func sideBySide(scratch string, pool []planner.VM, how crowding, n int) (comparison, error) {
	rng := rand.New(rand.NewPCG(7, uint64(n)))
	hosts := snapshot(pool, n, how, rng)
	p := simulate.SimulatedPolicy(62.5)
	c := comparison{crowding: how, hosts: n, before: residual(hosts, p)}
	for i := range hosts {
		c.vms += len(hosts[i].VMs)
	}
	steps, took, finished, err := runHbal(scratch, hosts)
	if err != nil {
		return c, err
	}
	rest, err := replay(hosts, steps, p)
	if err != nil {
		return c, err
	}
	c.finished = finished
	c.theirs = outcome{residual: rest[len(rest)-1], moves: len(steps), took: took}
	c.ours = settle(hosts, p, rng)
	c.level = rest[min(c.ours.moves, len(steps))]
	c.needed = -1
	for k, r := range rest {
		if r <= c.ours.residual {
			c.needed = k
			break
		}
	}
	return c, nil
}

// step is one move of hbal's plan.
type step struct{ vm, to string }

// stepLine is how hbal prints a move: number, instance, primary node before and
// after; diskless instances have no secondary.
var stepLine = regexp.MustCompile(`^\s*\d+\.\s+(\S+)\s+(\S+)\s+=>\s+(\S+)\s+[-0-9.]+\s+a=`)

// readSteps reads the moves that hbal prints, one by one as it finds them.
func readSteps(r io.Reader) ([]step, error) {
	var steps []step
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if m := stepLine.FindStringSubmatch(lines.Text()); m != nil {
			steps = append(steps, step{vm: m[1], to: m[3]})
		}
	}
	if err := lines.Err(); err != nil {
		return steps, fmt.Errorf("read hbal's plan: %w", err)
	}
	return steps, nil
}

// runHbal lets hbal balance the hosts and returns its moves, its time in s and
// whether it came to its own end.
func runHbal(scratch string, hosts []planner.Host) ([]step, float64, bool, error) {
	cluster, use := filepath.Join(scratch, "cluster"), filepath.Join(scratch, "use")
	text, util := hbalText(hosts)
	for name, body := range map[string]string{cluster: text, use: util} {
		if err := os.WriteFile(name, []byte(body), 0o600); err != nil {
			return nil, 0, false, err
		}
	}
	ctx, stop := context.WithTimeout(context.Background(), hbalPatience)
	defer stop()
	limit := fmt.Sprintf("--cpu=%d", int(hbalLimit.Seconds()))
	cmd := exec.CommandContext(ctx, "prlimit", limit, "hbal", "-t", cluster, "-U", use, "--no-disk-moves")
	var complaint strings.Builder
	cmd.Stderr = &complaint
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, 0, false, err
	}
	if err := cmd.Start(); err != nil {
		return nil, 0, false, fmt.Errorf("hbal: %w", err)
	}
	steps, bad := readSteps(pipe)
	err = cmd.Wait()
	took := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	// The kernel kills it near the limit, by a clock of its own: a loaded machine's times
	// for the process were seen to be seconds less.
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ctx.Err() != nil || status.Signaled() && took > hbalLimit/2 {
		return steps, took.Seconds(), false, nil
	}
	if err = errors.Join(err, bad); err != nil {
		return nil, 0, false, fmt.Errorf("hbal: %w: %s", err, complaint.String())
	}
	return steps, took.Seconds(), true, nil
}

// replay makes hbal's moves on a copy of the hosts, and returns the residual
// before the first and after each of them.
func replay(hosts []planner.Host, steps []step, p planner.Policy) ([]float64, error) {
	hosts = copied(hosts)
	index, home := map[string]int{}, map[string]int{}
	left, sum := make([]float64, len(hosts)), 0.0
	for i := range hosts {
		index[hosts[i].Name] = i
		for _, vm := range hosts[i].VMs {
			home[vm.Name] = i
		}
		left[i] = unserved(&hosts[i], p)
		sum += left[i]
	}
	rest := []float64{sum}
	for _, s := range steps {
		from, there := home[s.vm]
		to, ok := index[s.to]
		if !there || !ok {
			return nil, fmt.Errorf("hbal moves %q to %q: no such VM or host", s.vm, s.to)
		}
		transfer(&hosts[from], &hosts[to], s.vm)
		home[s.vm] = to
		for _, i := range []int{from, to} {
			sum -= left[i]
			left[i] = unserved(&hosts[i], p)
			sum += left[i]
		}
		rest = append(rest, sum)
	}
	return rest, nil
}

// hbalLimits are instance policies that forbid nothing.
const hbalLimits = `


|128,1,1024,1,1,1|1,1,1,1,1,1;1048576,64,1048576,16,8,12|ext|64.0|1000.0
group|128,1,1024,1,1,1|1,1,1,1,1,1;1048576,64,1048576,16,8,12|ext|64.0|1000.0
`

// hbalText is the cluster in the format of Ganeti's text backend, and the
// utilisation file: CPU demand as the median of the next hour's peak, in cores
// over the host's. Memory, disk and network are left out of the utilisation:
// only CPU is compared, and hbal would spend moves on evening them out.
func hbalText(hosts []planner.Host) (cluster, use string) {
	var nodes, instances, util strings.Builder
	for i := range hosts {
		h := &hosts[i]
		used := 0.0
		for j := range h.VMs {
			vm := &h.VMs[j]
			used += float64(vm.Memory)
			fmt.Fprintf(&instances, "%s|%.0f|1024|1|running|Y|%s||ext||1|1|N\n", vm.Name, float64(vm.Memory), h.Name)
			fmt.Fprintf(&util, "%s %.6f 0 0 0\n", vm.Name, math.Max(1e-6, vm.CPU.Peak[0]/float64(h.Capacity.CPU)))
		}
		fmt.Fprintf(&nodes, "%s|%.0f|0|%.0f|1000000000|1000000000|%d|N|g|1||N|0|1|1.0\n", h.Name, float64(h.Capacity.Memory), float64(h.Capacity.Memory)-used, 64)
	}
	return "group|g|preferred||\n\n" + nodes.String() + "\n" + instances.String() + hbalLimits, util.String()
}
