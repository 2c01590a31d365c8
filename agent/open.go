package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"

	"headroom/agent/api"
	"headroom/agent/config"
	"headroom/agent/history"
	"headroom/agent/host"
	"headroom/agent/hypervisor"
	"headroom/bpf"
	"headroom/mesh"
	"headroom/planner"
)

// opener collects what has been opened, to be closed in reverse.
type opener struct {
	closers []func() error
}

func (o *opener) add(c func() error) { o.closers = append(o.closers, c) }

// close closes everything, newest first, and joins the errors to err.
func (o *opener) close(err error) error {
	for i := len(o.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, o.closers[i]())
	}
	o.closers = nil
	return err
}

// Open builds an agent on the real hypervisor, kernel, store and mesh of a
// checked configuration. The function it returns closes them after Run, and
// passes its argument on. What is missing on the host is an error that says how
// to mend it.
func Open(ctx context.Context, cfg config.Config, version string, log *slog.Logger) (*Agent, func(error) error, error) {
	var o opener
	opts, err := open(ctx, &o, cfg, log)
	if err != nil {
		return nil, nil, o.close(err)
	}
	opts.Version = version
	a, err := New(opts)
	if err != nil {
		return nil, nil, o.close(err)
	}
	return a, o.close, nil
}

func open(ctx context.Context, o *opener, cfg config.Config, log *slog.Logger) (Options, error) {
	if cfg.Libvirt.URI == "sim" {
		return Options{}, fmt.Errorf("libvirt.uri \"sim\": the simulated hypervisor lives in one process with its peers; run `make demo` to see it, or name a libvirt URI")
	}
	id, err := machineID()
	if err != nil {
		return Options{}, err
	}
	opts := Options{Config: cfg, ID: id, Name: cfg.Mesh.Name, DriverName: "libvirt", Logger: log,
		Random: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))}
	if opts.Name == "" {
		if opts.Name, err = os.Hostname(); err != nil {
			return Options{}, fmt.Errorf("name of this host: %w; set mesh.name", err)
		}
	}
	opts.Host = host.New(host.Options{MachineCgroup: cfg.Libvirt.MachineCgroup, DataDir: cfg.Agent.DataDir})
	for _, step := range []func(context.Context, *opener, *Options) error{
		openStore, openSampler, openDriver, openMesh, openListeners,
	} {
		if err := step(ctx, o, &opts); err != nil {
			return Options{}, err
		}
	}
	return opts, nil
}

// machineID is the host's identity: stable, and not shared by cloned names.
func machineID() (planner.HostID, error) {
	b, err := os.ReadFile("/etc/machine-id")
	id := strings.TrimSpace(string(b))
	if err != nil || len(id) != 32 {
		return "", fmt.Errorf("/etc/machine-id holds no machine id (%q, %v): run systemd-machine-id-setup", id, err)
	}
	return planner.HostID(id), nil
}

func openStore(_ context.Context, o *opener, opts *Options) error {
	cfg := opts.Config
	if err := os.MkdirAll(cfg.Agent.DataDir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w; set agent.data_dir", err)
	}
	ho := history.Options{Dir: filepath.Join(cfg.Agent.DataDir, "history"), Logger: opts.Logger.With("part", "history"),
		MinFree: int64(cfg.History.MinFree) << 20, KeepRecords: cfg.History.KeepRecords.Duration, MaxRecords: cfg.History.MaxRecords}
	for _, t := range cfg.History.Tiers {
		ho.Tiers = append(ho.Tiers, history.Tier{Step: t.Step.Duration, Keep: t.Keep.Duration})
	}
	store, err := history.Open(ho)
	if err != nil {
		return fmt.Errorf("open history: %w", err)
	}
	o.add(store.Close)
	journal, err := history.OpenJournal(filepath.Join(cfg.Agent.DataDir, "journal"))
	if err != nil {
		return fmt.Errorf("open the negotiation journal: %w", err)
	}
	o.add(journal.Close)
	opts.Store, opts.Journal = store, journal
	return nil
}

func openSampler(_ context.Context, o *opener, opts *Options) error {
	so := bpf.Options{MaxTargets: opts.Config.Sampling.MaxVMs}
	for _, t := range opts.Config.Sampling.Tiers {
		so.Tiers = append(so.Tiers, bpf.Tier(t))
	}
	sampler, err := bpf.Open(so)
	if err != nil {
		return fmt.Errorf("open the sampler: %w; run `headroom doctor`", err)
	}
	o.add(sampler.Close)
	opts.Sampler = sampler
	links, err := bpf.OpenLinks(so)
	if err != nil {
		opts.Logger.Warn("network rates are absent", "err", err)
		return nil
	}
	o.add(links.Close)
	opts.Links = links
	return nil
}

func openDriver(ctx context.Context, o *opener, opts *Options) error {
	driver, err := hypervisor.Open(ctx, hypervisor.Options{URI: opts.Config.Libvirt.URI,
		Timeout: opts.Config.Libvirt.Timeout.Duration, SharedPaths: opts.Config.Libvirt.SharedPaths, Logger: opts.Logger.With("part", "hypervisor")})
	if err != nil {
		return fmt.Errorf("open the hypervisor: %w", err)
	}
	o.add(driver.Close)
	opts.Driver = driver
	return nil
}

func openMesh(ctx context.Context, o *opener, opts *Options) error {
	m := opts.Config.Mesh
	if !m.Enabled() {
		opts.Logger.Warn("this host stands alone: it observes and advises, and moves nothing; set mesh.bind")
		return nil
	}
	key, err := mesh.LoadKey(m.KeyFile)
	if err != nil {
		return err
	}
	node, err := mesh.Start(ctx, mesh.Config{
		Cluster: m.Cluster, ID: mesh.HostID(opts.ID), Name: opts.Name, Bind: m.Bind, RPCBind: m.RPCAddress(), Advertise: m.Advertise,
		Join: m.Join, Key: key, SnapshotPath: filepath.Join(opts.Config.Agent.DataDir, "serf.snapshot"),
		CAFile: m.CAFile, CertFile: m.CertFile, KeyFile: m.TLSKeyFile, ViewStable: m.ViewStable.Duration,
		Tags: mesh.Tags{Zone: m.Zone}, Logger: opts.Logger.With("part", "mesh"),
	})
	if err != nil {
		return fmt.Errorf("join the mesh: %w", err)
	}
	o.add(node.Close)
	opts.Mesh = node
	return nil
}

func openListeners(_ context.Context, o *opener, opts *Options) error {
	cfg := opts.Config
	if err := os.MkdirAll(filepath.Dir(cfg.Agent.Socket), 0o755); err != nil {
		return fmt.Errorf("directory of the socket: %w", err)
	}
	l, err := api.Listen(cfg.Agent.Socket, cfg.Agent.SocketGroup)
	if err != nil {
		return err
	}
	o.add(ignoreClosed(l))
	opts.Listener = l
	if cfg.Metrics.Listen == "" {
		return nil
	}
	if opts.MetricsListener, err = net.Listen("tcp", cfg.Metrics.Listen); err != nil {
		return fmt.Errorf("listen for metrics: %w; set metrics.listen", err)
	}
	o.add(ignoreClosed(opts.MetricsListener))
	return nil
}

// ignoreClosed closes a listener that its server may have closed already.
func ignoreClosed(l net.Listener) func() error {
	return func() error {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}
