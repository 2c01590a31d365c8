package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"headroom/agent/api"
	"headroom/agent/hypervisor"
	"headroom/tests/cluster"
	"headroom/tests/lab"
	"headroom/tests/model"
)

// guestName is the VM that is moved to and fro.
const guestName = "app"

// Settings are the agents' for the trials: a copy of some seconds, agents that may
// plan soon after a restart, and leases short enough to see them expire.
func Settings() map[string]string {
	return map[string]string{
		"handover.bandwidth_mibs": "24", "handover.lease": `"10s"`,
		"sampling.window": `"250ms"`, "forecast.step": `"1s"`, "forecast.warmup": "3", "forecast.settle": `"0s"`,
		"mesh.view_stable": `"0s"`,
		"agent.log_level":  `"debug"`, "agent.log_format": `"json"`, // for Steps
	}
}

// Steps holds the steps of all hand-overs that the agents have logged since the lab
// came up against the protocol's table, and returns how many they are.
func (r *Rig) Steps() (int, error) {
	var logs [][]byte
	for _, n := range r.cluster.Nodes {
		b, err := os.ReadFile(n.Log())
		if err != nil {
			return 0, fmt.Errorf("steps of the agents: %w", err)
		}
		logs = append(logs, b)
	}
	return model.ReadLogs(logs...)
}

// Rig is a lab with agents, watched from outside. Make it with New.
type Rig struct {
	lab     *lab.Lab
	cluster *cluster.Cluster
	sides   [2]*side
	uuid    string // of the guest
}

// side is one of the two hosts.
type side struct {
	host   *lab.Host
	node   *cluster.Node
	driver *hypervisor.Libvirt
	events chan hypervisor.Event // of the guest, as they come
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

// New watches the first two hosts of a cluster whose agents run.
func New(ctx context.Context, c *cluster.Cluster) (*Rig, error) {
	r := &Rig{lab: c.Lab, cluster: c}
	for i := range r.sides {
		s, err := watch(ctx, c.Nodes[i])
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		r.sides[i] = s
	}
	return r, nil
}

func watch(ctx context.Context, n *cluster.Node) (*side, error) {
	uri := "qemu+unix:///system?socket=" + n.Host.Outside("/run/libvirt/libvirt-sock")
	d, err := hypervisor.Open(ctx, hypervisor.Options{URI: uri, Timeout: 2 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("watch libvirt of %s: %w", n.Host.Name(), err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &side{host: n.Host, node: n, driver: d, events: make(chan hypervisor.Event, 256), stop: cancel}
	s.wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case ev := <-d.Events():
				select {
				case s.events <- ev:
				default: // nobody looks between the trials
				}
			}
		}
	})
	return s, nil
}

// Close ends the watching; lab and agents stay.
func (r *Rig) Close() error {
	var errs []error
	for _, s := range r.sides {
		if s != nil {
			s.stop()
			s.wg.Wait()
			errs = append(errs, s.driver.Close())
		}
	}
	return errors.Join(errs...)
}

// forget empties the events of earlier trials.
func (s *side) forget() {
	for {
		select {
		case <-s.events:
		default:
			return
		}
	}
}

// fresh removes the guest everywhere and boots it anew on the first host.
func (r *Rig) fresh(ctx context.Context) error {
	if err := r.remove(ctx); err != nil {
		return err
	}
	vm, err := r.lab.CreateVM(ctx, r.sides[0].host, lab.VMOptions{Name: guestName, Demand: "constant:0.05"})
	if err != nil {
		return fmt.Errorf("boot the guest: %w", err)
	}
	r.uuid = vm.UUID
	return nil
}

// remove destroys the guest, also one that migrates or that libvirt lost.
func (r *Rig) remove(ctx context.Context) error {
	for _, s := range r.sides {
		if err := r.lab.KillVM(ctx, s.host, guestName); err != nil {
			return err
		}
	}
	err := r.lab.DestroyVM(ctx, guestName)
	if err == nil || errors.Is(err, lab.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	// A libvirt that still holds a job for it lets go with its process alone.
	if err := r.restartLibvirtd(ctx); err != nil {
		return err
	}
	if err := r.lab.DestroyVM(ctx, guestName); !errors.Is(err, lab.ErrNotFound) && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (r *Rig) restartLibvirtd(ctx context.Context) error {
	for _, s := range r.sides {
		if err := errors.Join(r.lab.KillLibvirtd(ctx, s.host), s.host.StartLibvirtd(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// locate finds the host on which the guest runs, and the other one; a guest that is
// not running exactly once, or that does not work, is made anew.
func (r *Rig) locate(ctx context.Context) (from, to *side, err error) {
	if r.uuid != "" {
		if on := r.runners(ctx); len(on) == 1 {
			if where, err := r.lab.Where(guestName); err == nil && len(where) == 1 && r.works(ctx) {
				return on[0], r.other(on[0]), nil
			}
		}
	}
	if err := r.fresh(ctx); err != nil {
		return nil, nil, err
	}
	return r.sides[0], r.sides[1], nil
}

func (r *Rig) other(s *side) *side {
	if s == r.sides[0] {
		return r.sides[1]
	}
	return r.sides[0]
}

// runners are the hosts whose libvirt says now that the guest runs.
func (r *Rig) runners(ctx context.Context) []*side {
	var on []*side
	for _, s := range r.sides {
		if r.state(ctx, s) == hypervisor.Running {
			on = append(on, s)
		}
	}
	return on
}

// state is the guest's as the host's libvirt says; NoState when it is not there or
// libvirt does not answer.
func (r *Rig) state(ctx context.Context, s *side) hypervisor.State {
	d, ok, err := s.driver.Lookup(ctx, r.uuid)
	if err != nil || !ok {
		return hypervisor.NoState
	}
	return d.State
}

// works waits a little for the guest's next report.
func (r *Rig) works(ctx context.Context) bool {
	before, err := r.lab.Progress(guestName)
	if err != nil {
		return false
	}
	return until(ctx, 5*time.Second, func() bool {
		p, err := r.lab.Progress(guestName)
		return err == nil && p.Reports > before.Reports
	})
}

// ready waits until both agents may plan, know the guest and see each other.
func (r *Rig) ready(ctx context.Context, from *side) error {
	ok := until(ctx, 90*time.Second, func() bool {
		for _, s := range r.sides {
			st, err := s.node.Client.Status(ctx)
			if err != nil || !st.Ready || st.Mesh.Alive < len(r.cluster.Nodes) || st.Host.Held+st.Host.Incoming > 0 {
				return false
			}
		}
		vms, err := from.node.Client.VMs(ctx)
		return err == nil && len(vms) == 1 && vms[0].Measured && vms[0].Busy == "" && vms[0].PeakP90Cores != nil
	})
	if !ok {
		return errors.New("the agents did not become ready")
	}
	return nil
}

// until polls fn every 50 ms, at most for limit.
func until(ctx context.Context, limit time.Duration, fn func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !fn() {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// last is the newest attempt that the host's agent knows.
func last(ctx context.Context, s *side) (api.Migration, bool) {
	list, err := s.node.Client.Migrations(ctx, api.Query{Limit: 1})
	if err != nil || len(list) == 0 {
		return api.Migration{}, false
	}
	return list[0], true
}
