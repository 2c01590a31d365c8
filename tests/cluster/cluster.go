// Package cluster runs real agents on the hosts of a lab: it makes the
// cluster's keys and certificates with the program's own commands, writes each
// host's configuration, and starts, stops and kills the agents. The demo and the
// end-to-end tests are written on it.
//
// Everything goes through the built binary, as an operator would use it; the
// package imports the lab and the socket's client, and nothing else of the
// agent. Each agent's process is owned by its Node: Stop or Kill waits for it.
// The processes live in the lab's cgroups, so that taking the lab down ends
// them too.
package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"headroom/agent/api"
	"headroom/tests/lab"
)

// Name is the name of the clusters that are made here.
const Name = "demo"

// Cluster is a lab with an agent on every host.
type Cluster struct {
	Lab   *lab.Lab
	Nodes []*Node
	bin   string
	pki   string // folder of the CA and the gossip key
}

// Node is one host's agent.
type Node struct {
	Host   *lab.Host
	Client *api.Client
	dir    string
	bin    string

	mu   sync.Mutex
	cmd  *exec.Cmd     // nil when not running; guarded by mu
	done chan struct{} // closed when cmd has ended; guarded by mu
}

// New makes keys and certificates for every host of l, and installs libvirt's hook
// there. bin is the headroom binary.
func New(ctx context.Context, l *lab.Lab, bin string) (*Cluster, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, fmt.Errorf("binary: %w", err)
	}
	c := &Cluster{Lab: l, bin: bin, pki: filepath.Join(l.Host(0).Dir(), "pki")}
	if err := run(ctx, bin, "cert", "ca", "--dir", c.pki, "--cluster", Name); err != nil {
		return nil, err
	}
	if err := run(ctx, bin, "cert", "key", "--out", filepath.Join(c.pki, "gossip.key")); err != nil {
		return nil, err
	}
	for _, h := range l.Hosts() {
		n, err := c.node(ctx, h)
		if err != nil {
			return nil, err
		}
		c.Nodes = append(c.Nodes, n)
	}
	if err := c.Configure("advise", nil); err != nil {
		return nil, err
	}
	return c, c.each(func(n *Node) error { return n.installHook(ctx, l) })
}

// installHook gives the host's libvirt headroom's hook, as an operator would, with
// the restart that the first one takes. The hook asks the agent of the moment, or
// finds it dead.
func (n *Node) installHook(ctx context.Context, l *lab.Lab) error {
	out, err := n.Headroom(ctx, "hook", "install", "--config", n.config(), "--json")
	if err != nil {
		return err
	}
	var r struct {
		Restart bool `json:"restart_libvirtd"`
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return fmt.Errorf("hook install printed %q: %w", out, err)
	}
	if !r.Restart {
		return nil
	}
	return errors.Join(l.KillLibvirtd(ctx, n.Host), n.Host.StartLibvirtd(ctx))
}

func (c *Cluster) node(ctx context.Context, h *lab.Host) (*Node, error) {
	dir := filepath.Join(h.Dir(), "agent")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("agent folder: %w", err)
	}
	if err := run(ctx, c.bin, "cert", "host", "--dir", c.pki, "--out", dir, "--id", h.MachineID(), "--name", h.Name(), "--ip", h.Addr()); err != nil {
		return nil, err
	}
	for _, name := range []string{"gossip.key", "ca.pem"} {
		b, err := os.ReadFile(filepath.Join(c.pki, name))
		if err != nil {
			return nil, fmt.Errorf("copy %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return nil, fmt.Errorf("copy %s: %w", name, err)
		}
	}
	return &Node{Host: h, dir: dir, bin: c.bin, Client: api.NewClient(filepath.Join(dir, "s"))}, nil
}

