package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"headroom/agent"
	"headroom/agent/api"
	"headroom/agent/config"
	"headroom/agent/history"
	"headroom/agent/host"
	"headroom/agent/hypervisor"
	"headroom/bpf"
	"headroom/mesh"
	"headroom/planner"
	"headroom/tests/lab/demand"
)

// simStage plays on simulated hypervisors, in this process: the hosts, guests and
// counters are a model; gossip, RPC, store, forecasts, planner and hand-over are
// the real ones.
type simStage struct {
	dir    string
	world  *hypervisor.World
	nodes  []*simNode
	cancel context.CancelFunc
	wg     sync.WaitGroup
	errs   chan error
}

type simNode struct {
	name, id, ip string
	driver       *hypervisor.Sim
	client       *api.Client
	closers      []func() error
}

func newSimStage() stage { return &simStage{} }

func (s *simStage) simulated() bool { return true }

func (s *simStage) open(_ context.Context, say func(string)) error {
	say("making simulated hosts, certificates and key")
	var err error
	if s.dir, err = os.MkdirTemp("", "headroom-demo-"); err != nil {
		return fmt.Errorf("folder for the demo: %w", err)
	}
	pki := filepath.Join(s.dir, "pki")
	if err := errors.Join(mesh.CreateCA(pki, "demo"), mesh.CreateKey(filepath.Join(pki, "gossip.key"))); err != nil {
		return err
	}
	for i := range hosts {
		n := &simNode{name: fmt.Sprintf("h%d", i), id: fmt.Sprintf("%032d", i+1), ip: fmt.Sprintf("127.77.0.%d", 10+i)}
		if err := mesh.IssueHost(pki, filepath.Join(s.dir, n.name), mesh.HostID(n.id), n.name, nil); err != nil {
			return err
		}
		s.nodes = append(s.nodes, n)
	}
	return nil
}

func (s *simStage) begin(ctx context.Context, mode string, say func(string)) error {
	say("starting the agents, mode " + mode)
	s.world = hypervisor.NewWorld()
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel, s.errs = cancel, make(chan error, hosts)
	for _, n := range s.nodes {
		// The destination's address in a migration is that of its gossip.
		n.driver = s.world.AddHost(n.ip, quota, 4096)
	}
	for _, n := range s.nodes {
		a, err := s.agent(runCtx, n, mode)
		if err != nil {
			return fmt.Errorf("agent of %s: %w", n.name, err)
		}
		s.wg.Go(func() {
			err := a.Run(runCtx)
			for i := len(n.closers) - 1; i >= 0; i-- {
				err = errors.Join(err, n.closers[i]())
			}
			n.closers = nil
			s.errs <- err
		})
	}
	for i, g := range guests {
		script, err := demand.Parse(g.demand)
		if err != nil {
			return fmt.Errorf("script of %s: %w", g.name, err)
		}
		d := hypervisor.Domain{ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i+1), Name: g.name, PID: i + 1, VCPUs: 1, MemoryMiB: 96, MaxMemoryMiB: 96}
		if err := s.world.AddVM(s.nodes[g.host].ip, d, script.At); err != nil {
			return err
		}
	}
	return nil
}

// agent joins the real parts with the simulated ones.
func (s *simStage) agent(ctx context.Context, n *simNode, mode string) (*agent.Agent, error) {
	dir := filepath.Join(s.dir, n.name)
	cfg := simConfig(mode)
	log := slog.New(slog.DiscardHandler)
	store, err := history.Open(history.Options{Dir: filepath.Join(dir, "data-"+mode), Logger: log})
	if err != nil {
		return nil, err
	}
	n.closers = append(n.closers, store.Close)
	journal, err := history.OpenJournal(filepath.Join(dir, "journal-"+mode))
	if err != nil {
		return nil, err
	}
	n.closers = append(n.closers, journal.Close)
	key, err := mesh.LoadKey(filepath.Join(s.dir, "pki", "gossip.key"))
	if err != nil {
		return nil, err
	}
	var join []string
	for _, other := range s.nodes {
		join = append(join, other.ip+":17946")
	}
	m, err := mesh.Start(ctx, mesh.Config{Cluster: "demo", ID: mesh.HostID(n.id), Name: n.name, Bind: n.ip + ":17946", RPCBind: n.ip + ":17947",
		Join: join, Key: key, CAFile: filepath.Join(s.dir, "pki", mesh.CAFileName), CertFile: filepath.Join(dir, mesh.HostCertName),
		KeyFile: filepath.Join(dir, mesh.HostKeyName), ViewStable: 3 * time.Second, Logger: log})
	if err != nil {
		return nil, err
	}
	n.closers = append(n.closers, m.Close)
	socket := filepath.Join(dir, "s")
	listener, err := api.Listen(socket, "")
	if err != nil {
		return nil, err
	}
	n.client = api.NewClient(socket)
	return agent.New(agent.Options{
		Config: cfg, ID: planner.HostID(n.id), Name: n.name, Version: "demo", DriverName: "simulated", Simulated: true,
		Driver: n.driver, Sampler: &simSampler{driver: n.driver}, Mesh: m, Store: store, Journal: journal, Host: simHost{n.driver},
		Listener: listener, Random: rand.New(rand.NewPCG(1, uint64(len(n.id)))), Logger: log,
	})
}

