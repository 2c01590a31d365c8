package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"headroom/agent/api"
	"headroom/agent/config"
	"headroom/agent/host"
	"headroom/agent/hypervisor"
	"headroom/bpf"
	"headroom/mesh"
	"headroom/planner"
	"headroom/planner/negotiate"
)

// fleet is whole agents on simulated hypervisors in virtual time; only store, journal,
// counters and the network between them are models.
type fleet struct {
	t     *testing.T
	world *hypervisor.World
	wire  *wire
	hosts []*machine
}

// machine is one host: what outlives its agent, and its agent.
type machine struct {
	name    string
	driver  *hypervisor.Sim
	store   *memStore
	journal *memJournal
	broken  *fragile
	*Agent
	cancel context.CancelFunc
	done   chan error
}

// inFleet runs fn with n agents of a mode that know each other.
func inFleet(t *testing.T, n int, mode string, fn func(f *fleet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{t: t, world: hypervisor.NewWorld(), wire: &wire{}}
		for i := range n {
			name := fmt.Sprintf("h%d", i)
			m := &machine{name: name, driver: f.world.AddHost(name, 1, 4096), store: &memStore{}, journal: &memJournal{}, broken: &fragile{}}
			f.hosts = append(f.hosts, m)
			f.wire.nodes = append(f.wire.nodes, &node{wire: f.wire, name: name, handlers: map[string]handler{}})
		}
		defer func() { // also when the test has failed: a bubble waits for all its goroutines
			for i := range f.hosts {
				f.stop(i)
			}
			time.Sleep(2 * time.Minute) // virtual: nothing may be left that wakes later
		}()
		for i := range f.hosts {
			f.start(i, mode)
		}
		fn(f)
	})
}

// vm adds a VM of one vCPU and 256 MiB to a host.
func (f *fleet) vm(host int, name string, demand func(time.Duration) float64) string {
	f.t.Helper()
	id := "id-" + name
	d := hypervisor.Domain{ID: id, Name: name, PID: 1, VCPUs: 1, MemoryMiB: 256, MaxMemoryMiB: 256}
	if err := f.world.AddVM(f.hosts[host].name, d, demand); err != nil {
		f.t.Fatal(err)
	}
	return id
}

func steady(cores float64) func(time.Duration) float64 {
	return func(time.Duration) float64 { return cores }
}