func run(ctx context.Context, bin string, args ...string) error {
	if out, err := exec.CommandContext(ctx, bin, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("headroom %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// Dir is the folder with the agent's configuration, log and data.
func (n *Node) Dir() string { return n.dir }

// Log is the path of the agent's log.
func (n *Node) Log() string { return filepath.Join(n.dir, "agent.log") }

// Configure writes the configuration of every agent: the lab's timing, which
// foresees a minute and decides every two seconds, in the given mode. Extra
// lines replace those of the same section and key.
func (c *Cluster) Configure(mode string, extra map[string]string) error {
	join := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		join[i] = fmt.Sprintf("%q", n.Host.Addr()+":7946")
	}
	for _, n := range c.Nodes {
		text := render(n.settings(mode, strings.Join(join, ", ")), extra)
		if err := os.WriteFile(n.config(), []byte(text), 0o600); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
	}
	return nil
}

func (n *Node) config() string { return filepath.Join(n.dir, "headroom.toml") }

// Start starts the agent and returns when its socket answers.
func (n *Node) Start(ctx context.Context) error { return n.StartUnder(ctx) }

// StartUnder is Start with the agent as the last arguments of another command,
// such as setpriv.
func (n *Node) StartUnder(ctx context.Context, command ...string) error {
	log, err := os.OpenFile(n.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("agent log: %w", err)
	}
	defer log.Close()
	cmd := n.Host.Command(context.WithoutCancel(ctx), append(slices.Clone(command), n.bin, "agent", "--config", n.config())...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the agent of %s: %w", n.Host.Name(), err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended stands in its log
		close(done)
	}()
	n.mu.Lock()
	n.cmd, n.done = cmd, done
	n.mu.Unlock()
	return n.await(ctx, done)
}

// startLimit is how long an agent may take until its socket answers.
const startLimit = 20 * time.Second

func (n *Node) await(ctx context.Context, done <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := n.Client.Status(ctx); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-done:
			return fmt.Errorf("the agent of %s ended at once: %s", n.Host.Name(), n.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("the agent of %s does not answer: %w: %s", n.Host.Name(), ctx.Err(), n.lastWords())
		}
	}
}

// lastWords are the last lines of the agent's log.
func (n *Node) lastWords() string {
	b, err := os.ReadFile(n.Log())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// Stop ends the agent as systemd would, and waits for it; it reports how long
// that took. Stopping an agent that does not run is no error.
func (n *Node) Stop() (time.Duration, error) { return n.signal(syscall.SIGTERM) }

// Kill ends the agent with kill -9 and waits for it.
func (n *Node) Kill() error {
	_, err := n.signal(syscall.SIGKILL)
	return err
}

func (n *Node) signal(s syscall.Signal) (time.Duration, error) {
	n.mu.Lock()
	cmd, done := n.cmd, n.done
	n.cmd = nil
	n.mu.Unlock()
	if cmd == nil {
		return 0, nil
	}
	begun := time.Now()
	if err := cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return 0, fmt.Errorf("signal the agent of %s: %w", n.Host.Name(), err)
	}
	select {
	case <-done:
		return time.Since(begun), nil
	case <-time.After(startLimit):
		_ = cmd.Process.Kill() // it may have ended meanwhile
		<-done
		return time.Since(begun), fmt.Errorf("the agent of %s did not stop on %v within %v", n.Host.Name(), s, startLimit)
	}
}

// Start starts every agent.
func (c *Cluster) Start(ctx context.Context) error {
	return c.each(func(n *Node) error { return n.Start(ctx) })
}

// Stop stops every agent.
func (c *Cluster) Stop() error {
	return c.each(func(n *Node) error {
		_, err := n.Stop()
		return err
	})
}

// each runs fn for all nodes side by side and joins the errors.
func (c *Cluster) each(fn func(*Node) error) error {
	errs := make([]error, len(c.Nodes))
	var wg sync.WaitGroup
	for i, n := range c.Nodes {
		wg.Go(func() { errs[i] = fn(n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Forget removes what the agents have learned and journalled, for a run that
// must not know of an earlier one. The agents must be stopped.
func (c *Cluster) Forget() error {
	return c.each(func(n *Node) error { return os.RemoveAll(filepath.Join(n.dir, "data")) })
}

// Node finds a node by its host's name.
func (c *Cluster) Node(name string) (*Node, error) {
	for _, n := range c.Nodes {
		if n.Host.Name() == name {
			return n, nil
		}
	}
	return nil, fmt.Errorf("host %q: %w", name, lab.ErrNotFound)
}

// Headroom runs a client command against the node's agent and returns what it
// printed; stderr is in the error.
func (n *Node) Headroom(ctx context.Context, args ...string) (string, error) {
	cmd := n.Host.Command(ctx, append([]string{n.bin, "--socket", filepath.Join(n.dir, "s")}, args...)...)
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("headroom %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errOut.String()))
	}
	return string(out), nil
}