// simConfig is the lab's configuration; see tests/cluster.
func simConfig(mode string) config.Config {
	c := config.Default()
	c.Agent.Mode = mode
	c.Libvirt.URI, c.Libvirt.MigrateURI = "sim", "sim://{host}"
	c.Mesh.Cluster = "demo"
	c.Forecast = config.Forecast{Step: config.Of(5 * time.Second), Horizon: 12, Warmup: 30, Settle: config.Of(0)}
	p := &c.Planner
	p.Round, p.Hold, p.Window, p.High, p.Low = config.Of(time.Second), 4, 6, 0.90, 0.75
	p.ReserveMemoryMiB, p.MinGain, p.MigrationCores, p.Bandwidth = 0, 0.5, 0.3, 150e6
	p.ContentionProbability = 0.1 // as in the lab: the p90 is what the planner acts on
	p.Cooldown, p.CooldownCap, p.ReturnAfter, p.UrgentFactor = config.Of(time.Minute), config.Of(10*time.Minute), config.Of(3*time.Minute), 0
	p.MaxJitter, p.RefusalBackoff, p.MaxDigestAge = config.Of(0), config.Of(6*time.Second), config.Of(30*time.Second)
	p.BlackoutBase = config.Of(200 * time.Millisecond)
	c.Slots.Classes = []config.Class{{Name: "small", VCPU: 0.1, MemoryMiB: 128}, {Name: "medium", VCPU: 0.2, MemoryMiB: 128}, {Name: "large", VCPU: 0.4, MemoryMiB: 128}, {Name: "xlarge", VCPU: 0.6, MemoryMiB: 256}}
	return c
}

func (s *simStage) agents() []source {
	out := make([]source, len(s.nodes))
	for i, n := range s.nodes {
		out[i] = n.client
	}
	return out
}

func (s *simStage) work() ([]guestWork, error) {
	var out []guestWork
	for i, g := range guests {
		demanded, done, lost, ok := s.world.Work(fmt.Sprintf("00000000-0000-4000-8000-%012d", i+1))
		if !ok {
			return nil, fmt.Errorf("simulated guest %s is gone", g.name)
		}
		out = append(out, guestWork{name: g.name, demanded: demanded, done: done, lost: lost, works: true})
	}
	return out, nil
}

// autopsy has nothing to say: a simulated guest cannot break down.
func (s *simStage) autopsy(context.Context, string) string { return "" }

func (s *simStage) end() error {
	if s.cancel == nil {
		return nil
	}
	s.cancel()
	s.wg.Wait()
	close(s.errs)
	var all error
	for err := range s.errs {
		all = errors.Join(all, err)
	}
	for _, n := range s.nodes { // of agents that never ran
		for i := len(n.closers) - 1; i >= 0; i-- {
			all = errors.Join(all, n.closers[i]())
		}
		n.closers = nil
	}
	s.cancel = nil
	return all
}

func (s *simStage) close() error {
	if s.dir == "" {
		return nil
	}
	return os.RemoveAll(s.dir)
}

// simSampler gives the model's counters the shape of the real sampler's.
type simSampler struct {
	driver  *hypervisor.Sim
	targets []bpf.Target
	since   map[string]time.Duration
	passes  uint64
}

var begun = time.Now()

func (s *simSampler) Tier() bpf.Tier         { return "simulated" }
func (s *simSampler) Refused() []bpf.Refusal { return nil }
func (s *simSampler) Cost() bpf.Cost         { return bpf.Cost{Passes: s.passes} }
func (s *simSampler) Close() error           { return nil }

func (s *simSampler) SetTargets(t []bpf.Target) error {
	now := time.Since(begun)
	since := map[string]time.Duration{}
	for _, target := range t {
		if at, ok := s.since[target.ID]; ok {
			since[target.ID] = at
		} else {
			since[target.ID] = now
		}
	}
	s.targets, s.since = t, since
	return nil
}

func (s *simSampler) Sample(dst []bpf.Sample) ([]bpf.Sample, error) {
	s.passes++
	now := time.Since(begun)
	for _, t := range s.targets {
		used, waited, ok := s.driver.Counters(t.ID)
		sample := bpf.Sample{ID: t.ID, PID: t.PID, At: now, Since: s.since[t.ID], VCPU: used, Wait: waited, VCPUWait: waited, Valid: ok,
			Absent: []bpf.Absence{{Signal: bpf.SignalIO, Reason: "simulated"}, {Signal: bpf.SignalRSS, Reason: "simulated"}, {Signal: bpf.SignalSwitches, Reason: "simulated"}}}
		if !ok {
			sample.Reason = "gone"
		}
		dst = append(dst, sample)
	}
	return dst, nil
}

// simHost tells the simulated capacity.
type simHost struct{ driver *hypervisor.Sim }

func (h simHost) Status() (host.Status, error) {
	cores, memory := h.driver.Capacity()
	return host.Status{CPU: host.CPU{Online: 1, Cores: cores}, Memory: host.Memory{TotalMiB: memory, AvailableMiB: memory, CapacityMiB: memory},
		Absent: map[string]string{"cpu_pressure": "simulated"}}, nil
}
