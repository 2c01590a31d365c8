package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"headroom/tests/cluster"
	"headroom/tests/lab"
)

// labStage plays on real hypervisors.
type labStage struct {
	bin     string
	name    string
	cluster *cluster.Cluster
	up      bool
}

func newLabStage(bin string) *labStage {
	return &labStage{bin: bin, name: fmt.Sprintf("demo%d", os.Getpid())}
}

func (s *labStage) simulated() bool { return false }

func (s *labStage) open(ctx context.Context, say func(string)) error {
	say(fmt.Sprintf("starting %d hypervisors: namespaces, libvirtd, guest image", hosts))
	s.up = true
	l, err := lab.Up(ctx, lab.Options{Name: s.name, Hosts: hosts, Quota: quota})
	if err != nil {
		return fmt.Errorf("start the lab: %w", err)
	}
	say("making the cluster's certificates and key")
	s.cluster, err = cluster.New(ctx, l, s.bin)
	return err
}

func (s *labStage) begin(ctx context.Context, mode string, say func(string)) error {
	say("starting the agents, mode " + mode)
	if err := s.cluster.Configure(mode, nil); err != nil {
		return err
	}
	if err := s.cluster.Start(ctx); err != nil {
		return err
	}
	for _, g := range guests {
		say(fmt.Sprintf("booting %s on h%d: %s", g.name, g.host, g.demand))
		if _, err := s.cluster.Lab.CreateVM(ctx, s.cluster.Lab.Host(g.host), lab.VMOptions{Name: g.name, Demand: g.demand}); err != nil {
			return fmt.Errorf("boot %s: %w", g.name, err)
		}
	}
	return nil
}

func (s *labStage) agents() []source {
	out := make([]source, len(s.cluster.Nodes))
	for i, n := range s.cluster.Nodes {
		out[i] = n.Client
	}
	return out
}

func (s *labStage) work() ([]guestWork, error) {
	var out []guestWork
	for _, g := range guests {
		p, err := s.cluster.Lab.Progress(g.name)
		if err != nil {
			return nil, fmt.Errorf("progress of %s: %w", g.name, err)
		}
		out = append(out, guestWork{name: g.name, demanded: p.WallDemanded, done: p.Done, lost: p.WallLost, works: p.Live})
	}
	return out, nil
}

// autopsy asks each host for the state of the guest, and for the last words of
// QEMU and of the guest's kernel.
func (s *labStage) autopsy(ctx context.Context, guest string) string {
	var found []string
	for _, h := range s.cluster.Lab.Hosts() {
		state, err := h.Virsh(ctx, "domstate", "--reason", guest)
		if err != nil {
			continue // the guest is not defined there
		}
		text := h.Name() + " says " + strings.TrimSpace(state)
		for who, log := range map[string]string{"QEMU": "qemu", "the guest": "console"} {
			b, err := os.ReadFile(h.Outside("/var/log/libvirt/" + log + "/" + guest + ".log"))
			if lines := strings.Split(strings.TrimSpace(string(b)), "\n"); err == nil {
				text += "; " + who + ": " + strings.Join(lines[max(0, len(lines)-5):], " | ")
			}
		}
		found = append(found, text)
	}
	if len(found) == 0 {
		return "no host knows it"
	}
	return strings.Join(found, "; ")
}

// end stops the agents before the guests, so that no agent moves a VM that is
// being destroyed.
func (s *labStage) end() error {
	errs := []error{s.cluster.Stop()}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, g := range guests {
		wg.Go(func() {
			err := s.cluster.Lab.DestroyVM(context.Background(), g.name)
			if errors.Is(err, lab.ErrNotFound) {
				return // the story was interrupted before it was made
			}
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	wg.Wait()
	return errors.Join(append(errs, s.cluster.Forget())...)
}

func (s *labStage) close() error {
	if !s.up {
		return nil
	}
	return lab.Down(context.Background(), s.name)
}
