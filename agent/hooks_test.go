package agent

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"headroom/agent/config"
	"headroom/agent/hypervisor"
	"headroom/bpf"
)

// plainSampler has no features, richSampler block I/O alone.
type plainSampler struct{ Sampler }

type richSampler struct {
	Sampler
	on map[bpf.Feature]bool
}

func (s *richSampler) Enable(f bpf.Feature) error {
	if f == bpf.FeatureExits {
		return bpf.ErrNotSupported
	}
	s.on[f] = true
	return nil
}
func (s *richSampler) Disable(f bpf.Feature) error   { s.on[f] = false; return nil }
func (s *richSampler) Features() []bpf.FeatureStatus { return nil }
func (s *richSampler) BlockIO(id string) (bpf.BlockIO, error) {
	if !s.on[bpf.FeatureBlockIO] {
		return bpf.BlockIO{}, bpf.ErrFeatureOff
	}
	return bpf.BlockIO{Read: bpf.BlockCounts{Ops: 3}}, nil
}
func (s *richSampler) WaitTail(string) (bpf.WaitTail, error) {
	return bpf.WaitTail{}, errors.New("off")
}
func (s *richSampler) Exits(string) (bpf.Exits, error) { return bpf.Exits{}, errors.New("off") }

func TestFeaturesAreEnabledAndReadWhereTheSamplerHasThem(t *testing.T) {
	cfg := config.Config{Sampling: config.Sampling{BlockIO: true, KVMExits: true, WaitTail: tailOn, TailBudget: 2}}
	rich := &richSampler{on: map[bpf.Feature]bool{}}
	for _, c := range []struct {
		name    string
		sampler Sampler
		read    bool
	}{{"none", plainSampler{}, false}, {"block I/O", rich, true}} {
		t.Run(c.name, func(t *testing.T) {
			l := &loop{a: &Agent{o: Options{Sampler: c.sampler}, cfg: cfg, log: slog.New(slog.DiscardHandler)}}
			l.enableFeatures()
			if l.tail.when != tailOn || l.tail.budget != 2 {
				t.Errorf("policy of the single waits: %+v", l.tail)
			}
			v := &vm{dom: hypervisor.Domain{ID: "vm"}}
			l.readFeatures(v)
			if read := v.extra.block != nil && v.extra.block.Read.Ops == 3; read != c.read {
				t.Errorf("block I/O read: %v, want %v", read, c.read)
			}
			l.switchTail(time.Unix(1e9, 0))
			if c.read != rich.on[bpf.FeatureWaitTail] {
				t.Errorf("single waits measured: %v, want %v", rich.on[bpf.FeatureWaitTail], c.read)
			}
		})
	}
}

func TestTailIsAttachedWhileItIsWantedAndCheap(t *testing.T) {
	start := time.Unix(1e9, 0)
	cheap, dear := 10_000.0, 100_000.0 // switches a second: 0.2 and 2 % of a CPU
	for name, c := range map[string]struct {
		when  string
		steps []struct {
			after     time.Duration
			contended bool
			switches  float64
			want      bool
		}
	}{
		"contention": {"contention", []struct {
			after     time.Duration
			contended bool
			switches  float64
			want      bool
		}{
			{0, false, cheap, false},
			{time.Second, true, cheap, true},
			{30 * time.Second, false, cheap, true}, // it lingers
			{62 * time.Second, false, cheap, false},
		}},
		"on, until it is too dear": {"on", []struct {
			after     time.Duration
			contended bool
			switches  float64
			want      bool
		}{
			{0, false, -1, true}, // the cost is not known yet
			{time.Second, false, cheap, true},
			{2 * time.Second, false, dear, false},
			{3 * time.Second, false, cheap, false}, // it rests
			{11 * time.Minute, false, cheap, true},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := tailPolicy{when: c.when, budget: 1}
			for _, s := range c.steps {
				if got := p.step(start.Add(s.after), s.contended, s.switches); got != s.want {
					t.Errorf("after %v: attached %v, want %v", s.after, got, s.want)
				}
			}
		})
	}
	p := tailPolicy{when: "on", budget: 1}
	p.step(start, false, 0)
	p.failed(start)
	if p.step(start.Add(time.Minute), false, 0) || !p.step(start.Add(tailRest), false, 0) {
		t.Error("a hook that failed is not tried again after its rest, or before")
	}
}

func TestCounterRate(t *testing.T) {
	start := time.Unix(1e9, 0)
	var c counterRate
	for i, s := range []struct {
		at    time.Duration
		count uint64
		want  float64
	}{
		{0, 1000, -1}, {2 * time.Second, 3000, 1000}, {2 * time.Second, 3000, 1000},
		{3 * time.Second, 10, -1}, {4 * time.Second, 20, 10}, {5 * time.Second, 0, -1},
	} {
		if got := c.rate(start.Add(s.at), s.count); got != s.want {
			t.Errorf("reading %d: %v a second, want %v", i, got, s.want)
		}
	}
}

func TestFeaturesAreToldByWindow(t *testing.T) {
	var v vm
	if v.apiBlockIO() != nil || v.apiExits() != nil || v.apiWaitTail() != nil {
		t.Error("what was never read is told")
	}
	var fast, slow bpf.Histogram
	fast[3], slow[3], slow[10] = 100, 100, 50
	v.before = extra{at: time.Second, block: &bpf.BlockIO{Read: bpf.BlockCounts{Ops: 100, Latency: fast}}, exits: &bpf.Exits{VCPUs: 1, All: 10, Halt: 5}}
	v.extra = extra{at: 3 * time.Second, block: &bpf.BlockIO{Read: bpf.BlockCounts{Ops: 150, Latency: slow}, Attribution: bpf.AttributionExact},
		exits: &bpf.Exits{VCPUs: 1, All: 30, Halt: 11}, tail: &bpf.WaitTail{Waits: 7, Longest: time.Millisecond}}
	b := v.apiBlockIO()
	if b.ReadOpsPerS != 25 || b.ReadP99US == nil || *b.ReadP99US != 2048 || b.WriteP99US != nil || b.Attribution != "exact" {
		t.Errorf("block I/O %+v", b)
	}
	if e := v.apiExits(); e.ExitsPerS != 10 || e.HaltsPerS != 3 {
		t.Errorf("exits %+v", e)
	}
	if w := v.apiWaitTail(); w.Waits != 7 || w.LongestUS != 1000 {
		t.Errorf("waits %+v", w)
	}
	v.before.exits = &bpf.Exits{VCPUs: 1, All: 99}
	if v.apiExits() != nil {
		t.Error("counters that fell are told as a rate")
	}
}
