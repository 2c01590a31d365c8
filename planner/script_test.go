package planner

import (
	"bufio"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the expected output of testdata/*.txt")

// TestScripts runs the golden scripts: reviewers read behaviour there, not Go.
// If one fails, run with -update and keep the diff only if it is wanted.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runScript(t, file) })
	}
}

func runScript(t *testing.T, file string) {
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld()
	var out strings.Builder
	sc := bufio.NewScanner(strings.NewReader(string(raw)))
	skipping := false
	for sc.Scan() {
		line := sc.Text()
		if skipping {
			if line != "" {
				continue
			}
			skipping = false
			continue
		}
		out.WriteString(line + "\n")
		switch {
		case line == "----":
			out.WriteString(w.flush())
			out.WriteString("\n")
			skipping = true
		case line != "" && !strings.HasPrefix(line, "#"):
			if err := w.run(strings.Fields(line)); err != nil {
				t.Fatalf("%s: %q: %v", file, line, err)
			}
		}
	}
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(raw), out.String()); diff != "" {
		t.Errorf("%s differs (-file +now); run with -update and read the diff:\n%s", file, diff)
	}
}

// world is a small cluster that scripts, property tests and the closed loop share.
type world struct {
	now    time.Time
	policy Policy
	hosts  map[HostID]*Host
	states map[HostID]State
	rng    *rand.Rand
	out    strings.Builder
	last   Decision
}

func newWorld() *world {
	return &world{
		now: epoch, policy: LabPolicy(), hosts: map[HostID]*Host{}, states: map[HostID]State{},
		rng: rand.New(rand.NewPCG(1, 2)),
	}
}

func (w *world) flush() string {
	s := w.out.String()
	w.out.Reset()
	return s
}

func (w *world) ids() []HostID {
	var ids []HostID
	for id := range w.hosts {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// peers is what host id sees of the others, as fresh as can be.
func (w *world) peers(id HostID) []Peer {
	var out []Peer
	for _, other := range w.ids() {
		if other == id {
			continue
		}
		h := w.hosts[other]
		p := Peer{ID: other, Name: h.Name, Alive: true, Draining: h.Draining, Incoming: len(h.Incoming) + len(h.Held), Free: map[string]int{}, CPUModel: h.CPUModel, Pools: h.Pools}
		for _, s := range Slots(*h, w.policy.Classes, w.policy.SlotProbability, w.now) {
			p.Free[s.Class] = s.Free
		}
		if f := HostForecast(*h); f.Ready {
			p.Pressure = p90(f.Peak) / float64(h.usable().CPU)
		}
		out = append(out, p)
	}
	return out
}

// round decides at one host and, when it wants to move, probes and concludes.
func (w *world) round(id HostID) Decision {
	d, st := Decide(w.now, *w.hosts[id], w.peers(id), w.states[id], w.policy, w.rng)
	if len(d.Candidates) > 0 {
		vm := w.hosts[id].vm(d.VM)
		var offers []Offer
		for _, c := range d.Candidates {
			offers = append(offers, MakeOffer(w.now, *w.hosts[c], *d.Need, w.policy))
		}
		to, e, refused := Choose(*vm, *w.hosts[id], offers, w.policy)
		d = d.Conclude(to, e, refused, w.policy)
		if to == "" {
			st = st.NoteRefused(w.now, d.VM, refused, w.policy)
		}
	}
	w.states[id], w.last = st, d
	return d
}

// apply moves the VM of a concluded decision at once.
func (w *world) apply(d Decision) {
	if d.Action != ActionMove || d.To == "" {
		return
	}
	src, dst := w.hosts[d.Host], w.hosts[d.To]
	w.states[src.ID] = w.states[src.ID].NoteStarted()
	i := slices.IndexFunc(src.VMs, func(vm VM) bool { return vm.ID == d.VM })
	vm := src.VMs[i]
	vm.History.LastMoved, vm.History.LastFrom = w.now, src.ID
	vm.History.Moves = append(slices.Clone(vm.History.Moves), w.now)
	vm.History.Attempt++
	src.VMs = slices.Delete(src.VMs, i, i+1)
	dst.VMs = append(dst.VMs, vm)
}

func (h *Host) vm(id VMID) *VM {
	for i := range h.VMs {
		if h.VMs[i].ID == id {
			return &h.VMs[i]
		}
	}
	return nil
}

func (w *world) find(id VMID) *VM {
	for _, h := range w.hosts {
		if vm := h.vm(id); vm != nil {
			return vm
		}
	}
	return nil
}

// run executes one script command.
func (w *world) run(f []string) error {
	verb, args := f[0], f[1:]
	var rest []string
	if len(args) > 0 {
		rest = args[1:]
	}
	switch verb {
	case "policy":
		return w.setPolicy(args)
	case "host":
		h := w.hosts[HostID(args[0])]
		if h == nil {
			h = testHost(HostID(args[0]), 0.5, 2048)
			w.hosts[h.ID] = h
		}
		return each(rest, func(k, v string) error { return setHost(h, k, v) })
	case "vm":
		return w.setVM(HostID(args[0]), VMID(rest[0]), rest[1:])
	case "set":
		return w.setVM("", VMID(args[0]), rest)
	case "advance":
		d, err := time.ParseDuration(args[0])
		w.now = w.now.Add(d)
		return err
	case "round":
		return w.rounds(HostID(args[0]), rest)
	case "slots":
		for _, s := range Slots(*w.hosts[HostID(args[0])], w.policy.Classes, w.policy.SlotProbability, w.now) {
			fmt.Fprintf(&w.out, "%s: %d free for %s, p %.3f, limited by %s\n", s.Class, s.Free, s.Horizon, s.Probability, s.Why)
		}
	case "offer":
		w.offer(HostID(args[0]), VMID(rest[0]))
	case "evaluate":
		w.evaluate(HostID(args[0]), VMID(rest[0]))
	case "answer":
		w.states[HostID(args[0])] = w.states[HostID(args[0])].Answer(w.now, VMID(rest[0]), rest[1] == "approve", w.now.Add(5*time.Minute))
	case "hold":
		h := w.hosts[HostID(args[0])]
		need := NeedOf(*w.find(VMID(rest[0])), *w.hostOf(VMID(rest[0])))
		need.From = "elsewhere" // not the asker's own lease
		h.Held = append(h.Held, Lease{ID: "l1", Attempt: 1, Need: need})
	case "judge":
		return w.judge(args)
	default:
		return fmt.Errorf("unknown command %q", verb)
	}
	return nil
}

func (w *world) rounds(id HostID, opts []string) error {
	n, apply, lastOnly := 1, false, false
	err := each(opts, func(k, v string) (err error) {
		switch k {
		case "n":
			n, err = strconv.Atoi(v)
		case "apply":
			apply = true
		case "last": // print the last round alone
			lastOnly = true
		}
		return err
	})
	for i := range n {
		d := w.round(id)
		if i < n-1 && lastOnly && !(apply && d.To != "") {
			w.now = w.now.Add(2 * time.Second)
			continue
		}
		fmt.Fprintf(&w.out, "+%s %s", w.now.Sub(epoch), d.Explain())
		if apply {
			w.apply(d)
		}
		w.now = w.now.Add(2 * time.Second)
	}
	return err
}

func (w *world) offer(id HostID, vmID VMID) {
	src, vm := w.hostOf(vmID), w.find(vmID)
	o := MakeOffer(w.now, *w.hosts[id], NeedOf(*vm, *src), w.policy)
	fmt.Fprintf(&w.out, "p90 after %.0f %%, %.0f MiB free, %d held, %d incoming\n", 100*o.P90After, o.MemoryFree, o.Held, o.Incoming)
	for _, r := range o.Refusals {
		fmt.Fprintf(&w.out, "  [%s] %s\n", r.Kind, r.Text)
	}
}

func (w *world) evaluate(id HostID, vmID VMID) {
	src, vm := w.hostOf(vmID), w.find(vmID)
	e := EvaluateMigration(*vm, *src, MakeOffer(w.now, *w.hosts[id], NeedOf(*vm, *src), w.policy), w.policy)
	at := "none expected"
	if e.ContentionAt >= 0 {
		at = "expected at +" + e.ContentionAt.String()
	}
	fmt.Fprintf(&w.out, "gain %.2f = %.2f - %.2f, cost %.2f, net %.2f, contention %s, residual %.2f\n",
		e.Gain, e.Source.Without, e.Source.With, e.Cost.Total, e.Net, at, e.Residual)
	for _, t := range e.Cost.Terms {
		fmt.Fprintf(&w.out, "  %-8s %-12s %6.3f  %s\n", t.Group, t.Name, t.Value, t.Text)
	}
	for _, r := range e.Refusals {
		fmt.Fprintf(&w.out, "  [%s] %s\n", r.Kind, r.Text)
	}
}

func (w *world) hostOf(id VMID) *Host {
	for _, h := range w.hosts {
		if h.vm(id) != nil {
			return h
		}
	}
	return nil
}

func (w *world) judge(args []string) error {
	o := Outcome{Window: 10 * time.Minute, Measured: true}
	err := each(args, func(k, v string) error {
		x, err := strconv.ParseFloat(v, 64)
		switch k {
		case "before":
			o.SourceBefore = Cores(x)
		case "after":
			o.SourceAfter = Cores(x)
		case "dest":
			o.DestAfter = Cores(x)
		case "stayed":
			o.SourceDemand = []Cores{Cores(x)}
		case "moved":
			o.MovedDemand = []Cores{Cores(x)}
		case "unmeasured":
			o.Measured, o.Why = false, "the destination's samples are missing"
		default:
			return fmt.Errorf("unknown key %q", k)
		}
		return err
	})
	fmt.Fprintln(&w.out, JudgeOutcome(w.last, o).Text)
	return err
}
