package handover

import (
	"context"
	"errors"
	"fmt"

	"headroom/planner/negotiate"
)

// ErrRefused means that a VM must not come in by migration; the text says why.
var ErrRefused = errors.New("incoming migration refused")

// Incoming answers libvirt's hook at «migrate begin»: nil lets the VM in, and its
// arrival is durable then. An error that wraps ErrRefused is the answer no; any
// other says that there is none, which the hook takes for no. libvirt waits for the
// answer, so nothing is asked of libvirt.
func (d *Desk) Incoming(ctx context.Context, p negotiate.PrepareCheck) error {
	return d.request(ctx, item{vm: p.VM, dst: p})
}

// prepare judges one PrepareCheck: by the book where it carries a lease, and by the
// policy for moves by hand where it does not.
func (d *Desk) prepare(ctx context.Context, p negotiate.PrepareCheck) error {
	if p.Lease == "" {
		return d.byHand(p)
	}
	effects, err := d.advance(ctx, p.VM, p)
	if err != nil {
		return err
	}
	for _, e := range effects {
		if no, ok := e.(negotiate.RefusePrepare); ok {
			return d.refused(p.VM, no.Reason)
		}
	}
	return nil
}

// byHand judges a VM that comes in without a lease. An attempt that was given up
// may have left a migration behind that libvirt had accepted and not begun. It
// carries that attempt's number, and the host that it was meant for keeps it out.
func (d *Desk) byHand(p negotiate.PrepareCheck) error {
	e, known := d.dest.Entry(p.VM)
	ok, why := d.dest.MayMove(p.VM)
	switch {
	case !ok:
		return d.refused(p.VM, why)
	case d.sources[p.VM].Busy():
		return d.refused(p.VM, "this host is still handing the VM away")
	case known && e.Record.State == negotiate.DestReleased && p.Attempt > 0 && e.Record.Attempt >= p.Attempt:
		return d.refused(p.VM, fmt.Sprintf("attempt %d to move it here was given up, and this may be the rest of it: move it with `headroom migrate`, "+
			"or take its stamp away with `virsh metadata VM urn:headroom:1 --remove --live --config` first", p.Attempt))
	case d.o.RefuseByHand:
		return d.refused(p.VM, "it carries no lease, and handover.by_hand is \"refuse\": move it with `headroom migrate`")
	}
	d.o.Logger.Info("a VM comes in by hand, without a lease", "vm", p.VM)
	return nil
}

func (d *Desk) refused(vm negotiate.VMID, why string) error {
	d.o.Logger.Warn("incoming migration refused", "vm", vm, "why", why)
	return fmt.Errorf("%w: %s", ErrRefused, why)
}
