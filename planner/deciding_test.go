package planner

import (
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestWhatDecidedComesTrue asks the planner again with the counterfactual made
// real, and with a little less than that.
func TestWhatDecidedComesTrue(t *testing.T) {
	cases := map[string]struct {
		change func(h *Host, p *Policy)
		by     string
		ease   func(p *Policy, by float64) // makes the comparison easier by a factor
	}{
		"gain": {func(_ *Host, p *Policy) { p.GainFactor = 60 }, DecidedByGain,
			func(p *Policy, by float64) { p.GainFactor /= by; p.MinGain /= CoreSeconds(by) }},
		"pressure": {func(h *Host, _ *Policy) { h.Capacity.CPU = 0.78 }, DecidedByPressure,
			func(p *Policy, by float64) { p.High /= by }},
		"unserved": {func(_ *Host, p *Policy) { p.MinGain = 60 }, DecidedByUnserved,
			func(p *Policy, by float64) { p.MinGain /= CoreSeconds(by) }},
	}
	for name, c := range cases {
		h, peer, p := pressed()
		c.change(h, &p)
		d := decide(h, peer, State{}, p)
		g := d.Deciding
		if d.Action != ActionStay || g == nil || g.By != c.by || g.Factor == nil || *g.Factor <= 1 || !strings.Contains(g.Would, "times higher") {
			t.Errorf("%s: %+v of %s", name, g, d.Explain())
			continue
		}
		almost, enough := p, p
		c.ease(&almost, *g.Factor*0.99)
		c.ease(&enough, *g.Factor*1.01)
		if d := decide(h, peer, State{}, almost); d.Deciding.By != c.by || d.Action != ActionStay {
			t.Errorf("%s: a hundredth less than the factor %.3f is enough: %s", name, *g.Factor, d.Explain())
		}
		if d := decide(h, peer, State{}, enough); d.Deciding.By == c.by && d.Action == ActionStay {
			t.Errorf("%s: a hundredth more than the factor %.3f is not enough: %s", name, *g.Factor, d.Explain())
		}
	}
}

func TestWhatDecidedIsNamed(t *testing.T) {
	cases := map[string]struct {
		change func(h *Host, peer *Peer, st *State, p *Policy)
		by     string
		says   string
	}{
		"move":     {func(*Host, *Peer, *State, *Policy) {}, DecidedByGain, "would have stayed if the gain had been"},
		"advise":   {func(_ *Host, _ *Peer, _ *State, p *Policy) { p.Mode = ModeAdvise }, DecidedByMode, "in mode auto"},
		"freeze":   {func(h *Host, _ *Peer, _ *State, _ *Policy) { h.Paused = "paused on h7" }, DecidedByFreeze, "paused on h7"},
		"hold":     {func(_ *Host, _ *Peer, _ *State, p *Policy) { p.Hold, p.Window = 3, 5 }, DecidedByHold, "after 2 more rounds"},
		"draining": {func(h *Host, _ *Peer, _ *State, _ *Policy) { h.Draining = true }, DecidedByDrain, "if the host were not drained"},
		"moving":   {func(h *Host, _ *Peer, _ *State, _ *Policy) { h.Outgoing = []VMID{"web"} }, DecidedByMoves, "under way"},
		"busy": {func(h *Host, _ *Peer, _ *State, _ *Policy) { h.VMs[0].Busy, h.VMs[1].Busy = "backup job", "backup job" },
			string(RefuseBusy), "backup job"},
		"no host": {func(_ *Host, peer *Peer, _ *State, _ *Policy) { peer.Alive = false }, string(RefuseUnreachable), "1 more hosts"},
		"empty":   {func(h *Host, _ *Peer, _ *State, _ *Policy) { h.VMs, h.Horizon = nil, 0 }, DecidedByEmpty, "no VM"},
	}
	for name, c := range cases {
		h, peer, p := pressed()
		var st State
		c.change(h, peer, &st, &p)
		d := decide(h, peer, st, p)
		if g := d.Deciding; g == nil || g.By != c.by || !strings.Contains(g.Would, c.says) {
			t.Errorf("%s: %+v, want %s and %q", name, g, c.by, c.says)
		}
	}
}

// TestProbedHostsDecideToo: the reasons of the hosts that were asked count, and the
// nearest of them is named.
func TestProbedHostsDecideToo(t *testing.T) {
	h, peer, p := pressed()
	d := decide(h, peer, State{}, p)
	gain := refuse(RefuseGain, "too little")
	d = d.Conclude("", Evaluation{}, []RefusedDestination{
		{Host: "far", Refusals: []Refusal{gain}, Gain: 1, Cost: 10},
		{Host: "near", Refusals: []Refusal{gain}, Gain: 10, Cost: 7},
		{Host: "full", Refusals: []Refusal{refuse(RefuseCPU, "full"), gain}, Gain: 20, Cost: 7},
	}, p)
	if g := d.Deciding; g.By != DecidedByGain || !strings.Contains(g.Would, "near if the gain had been 2.1 times higher") {
		t.Errorf("%+v", g)
	}
	d = d.Conclude("", Evaluation{}, []RefusedDestination{{Host: "full", Name: "hv9", Refusals: []Refusal{refuse(RefuseCPU, "p90 is too high")}}}, p)
	d.Refused = d.Refused[:1]
	if g := decided(&d, &p); g.By != string(RefuseCPU) || !strings.Contains(g.Would, "hv9: p90 is too high") {
		t.Errorf("%+v", g)
	}
}

// TestEveryDecisionTellsItsStory: whatever the round, the story names what decided
// and ends each line as a sentence.
func TestEveryDecisionTellsItsStory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, peer, p := pressed()
		h.Capacity.CPU = Cores(rapid.Float64Range(0.1, 2).Draw(t, "cores"))
		h.Draining = rapid.Bool().Draw(t, "draining")
		peer.Alive = rapid.Bool().Draw(t, "alive")
		p.GainFactor = rapid.Float64Range(1, 100).Draw(t, "factor")
		p.Mode = rapid.SampledFrom([]Mode{ModeAdvise, ModeApprove, ModeAuto}).Draw(t, "mode")
		d, _ := Decide(epoch, *h, []Peer{*peer}, State{}, p, rand.New(rand.NewPCG(1, 1)))
		if d.Deciding == nil || d.Deciding.By == "" || d.Deciding.Would == "" {
			t.Fatalf("nothing decided: %s", d.Explain())
		}
		story := d.Story(func(id HostID) string { return "host " + string(id) })
		for _, line := range story {
			if !strings.HasSuffix(line, ".") || strings.Contains(line, "NaN") || strings.Contains(line, "%!") {
				t.Fatalf("line %q", line)
			}
		}
		if len(story) < 4 || !strings.Contains(strings.Join(story, "\n"), d.Deciding.Would) {
			t.Fatalf("story %q", story)
		}
	})
}

func TestAboutAVMThatWasNotChosen(t *testing.T) {
	h, peer, p := pressed()
	h.VMs[1].Busy = "backup job"
	d := decide(h, peer, State{}, p)
	if got := d.About("web", p); d.VM != "db" || !strings.Contains(got, "backup job") {
		t.Errorf("chose %s; about web: %q", d.VM, got)
	}
	h.VMs[1].Busy = ""
	d = decide(h, peer, State{}, p)
	if got := d.About("web", p); !strings.Contains(got, "db was the better choice") {
		t.Errorf("about web: %q", got)
	}
	if got := d.About("db", p) + d.About("nobody", p); got != "" {
		t.Errorf("about the chosen and an unknown VM: %q", got)
	}
}