// start runs a new agent on what the host's last one has left.
func (f *fleet) start(i int, mode string) {
	f.t.Helper()
	m := f.hosts[i]
	cfg := config.Default()
	cfg.Agent.Mode = mode
	cfg.Libvirt.URI, cfg.Libvirt.MigrateURI = "sim", "sim://{host}"
	cfg.Forecast = config.Forecast{Step: config.Of(5 * time.Second), Horizon: 12, Warmup: 12, Settle: config.Of(0)}
	p := &cfg.Planner
	p.Round, p.Hold, p.Window, p.High, p.Low = config.Of(time.Second), 4, 6, 0.90, 0.75
	p.ReserveMemoryMiB, p.MinGain, p.MigrationCores, p.Bandwidth = 0, 0.5, 0.1, 150e6
	p.MaxJitter, p.VerdictAfter = config.Of(0), config.Of(time.Minute)
	cfg.Slots.Classes = []config.Class{{Name: "small", VCPU: 0.1, MemoryMiB: 128}, {Name: "medium", VCPU: 0.2, MemoryMiB: 128}, {Name: "large", VCPU: 0.4, MemoryMiB: 128}, {Name: "xlarge", VCPU: 0.6, MemoryMiB: 256}}
	a, err := New(Options{
		Config: cfg, ID: planner.HostID(m.name), Name: m.name, Version: "test", DriverName: "simulated", Simulated: true,
		Driver: m.driver, Sampler: &counters{driver: m.driver, broken: m.broken, begun: time.Now()}, Mesh: f.wire.nodes[i], Store: m.store,
		Journal: m.journal, Host: capacity{m.driver, m.broken}, Random: rand.New(rand.NewPCG(1, uint64(i))), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.world.SetHook(m.name, func(ctx context.Context, d hypervisor.Domain) error {
		return a.desk.Incoming(ctx, negotiate.PrepareCheck{VM: negotiate.VMID(d.ID), Source: negotiate.HostID(d.Metadata.From),
			Attempt: negotiate.Attempt(d.Metadata.Attempt), Lease: negotiate.LeaseID(d.Metadata.Lease)})
	})
	ctx, cancel := context.WithCancel(context.Background())
	m.Agent, m.cancel, m.done = a, cancel, make(chan error, 1)
	f.wire.up(i, true)
	go func() { m.done <- a.Run(ctx) }()
}

// stop ends a host's agent, if it has one, and waits for it; the host and its VMs go
// on.
func (f *fleet) stop(i int) {
	f.t.Helper()
	m := f.hosts[i]
	if m.cancel == nil {
		return
	}
	f.wire.up(i, false)
	m.cancel()
	m.cancel = nil
	if err := <-m.done; err != nil {
		f.t.Errorf("agent of %s: %v", m.name, err)
	}
}

// pass lets virtual time pass, in which no VM may run twice.
func (f *fleet) pass(d time.Duration, vms ...string) {
	f.t.Helper()
	f.until(d, "", func() bool { return false }, vms...)
}

// until waits for ok; with a name for it, it must come.
func (f *fleet) until(limit time.Duration, what string, ok func() bool, vms ...string) {
	f.t.Helper()
	for begun := time.Now(); time.Since(begun) < limit; {
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		for _, id := range vms {
			if r := f.world.Runners(id); len(r) > 1 {
				f.t.Fatalf("OneRunner: %s runs on %v", id, r)
			}
		}
		if ok() {
			return
		}
	}
	if what != "" {
		for _, m := range f.hosts {
			d, _ := m.Decisions(api.Query{Limit: 2})
			f.t.Logf("%s: not ready %v, held %q, decided %+v", m.name, m.Status().NotReady, m.held(), d)
		}
		f.t.Fatalf("not within %v: %s", limit, what)
	}
}

// on is where a VM runs.
func (f *fleet) on(id string) string { return strings.Join(f.world.Runners(id), " ") }

// fragile is what a test breaks of a host.
type fragile struct {
	mu             sync.Mutex
	host, counters error // guarded by mu
}

func (b *fragile) set(host, counters error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.host, b.counters = host, counters
}

func (b *fragile) errs() (host, counters error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.host, b.counters
}

// counters are the model's, in the shape of the real sampler's.
type counters struct {
	driver  *hypervisor.Sim
	broken  *fragile
	begun   time.Time
	targets []bpf.Target
}

func (c *counters) Tier() bpf.Tier                  { return "simulated" }
func (c *counters) Refused() []bpf.Refusal          { return nil }
func (c *counters) Cost() bpf.Cost                  { return bpf.Cost{} }
func (c *counters) Close() error                    { return nil }
func (c *counters) SetTargets(t []bpf.Target) error { c.targets = t; return nil }

func (c *counters) Sample(dst []bpf.Sample) ([]bpf.Sample, error) {
	if _, err := c.broken.errs(); err != nil {
		return dst, err
	}
	for _, t := range c.targets {
		used, waited, ok := c.driver.Counters(t.ID)
		dst = append(dst, bpf.Sample{ID: t.ID, PID: t.PID, At: time.Since(c.begun), VCPU: used, Wait: waited, VCPUWait: waited, Valid: ok})
	}
	return dst, nil
}

// capacity is the model's.
type capacity struct {
	driver *hypervisor.Sim
	broken *fragile
}

func (c capacity) Status() (host.Status, error) {
	err, _ := c.broken.errs()
	cores, memory := c.driver.Capacity()
	return host.Status{CPU: host.CPU{Online: 1, Cores: cores}, Memory: host.Memory{TotalMiB: memory, AvailableMiB: memory, CapacityMiB: memory}}, err
}

type handler = func(ctx context.Context, from mesh.HostID, body []byte) ([]byte, error)

// wire is a cluster's gossip and RPC without delay or loss.
type wire struct {
	mu    sync.Mutex
	nodes []*node
}

// node is a host's Mesh; everything but its names is guarded by the wire's mu.
type node struct {
	Mesh
	wire     *wire
	name     string
	alive    bool
	handlers map[string]handler
	tags     mesh.Tags
	digest   mesh.Digest
	told     time.Time
	subs     []chan mesh.Event
}

func (w *wire) up(i int, alive bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes[i].alive, w.nodes[i].subs = alive, nil
}

func (n *node) Self() mesh.HostID      { return mesh.HostID(n.name) }
func (n *node) Stable() (bool, string) { return true, "" }
func (n *node) HealthScore() int       { return 0 }
func (n *node) Stats() mesh.Stats      { return mesh.Stats{} }

func (n *node) Members() []mesh.Member {
	n.wire.mu.Lock()
	defer n.wire.mu.Unlock()
	var out []mesh.Member
	for _, o := range n.wire.nodes {
		m := mesh.Member{ID: o.Self(), Name: o.name, Addr: o.name + ":7946", Status: mesh.StatusFailed, Tags: o.tags}
		if o.alive {
			m.Status = mesh.StatusAlive
		}
		if !o.told.IsZero() {
			m.Digest, m.HasDigest, m.DigestAge = o.digest, true, time.Since(o.told)
		}
		out = append(out, m)
	}
	return out
}

func (n *node) PublishDigest(d mesh.Digest) (bool, error) {
	n.wire.mu.Lock()
	defer n.wire.mu.Unlock()
	n.digest, n.told = d, time.Now()
	return true, nil
}

func (n *node) SetTags(t mesh.Tags) error {
	n.wire.mu.Lock()
	defer n.wire.mu.Unlock()
	n.tags = t
	return nil
}

func (n *node) Announce(news mesh.News) error {
	n.wire.mu.Lock()
	defer n.wire.mu.Unlock()
	news.Host = n.Self()
	for _, o := range n.wire.nodes {
		for _, ch := range o.subs {
			ch <- mesh.Event{At: time.Now(), Kind: mesh.EventNews, Host: n.Self(), Name: n.name, Text: news.Kind, News: &news}
		}
	}
	return nil
}

func (n *node) Subscribe(buffer int) (<-chan mesh.Event, func()) {
	n.wire.mu.Lock()
	defer n.wire.mu.Unlock()
	ch := make(chan mesh.Event, buffer)
	n.subs = append(n.subs, ch)
	return ch, func() {}
}

func (n *node) Handle(method string, fn handler) {
	n.wire.mu.Lock()
	defer n.wire.mu.Unlock()
	n.handlers[method] = fn
}

func (n *node) Call(ctx context.Context, to mesh.HostID, method string, body []byte) ([]byte, error) {
	n.wire.mu.Lock()
	var fn handler
	for _, o := range n.wire.nodes {
		if o.Self() == to && o.alive && n.alive {
			fn = o.handlers[method]
		}
	}
	n.wire.mu.Unlock()
	if fn == nil {
		return nil, errors.New("unreachable")
	}
	return fn(ctx, n.Self(), body)
}
