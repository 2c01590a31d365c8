// Command faults breaks hand-overs in a lab of real hypervisors, times undisturbed
// ones, and prints what package tests/faults counts: a table, and one JSON line.
//
// Results are appended to a file, one JSON line each, so that a long run can be made
// of several: the report is always of the whole file.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"headroom/tests/cluster"
	"headroom/tests/faults"
	"headroom/tests/lab"
)

// copyTime is what the copy of the lab's guest takes at the bandwidth of
// faults.Settings, about.
const copyTime = 2500 * time.Millisecond

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

// options are the command line's.
type options struct {
	bin, out     string
	faults, bare int
	finish       int
	moves        int
	seed         uint64
	limit        time.Duration
	fault, phase string
	report       bool
}

func parse() options {
	var o options
	flag.StringVar(&o.bin, "bin", "bin/headroom", "the headroom binary")
	flag.StringVar(&o.out, "out", "faults.jsonl", "results are appended here")
	flag.IntVar(&o.faults, "faults", 0, "faults with headroom")
	flag.IntVar(&o.bare, "bare", 0, "faults with bare virsh migrate")
	flag.IntVar(&o.finish, "finish", 0, "moves whose Finish is not answered, with headroom and with bare virsh migrate, so many of each")
	flag.IntVar(&o.moves, "moves", 0, "undisturbed moves to time, of each kind")
	flag.Uint64Var(&o.seed, "seed", 1, "of the plan")
	flag.DurationVar(&o.limit, "limit", time.Hour, "begin no trial after this")
	flag.StringVar(&o.fault, "fault", "", "only this fault")
	flag.StringVar(&o.phase, "phase", "", "only this phase")
	flag.BoolVar(&o.report, "report", false, "only report what the file holds")
	flag.Parse()
	return o
}

func run(ctx context.Context) error {
	o := parse()
	if !o.report {
		if err := play(ctx, o); err != nil {
			return err
		}
	}
	trials, timings, err := load(o.out)
	if err != nil {
		return err
	}
	faults.Table(os.Stdout, trials)
	faults.BlackoutTable(os.Stdout, timings)
	return json.NewEncoder(os.Stdout).Encode(faults.Sum(trials, timings).Figures())
}

// play makes the lab and works through the plan.
func play(ctx context.Context, o options) (err error) {
	name := fmt.Sprintf("faults%d", os.Getpid())
	l, err := lab.Up(ctx, lab.Options{Name: name, Hosts: 2})
	if err != nil {
		return fmt.Errorf("start the lab: %w", err)
	}
	defer func() { err = errors.Join(err, lab.Down(context.Background(), name)) }()
	c, err := cluster.New(ctx, l, o.bin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	out, err := os.OpenFile(o.out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	p := &player{o: o, cluster: c, out: json.NewEncoder(out), until: time.Now().Add(o.limit)}
	return p.play(ctx)
}

// player makes trials and writes them down.
type player struct {
	o       options
	cluster *cluster.Cluster
	out     *json.Encoder
	until   time.Time
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func (p *player) play(ctx context.Context) error {
	if p.o.moves > 0 {
		settings := faults.Settings()
		delete(settings, "handover.bandwidth_mibs")
		if err := p.with(ctx, settings, p.time); err != nil {
			return err
		}
	}
	rng := rand.New(rand.NewPCG(p.o.seed, 6))
	plan := append(p.plan(p.o.faults, false, rng), p.plan(p.o.bare, true, rng)...)
	for _, bare := range []bool{false, true} {
		plan = append(plan, faults.PlanFinish(p.o.finish, bare)...)
	}
	if len(plan) == 0 {
		return nil
	}
	return p.with(ctx, faults.Settings(), func(ctx context.Context, r *faults.Rig) error { return p.trials(ctx, r, plan) })
}

// plan draws trials, only of the fault and phase that were asked for.
func (p *player) plan(n int, bare bool, rng *rand.Rand) []faults.Trial {
	plan := faults.Plan(n, bare, copyTime, rng)
	for i := range plan {
		if p.o.fault != "" {
			plan[i].Fault = faults.Fault(p.o.fault)
		}
		if p.o.phase != "" {
			plan[i] = plan[i].At(faults.Phase(p.o.phase), copyTime, rng)
		}
	}
	return plan
}

// with runs fn with agents of these settings.
func (p *player) with(ctx context.Context, settings map[string]string, fn func(context.Context, *faults.Rig) error) (err error) {
	if err := p.cluster.Configure("advise", settings); err != nil {
		return err
	}
	if err := p.cluster.Start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.cluster.Stop()) }()
	r, err := faults.New(ctx, p.cluster)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return fn(ctx, r)
}

// time measures undisturbed moves, ours and virsh's in turn.
func (p *player) time(ctx context.Context, r *faults.Rig) error {
	for i := range p.o.moves {
		for _, bare := range []bool{i%2 == 0, i%2 != 0} {
			t, err := r.Measure(ctx, bare)
			if err != nil {
				return err
			}
			say("move %d: %+v", i+1, t)
			if err := p.out.Encode(record{Timing: &t}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *player) trials(ctx context.Context, r *faults.Rig, plan []faults.Trial) error {
	for i, t := range plan {
		if time.Now().After(p.until) {
			say("%d of %d trials made: the time is over", i, len(plan))
			break
		}
		res, err := r.Run(ctx, t)
		if err != nil {
			return fmt.Errorf("trial %d (%s at %s): %w", i+1, t.Fault, t.Phase, err)
		}
		mark := ""
		if res.Bad() && !t.Bare {
			mark = "  <-- BAD\n" + res.Autopsy
		}
		say("%3d %-28s %-9s +%-6v hit %-5v %-8s runs %-6s settled %-5v %5.1f s double %d forks %v lost %v died %v leaked %d %s%s", i+1, t.Fault, t.Phase,
			t.After.Round(time.Millisecond), res.Hit, res.Outcome, res.Runs, res.Settled, res.SettleS, res.Doubles, res.Forks, res.Lost, res.Died, res.Leaked, res.Note, mark)
		if err := p.out.Encode(record{Trial: &res}); err != nil {
			return err
		}
	}
	steps, err := r.Steps()
	if err != nil {
		return fmt.Errorf("the agents' log after %d steps: %w", steps, err)
	}
	say("%d steps of the agents' state machines, all in the protocol's table", steps)
	return nil
}

// record is one line of the file.
type record struct {
	Trial  *faults.Result `json:"trial,omitempty"`
	Timing *faults.Timing `json:"timing,omitempty"`
}

func load(path string) (trials []faults.Result, timings []faults.Timing, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		if r.Trial != nil {
			trials = append(trials, *r.Trial)
		}
		if r.Timing != nil {
			timings = append(timings, *r.Timing)
		}
	}
	return trials, timings, lines.Err()
}
