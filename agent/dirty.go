package agent

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"headroom/agent/api"
	"headroom/agent/history"
	"headroom/agent/hypervisor"
)

const (
	// dirtyEvery is how often a VM's dirty rate is measured at most: QEMU reads
	// samples of its memory for a second.
	dirtyEvery = 5 * time.Minute
	// dirtyTurn is the time between two VMs, so that at most one is measured at
	// a time.
	dirtyTurn = 5 * time.Second
)

// dirtyRate is a measured dirty rate, in bytes/s.
type dirtyRate struct {
	vm   string
	at   time.Time
	rate float64
}

// measureDirty measures the VMs' dirty rates, one VM at a time, until ctx ends.
// It has its goroutine to itself: a hung domain delays other VMs' dirty rates by
// libvirt's time-out, and nothing else.
func (a *Agent) measureDirty(ctx context.Context) error {
	tick := time.NewTicker(dirtyTurn)
	defer tick.Stop()
	asked := map[string]time.Time{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		vms := a.view.Load().vms
		forgetGone(asked, vms)
		id := nextDirty(vms, a.moving(), asked, time.Now())
		if id == "" {
			continue
		}
		asked[id] = time.Now() // also when it fails: a hung VM waits its turn
		rate, err := a.o.Driver.DirtyRate(ctx, id)
		if err != nil {
			if !errors.Is(err, hypervisor.ErrJobActive) {
				a.log.Debug("dirty rate not measured", "vm", id, "err", err)
			}
			continue
		}
		select {
		case a.dirty <- dirtyRate{vm: id, at: time.Now(), rate: rate}:
		case <-ctx.Done():
			return nil
		}
	}
}

// moving lists the VMs on their way out of this host or into it.
func (a *Agent) moving() []string {
	h := a.desk.Holdings()
	var ids []string
	for _, id := range h.Outgoing {
		ids = append(ids, string(id))
	}
	for _, l := range h.Leases {
		ids = append(ids, string(l.VM))
	}
	return ids
}

// nextDirty chooses the VM whose dirty rate is the oldest: one that runs, is not
// moving, has no job, and was not asked within dirtyEvery. It is "" for none.
func nextDirty(vms []api.VM, moving []string, asked map[string]time.Time, now time.Time) string {
	id, oldest := "", now.Add(-dirtyEvery)
	for i := range vms {
		v := &vms[i]
		if v.State != string(hypervisor.Running) || v.Job != "" || slices.Contains(moving, v.ID) {
			continue
		}
		if at := asked[v.ID]; !at.After(oldest) {
			id, oldest = v.ID, at.Add(-1)
		}
	}
	return id
}

func forgetGone(asked map[string]time.Time, vms []api.VM) {
	for id := range asked {
		if !slices.ContainsFunc(vms, func(v api.VM) bool { return v.ID == id }) {
			delete(asked, id)
		}
	}
}

// dirtied takes a measured dirty rate. One that was measured into the beginning
// of a move is the VM's all the same.
func (l *loop) dirtied(d dirtyRate) {
	v := l.vms[d.vm]
	if v == nil || math.IsNaN(d.rate) || d.rate < 0 {
		return
	}
	v.dirty = d.rate
	if err := l.a.o.Store.Append(d.at, history.Key{VM: d.vm, Signal: history.DirtyRate}, d.rate); err != nil {
		l.a.log.Debug("dirty rate not kept", "vm", v.dom.Name, "err", err)
	}
}
