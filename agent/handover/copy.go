package handover

import (
	"context"
	"fmt"
	"time"

	"headroom/agent/hypervisor"
	"headroom/planner/negotiate"
)

// copyEvery is how often a copy under way is looked at.
const copyEvery = time.Second

// followCopy looks at a copy under way until end is called, which waits for it.
func (d *Desk) followCopy(ctx context.Context, vm negotiate.VMID) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(copyEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			case <-d.gone: // the migration goes on; the next agent follows it
				return
			}
			if p, err := d.o.Hypervisor.Progress(ctx, string(vm)); err == nil && p.Active {
				d.post(item{vm: vm, copy: &p})
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// noteCopy gives a copy up that goes nowhere: for NoProgress it has sent nothing, or
// its rest has not become smaller, because the VM writes faster than the link
// carries. libvirt is only asked to abort; the VM runs on here, or has switched over
// meanwhile.
func (d *Desk) noteCopy(ctx context.Context, vm negotiate.VMID, p hypervisor.JobProgress) error {
	s := d.sources[vm]
	if s.Phase != negotiate.PhaseMigrating || d.o.NoProgress <= 0 || p.Total == 0 {
		return nil
	}
	now := d.o.Since()
	c := d.paces[vm]
	if c == nil || c.attempt != s.Record.Attempt {
		c = &pace{attempt: s.Record.Attempt, sent: p.Sent, least: p.Remaining, sentAt: now, leastAt: now}
		d.paces[vm] = c
	}
	if p.Sent != c.sent {
		c.sent, c.sentAt = p.Sent, now
	}
	if p.Remaining < c.least {
		c.least, c.leastAt = p.Remaining, now
	}
	why := ""
	switch {
	case now-c.sentAt >= d.o.NoProgress:
		why = "the copy has sent nothing for " + (now - c.sentAt).Round(time.Second).String()
	case now-c.leastAt >= d.o.NoProgress:
		why = fmt.Sprintf("the copy does not converge: for %s its rest has not been below %d MiB; the VM writes %.0f MiB/s",
			(now - c.leastAt).Round(time.Second), c.least>>20, p.DirtyRate/(1<<20))
	default:
		return nil
	}
	if !c.told {
		c.told = true
		d.o.Logger.Warn("copy given up", "vm", vm, "why", why)
		d.o.Notify(Update{VM: vm, Role: RoleSource, Alarm: why})
	}
	return d.stepSource(ctx, vm, negotiate.Cancel{VM: vm, Reason: why})
}
