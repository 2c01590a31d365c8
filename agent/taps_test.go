package agent

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"headroom/agent/config"
	"headroom/agent/hypervisor"
	"headroom/bpf"
)

// fakeLinks has the taps that its map has.
type fakeLinks struct {
	Links
	taps    map[string]bpf.LinkStats
	refused []bpf.Refusal
}

func (l *fakeLinks) Tier() bpf.Tier         { return bpf.TierNetlink }
func (l *fakeLinks) Refused() []bpf.Refusal { return l.refused }
func (l *fakeLinks) Cost() bpf.Cost         { return bpf.Cost{MeanCPU: 70 * time.Microsecond} }
func (l *fakeLinks) Stats(name string) (bpf.LinkStats, bool) {
	s, ok := l.taps[name]
	return s, ok
}

// quietSampler has made no pass yet.
type quietSampler struct{ Sampler }

func (quietSampler) Tier() bpf.Tier         { return bpf.TierSyscall }
func (quietSampler) Refused() []bpf.Refusal { return nil }
func (quietSampler) Cost() bpf.Cost         { return bpf.Cost{} }

func TestTapsOfAVMAreSummed(t *testing.T) {
	all := bpf.LinkStats{RxBytes: 10, TxBytes: 20, RxPackets: 30, TxPackets: 40, RxDropped: 50, TxDropped: 60}
	links := &fakeLinks{taps: map[string]bpf.LinkStats{"vnet0": all, "vnet1": all}}
	v := &vm{dom: hypervisor.Domain{Taps: []string{"vnet0", "vnet1"}}, now: unknownRates()}
	v.tap(links, time.Second)
	if !v.linked || !math.IsNaN(v.now.network.rx) {
		t.Errorf("rates of a single reading: %+v", v.now.network)
	}
	links.taps["vnet1"] = bpf.LinkStats{RxBytes: 20, TxBytes: 40, RxPackets: 60, TxPackets: 80, RxDropped: 100, TxDropped: 120}
	v.tap(links, 2*time.Second)
	if want := (linkRates{rx: 20, tx: 10, rxPackets: 40, txPackets: 30, rxDrops: 60, txDrops: 50}); v.now.network != want {
		t.Errorf("%+v, want %+v", v.now.network, want)
	}
	delete(links.taps, "vnet0")
	v.now = unknownRates()
	v.tap(links, 3*time.Second)
	if v.linked || !math.IsNaN(v.now.network.rx) {
		t.Errorf("one tap of two is taken for all: %+v", v.now.network)
	}
}

func TestStatusTellsWhatReadsTheTaps(t *testing.T) {
	a := &Agent{o: Options{Sampler: quietSampler{}}, cfg: config.Config{}}
	if s := a.samplerStatus(); s.Taps != "" || s.TapsUS != 0 {
		t.Errorf("no taps are read: %+v", s)
	}
	a.o.Links = &fakeLinks{refused: []bpf.Refusal{{Tier: bpf.TierSyscall, Err: errors.New("no rights")}}}
	s := a.samplerStatus()
	if s.Taps != "netlink" || s.TapsUS != 70 || len(s.Refused) != 1 ||
		!strings.Contains(s.Refused[0], "taps by syscall: no rights") {
		t.Errorf("%+v", s)
	}
}
