package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"headroom/agent/api"
	"headroom/agent/handover"
	"headroom/agent/hypervisor"
	"headroom/planner"
	"headroom/planner/negotiate"
)

// Incoming answers libvirt's hook: may this VM come in?
func (a *Agent) Incoming(ctx context.Context, r api.IncomingRequest) (api.IncomingReply, error) {
	if r.VM == "" {
		return api.IncomingReply{}, fmt.Errorf("%w: no VM is named", api.ErrInvalid)
	}
	err := a.desk.Incoming(ctx, negotiate.PrepareCheck{VM: planner.VMID(r.VM), Source: planner.HostID(r.From),
		Attempt: planner.Attempt(r.Attempt), Lease: planner.LeaseID(r.Lease)})
	switch {
	case err == nil:
		return api.IncomingReply{Allow: true}, nil
	case errors.Is(err, handover.ErrRefused):
		a.event("incoming-refused", a.o.Name, r.Name, err.Error())
		return api.IncomingReply{Reason: err.Error()}, nil
	}
	return api.IncomingReply{}, fmt.Errorf("%w: %w", api.ErrConflict, err)
}

// orphanAfter is how long a hand-over may take to be decided before it is shown as
// waiting.
const orphanAfter = 5 * time.Second

// Orphans are the hand-overs on this host that are not decided, and VMs that stand
// still here under a stamp that no hand-over of this host's explains. Nothing is
// done about them: they wait for the other host, or for the operator.
func (a *Agent) Orphans() []api.Orphan {
	v := a.view.Load()
	known := map[string]bool{}
	var out []api.Orphan
	for _, o := range a.desk.Holdings().Open {
		known[string(o.VM)] = true
		if o.Waits < orphanAfter {
			continue
		}
		out = append(out, api.Orphan{VM: string(o.VM), Name: v.names[string(o.VM)], Role: string(o.Role), Peer: a.hostName(planner.HostID(o.Peer)),
			Attempt: uint64(o.Attempt), State: o.State, Here: o.Here, WaitsS: o.Waits.Seconds(), Advice: o.Advice})
	}
	for i := range v.strays {
		if s := v.strays[i]; !known[s.VM] {
			s.Peer = a.hostName(planner.HostID(s.Peer))
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b api.Orphan) int { return strings.Compare(a.Name+a.VM, b.Name+b.VM) })
	return out
}

// strays are the stopped VMs with the stamp of a hand-over; which of them the desk
// knows, it knows better.
func (l *loop) strays() []api.Orphan {
	var out []api.Orphan
	for _, v := range l.vms {
		m := v.dom.Metadata
		if v.dom.State != hypervisor.Paused || v.dom.Incoming || m.Lease == "" {
			continue
		}
		out = append(out, api.Orphan{VM: v.dom.ID, Name: v.dom.Name, Role: "unknown", Peer: m.From, Attempt: m.Attempt, State: "no record", Here: string(v.dom.State),
			Advice: "this agent has no record of the hand-over: find out whether the VM runs at its source, then virsh resume or virsh destroy it"})
	}
	return out
}

// Override forces a decision about a hand-over on an operator's word. What it means
// depends on the side: at the destination resume makes the copy the VM, at the
// source it keeps the VM; destroy is the other way round; close stops telling a host
// that is gone for good.
func (a *Agent) Override(ctx context.Context, name string, r api.OverrideRequest) error {
	if r.By == "" || r.Evidence == "" {
		return fmt.Errorf("%w: an override needs a name and the evidence that the other host does not run the VM", api.ErrInvalid)
	}
	v := a.view.Load()
	id := name
	for _, o := range a.Orphans() {
		if o.Name == name || o.VM == name {
			id = o.VM
		}
	}
	if vm, ok := v.names[name]; ok && id == name && v.names[vm] == name {
		if _, isID := v.byVM[vm]; isID {
			id = vm
		}
	}
	err := a.desk.Override(ctx, negotiate.VMID(id), handover.Action(r.Action), r.By, r.Evidence)
	switch {
	case err == nil:
		a.event("override", a.o.Name, id, fmt.Sprintf("%s forced %s of %s: %s", r.By, r.Action, name, r.Evidence))
		return nil
	case errors.Is(err, handover.ErrNothingOpen):
		return fmt.Errorf("VM %q: %w: %w; `headroom orphans` lists what waits", name, api.ErrNotFound, err)
	case errors.Is(err, handover.ErrNoAction):
		return fmt.Errorf("%w: %w", api.ErrInvalid, err)
	}
	return fmt.Errorf("VM %s: %w: %w", name, api.ErrConflict, err)
}
