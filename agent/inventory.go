package agent

import (
	"context"
	"fmt"
	"time"

	"headroom/agent/host"
	"headroom/agent/hypervisor"
)

// inventory is one look at what libvirt and the host say.
type inventory struct {
	at      time.Time // when the look began
	domains []hypervisor.Domain
	memory  map[string]hypervisor.MemoryStats
	info    hypervisor.HostInfo
	host    host.Status
	// err says why domains are not known; hostErr why the host's capacity is not.
	err, hostErr error
}

// inventoryEvery is how often domains are listed when no event asks for it.
const inventoryEvery = 5 * time.Second

// staleInventory is the age from which a list of domains is not planned with: a
// hypervisor that hangs in a call leaves the last list standing.
const staleInventory = 6 * inventoryEvery

// takeInventory lists domains until ctx ends: at once when libvirt says that
// one changed, and every few seconds. The latest list replaces one that the
// loop has not taken yet.
func (a *Agent) takeInventory(ctx context.Context, out chan inventory) error {
	tick := time.NewTicker(inventoryEvery)
	defer tick.Stop()
	for {
		inv := a.look(ctx)
		select { // the newest look is the one that counts
		case <-out:
		default:
		}
		select {
		case out <- inv:
		case <-ctx.Done():
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case ev := <-a.o.Driver.Events():
			a.domainEvent(ev)
			a.drainEvents()
		case <-a.lookNow:
		}
	}
}

// drainEvents takes what else is waiting, so that a burst costs one look.
func (a *Agent) drainEvents() {
	for {
		select {
		case ev := <-a.o.Driver.Events():
			a.domainEvent(ev)
		default:
			return
		}
	}
}

func (a *Agent) domainEvent(ev hypervisor.Event) {
	a.desk.Watch(ev)
	a.event("domain", "", ev.ID, ev.String())
}

func (a *Agent) look(ctx context.Context) inventory {
	inv := inventory{at: time.Now()}
	inv.host, inv.hostErr = a.o.Host.Status()
	if ok, err := a.o.Driver.Connected(); !ok {
		inv.err = fmt.Errorf("the hypervisor does not answer: %w", err)
		return inv
	}
	if inv.domains, inv.err = a.o.Driver.Domains(ctx); inv.err != nil {
		return inv
	}
	if inv.info, inv.err = a.o.Driver.HostInfo(ctx); inv.err != nil {
		return inv
	}
	// Balloon statistics are wanted and not needed: a hung domain must not make
	// the host unmeasured.
	inv.memory, _ = a.o.Driver.Memory(ctx)
	a.followMoves(ctx)
	return inv
}

// followMoves notes how far the copies of leaving VMs are, for the operator. A
// copy that has just ended has no progress any more.
func (a *Agent) followMoves(ctx context.Context) {
	for _, id := range a.desk.Holdings().Outgoing {
		p, err := a.o.Driver.Progress(ctx, string(id))
		if err != nil || !p.Active {
			continue
		}
		if percent, ok := p.Percent(); ok {
			a.moves.progress(string(id), percent)
		}
	}
}
