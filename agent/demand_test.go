package agent

import (
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"headroom/agent/config"
	"headroom/agent/hypervisor"
	"headroom/bpf"
	"headroom/planner"
)

// limited is a loop of a host with limits for disk and network.
func limited(t *testing.T, change func(*config.Config)) (*loop, *memStore) {
	t.Helper()
	cfg := config.Default()
	cfg.Planner.DiskBandwidth, cfg.Planner.NetworkBandwidth = 100e6, 1e9
	if change != nil {
		change(&cfg)
	}
	policy, err := policyOf(cfg)
	if err != nil {
		t.Fatal(err)
	}
	store := &memStore{}
	return &loop{a: &Agent{o: Options{ID: "a", Store: store}, cfg: cfg, policy: policy, log: slog.New(slog.DiscardHandler)}, vms: map[string]*vm{}}, store
}

// watched is a VM that has been seen for some windows with 30 MB/s to its disk and
// 5 MB/s in the busier direction of its network.
func watched(t *testing.T, l *loop, windows int) *vm {
	t.Helper()
	dom := hypervisor.Domain{ID: "v", Name: "web", State: hypervisor.Running, VCPUs: 2, MaxMemoryMiB: 512, Taps: []string{"tap0"}, Migratable: true}
	v, err := l.newVM(dom)
	if err != nil {
		t.Fatal(err)
	}
	l.vms[dom.ID] = v
	for i := range windows {
		at := time.Duration(i+1) * time.Second
		s := bpf.Sample{ID: "v", At: at, Since: time.Second, VCPU: at / 2, Valid: true, ReadBytes: uint64(i) * 20e6, WriteBytes: uint64(i) * 10e6, RSS: 400 << 20}
		v.observe(&s, 1)
		if i > 0 {
			v.now.network.rx, v.now.network.tx = 5e6, 1e6
		}
		v.learn(time.Unix(int64(i), 0), 0)
	}
	v.refresh()
	return v
}

// TestTrafficIsForecastWhereTheHostHasALimit and nowhere else.
func TestTrafficIsForecastWhereTheHostHasALimit(t *testing.T) {
	l, _ := limited(t, nil)
	p := l.a.plannerVM(watched(t, l, 120))
	if !p.Disk.Ready || math.Abs(p.Disk.Peak[0]-30e6) > 1e5 {
		t.Errorf("disk: ready %v (%s), median of the peak %.3g bytes/s, want 30e6", p.Disk.Ready, p.Disk.Why, p.Disk.Peak[0])
	}
	if !p.Network.Ready || math.Abs(p.Network.Peak[0]-5e6) > 1e5 {
		t.Errorf("network: ready %v (%s), median of the peak %.3g bytes/s, want 5e6", p.Network.Ready, p.Network.Why, p.Network.Peak[0])
	}
	if p.Mem.Ready || p.Mem.Why != "" {
		t.Errorf("memory is forecast on a host that does not overcommit it: %+v", p.Mem)
	}
	l, _ = limited(t, func(c *config.Config) {
		c.Planner.DiskBandwidth, c.Planner.NetworkBandwidth, c.Planner.MemoryOvercommit = 0, 0, 1.5
	})
	p = l.a.plannerVM(watched(t, l, 120))
	if !p.CPU.Ready || !p.Mem.Ready || math.Abs(p.Mem.Peak[0]-400) > 1 || p.Disk.Ready || p.Network.Ready {
		t.Errorf("CPU %v, memory %v of %.0f MiB, disk %v, network %v; want the first two and 400", p.CPU.Ready, p.Mem.Ready, p.Mem.Peak[0], p.Disk.Ready, p.Network.Ready)
	}
}

// TestAVMWithoutTapsHasNoTraffic that this host could count: it is not missing.
func TestAVMWithoutTapsHasNoTraffic(t *testing.T) {
	l, _ := limited(t, nil)
	v := watched(t, l, 3)
	if p := l.a.plannerVM(v); p.Network.Ready || p.Network.Why == "" {
		t.Errorf("three windows: %+v", p.Network)
	}
	v.dom.Taps = nil
	if p := l.a.plannerVM(v); p.Network.Why != "" || p.Disk.Why == "" {
		t.Errorf("without taps: network %q, disk %q", p.Network.Why, p.Disk.Why)
	}
}

// TestEveryModelSurvivesARestart, and is taken from the host that a VM left.
func TestEveryModelSurvivesARestart(t *testing.T) {
	l, store := limited(t, nil)
	was := watched(t, l, 120)
	if err := l.saveModels(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"model/cpu/v", "model/disk/v", "model/network/v"} {
		if len(store.blobs[name]) == 0 {
			t.Errorf("%s was not kept", name)
		}
	}
	if _, ok := store.blobs["model/memory/v"]; ok {
		t.Error("a model of memory was kept")
	}
	v, err := l.newVM(was.dom)
	if err != nil {
		t.Fatal(err)
	}
	v.refresh()
	if got, want := v.forecasts[signalDisk].Peak, was.forecasts[signalDisk].Peak; got != want {
		t.Errorf("disk after a restart %v, before %v", got, want)
	}
	heir, _ := limited(t, nil)
	heir.vms["v"] = watched(t, heir, 3)
	heir.inherit(model{vm: "v", signal: signalDisk, state: store.blobs["model/disk/v"]})
	heir.vms["v"].refresh()
	if got, want := heir.vms["v"].forecasts[signalDisk].Peak, was.forecasts[signalDisk].Peak; got != want {
		t.Errorf("disk at the new host %v, at the old one %v", got, want)
	}
	if heir.vms["v"].forecasts[signalCPU].Ready {
		t.Error("the model of the disk was taken for that of the CPU")
	}
}

// TestModelOfAnUnknownSignalIsRefused: another version may know more.
func TestModelOfAnUnknownSignalIsRefused(t *testing.T) {
	a := &Agent{models: make(chan model, 1), needs: needs{kept: map[asked]promised{}}}
	need := planner.Need{VM: "v", From: "b"}
	a.needs.promise(need, time.Now())
	send := func(signal string) error {
		body, err := json.Marshal(modelMessage{VM: "v", Signal: signal, State: []byte("x")})
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.acceptModel(context.Background(), "b", body)
		return err
	}
	if err := send("gpu"); err == nil || !strings.Contains(err.Error(), `signal "gpu"`) {
		t.Errorf("got %v", err)
	}
	if err := send("disk"); err != nil {
		t.Error(err)
	}
	if m := <-a.models; m.signal != signalDisk {
		t.Errorf("taken as %s", m.signal)
	}
}

// TestForecastsAreBoundByWhatTheVMHas: no VM can use more memory than it has.
func TestForecastsAreBoundByWhatTheVMHas(t *testing.T) {
	l, _ := limited(t, func(c *config.Config) { c.Planner.MemoryOvercommit = 2 })
	v := watched(t, l, 120)
	v.dom.MaxMemoryMiB = 300
	v.refresh()
	if top := slices.Max(v.forecasts[signalMemory].Peak[:]); top != 300 {
		t.Errorf("a VM of 300 MiB is forecast to use %.0f", top)
	}
	if top := slices.Max(v.forecasts[signalDisk].Peak[:]); top < 29e6 {
		t.Errorf("disk traffic was cut at %.3g", top)
	}
}
