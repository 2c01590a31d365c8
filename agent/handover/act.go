package handover

import (
	"context"
	"fmt"
	"time"

	"headroom/agent/hypervisor"
	"headroom/planner/negotiate"
)

// act performs an effect that needs libvirt, beside the desk's goroutine; the
// answer comes back as an event.
func (d *Desk) act(ctx context.Context, e negotiate.Effect) {
	switch e := e.(type) {
	case negotiate.Autostart:
		if e.On { // off is the following Stamp's to do
			d.job(ctx, func(ctx context.Context) { d.autostart(ctx, e.VM) })
		}
	case negotiate.Stamp:
		off := e.Lease != "" && d.sources[e.VM].Record.Autostart
		d.job(ctx, func(ctx context.Context) {
			d.answer(item{vm: e.VM, src: negotiate.Stamped{VM: e.VM, Attempt: e.Attempt, Lease: e.Lease, Err: text(d.stamp(ctx, e, off))}})
		})
	case negotiate.StampOwned:
		d.job(ctx, func(ctx context.Context) { d.stampOwned(ctx, e) })
	case negotiate.StartMigration:
		d.migrate(ctx, e)
	case negotiate.AbortMigration:
		d.job(ctx, func(ctx context.Context) {
			if err := d.o.Hypervisor.AbortJob(ctx, string(e.VM)); err != nil {
				d.o.Logger.Warn("migration not aborted", "vm", e.VM, "err", err)
			}
		})
	case negotiate.QueryLocal:
		d.job(ctx, func(ctx context.Context) { d.answer(d.local(ctx, e.VM, e.Query)) })
	case negotiate.ResumeLocal:
		d.job(ctx, func(ctx context.Context) { d.resumeLocal(ctx, e) })
	case negotiate.DestroyLocal:
		d.job(ctx, func(ctx context.Context) { d.destroyLocal(ctx, e) })
	default:
		d.actOnCopy(ctx, e)
	}
}

// actOnCopy performs the destination's effects on the arriving VM.
func (d *Desk) actOnCopy(ctx context.Context, e negotiate.Effect) {
	switch e := e.(type) {
	case negotiate.QueryCopy:
		d.job(ctx, func(ctx context.Context) { d.answer(d.copyState(ctx, e.VM, e.Query)) })
	case negotiate.ResumeCopy:
		d.job(ctx, func(ctx context.Context) { d.resumeCopy(ctx, e) })
	case negotiate.DestroyCopy:
		d.job(ctx, func(ctx context.Context) { d.destroyCopy(ctx, e) })
	case negotiate.AllowPrepare, negotiate.RefusePrepare, negotiate.ReleaseLease:
		// The record and the holdings say it all; the hook reads its own answer.
	default:
		d.o.Logger.Error("hand-over effect not known", "effect", fmt.Sprintf("%T", e))
	}
}

// answer brings an event back to the desk.
func (d *Desk) answer(it item) { d.post(it) }

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// metadata reads the VM's metadata, changes it and writes it back.
func (d *Desk) metadata(ctx context.Context, vm negotiate.VMID, change func(*hypervisor.Metadata) bool) error {
	dom, ok, err := d.o.Hypervisor.Lookup(ctx, string(vm))
	if err != nil {
		return fmt.Errorf("look up %s: %w", vm, err)
	}
	if !ok {
		return fmt.Errorf("look up %s: %w", vm, hypervisor.ErrNoSuchDomain)
	}
	m := dom.Metadata
	if !change(&m) {
		return nil
	}
	if err := d.o.Hypervisor.SetMetadata(ctx, string(vm), m); err != nil {
		return fmt.Errorf("write metadata of %s: %w", vm, err)
	}
	return nil
}

// stamp writes the token. Where it permits a migration of a VM that starts with its
// host, that is switched off first, or there is no permission: jobs run side by side,
// and the copy may begin as soon as the stamp is there.
func (d *Desk) stamp(ctx context.Context, e negotiate.Stamp, autostartOff bool) error {
	if autostartOff {
		if err := d.o.Hypervisor.SetAutostart(ctx, string(e.VM), false); err != nil {
			return fmt.Errorf("autostart: %w", err)
		}
	}
	return d.metadata(ctx, e.VM, func(m *hypervisor.Metadata) bool {
		m.Attempt, m.Lease = max(m.Attempt, uint64(e.Attempt)), string(e.Lease)
		m.From, m.To = string(e.From), string(e.To)
		return true
	})
}

// stampOwned writes the finished move once: the attempt that is already noted as
// the last move is not noted again.
func (d *Desk) stampOwned(ctx context.Context, e negotiate.StampOwned) {
	now := d.o.Now().UTC()
	err := d.metadata(ctx, e.VM, func(m *hypervisor.Metadata) bool {
		if m.LastFrom == string(e.From) && m.Lease == "" {
			return false
		}
		m.LastFrom, m.MovedAt, m.Lease = string(e.From), now, ""
		recent := m.Moves[:0:0]
		for _, at := range m.Moves {
			if now.Sub(at) < 24*time.Hour {
				recent = append(recent, at)
			}
		}
		m.Moves = append(recent, now)
		return true
	})
	if err != nil {
		d.o.Logger.Warn("move not noted in the VM's metadata; it is tried again, and the VM not moved on before", "vm", e.VM, "err", err)
		return
	}
	d.answer(d.copyState(ctx, e.VM, 0)) // so that the book sees that it is noted
}

func (d *Desk) autostart(ctx context.Context, vm negotiate.VMID) {
	if err := d.o.Hypervisor.SetAutostart(ctx, string(vm), true); err != nil {
		d.o.Logger.Warn("autostart not switched on again", "vm", vm, "err", err)
	}
}

// migrate starts the copy. Its context outlives the agent on purpose: ending
// the call by a cancelled context would abort the migration.
func (d *Desk) migrate(ctx context.Context, e negotiate.StartMigration) {
	uri, err := d.o.DestURI(e.To)
	if err != nil {
		d.notMigrated(e.VM, err.Error())
		return
	}
	ctx = context.WithoutCancel(ctx)
	taken := d.begin(func() {
		d.copies.Add(1)
		defer d.copies.Add(-1)
		end := d.followCopy(ctx, e.VM)
		defer end()
		r, err := d.o.Hypervisor.Migrate(ctx, hypervisor.MigrateRequest{
			ID: string(e.VM), DestURI: uri, Live: true, Paused: e.Paused,
			BandwidthMiBps: d.o.BandwidthMiBs, MaxDowntime: d.o.MaxDowntime, TLS: d.o.TLS, AutoConverge: d.o.AutoConverge, Parallel: d.o.Parallel,
		})
		d.answer(item{vm: e.VM, src: negotiate.MigrationDone{VM: e.VM, Err: text(err)}, result: &r})
	})
	if !taken {
		d.notMigrated(e.VM, "too many calls are under way on this host")
	}
}

// notMigrated answers a StartMigration that was never given to libvirt: the
// source waits for an answer and for no timer. It takes a goroutine because the
// desk's own must not wait for its inbox.
func (d *Desk) notMigrated(vm negotiate.VMID, why string) {
	d.wg.Go(func() { d.answer(item{vm: vm, src: negotiate.MigrationDone{VM: vm, Err: why}}) })
}

// local is the truth about a VM at the source.
func (d *Desk) local(ctx context.Context, vm negotiate.VMID, query uint64) item {
	state := func(s negotiate.LocalRun) item {
		return item{vm: vm, src: negotiate.LocalState{VM: vm, Query: query, State: s}}
	}
	dom, ok, err := d.o.Hypervisor.Lookup(ctx, string(vm))
	switch {
	case err != nil:
		d.o.Logger.Warn("libvirt does not tell the VM's state", "vm", vm, "err", err)
		return state(negotiate.LocalUnknown)
	case !ok, !dom.State.Live() && dom.Reason == hypervisor.ReasonMigrated:
		return state(negotiate.LocalMigrated)
	case !dom.State.Live():
		return state(negotiate.LocalGone)
	}
	p, err := d.o.Hypervisor.Progress(ctx, string(vm))
	switch {
	case err != nil: // also when it went meanwhile: the next look tells how
		return state(negotiate.LocalUnknown)
	case p.Active:
		d.post(item{vm: vm, copy: &p}) // a copy that is followed again after a restart
		return item{vm: vm, src: negotiate.MigrationStillRunning{VM: vm, Query: query}}
	case dom.State == hypervisor.Running:
		return state(negotiate.LocalRunning)
	}
	return state(negotiate.LocalPaused)
}

func (d *Desk) resumeLocal(ctx context.Context, e negotiate.ResumeLocal) {
	if err := d.o.Hypervisor.Resume(ctx, string(e.VM)); err != nil {
		d.o.Logger.Warn("VM not resumed", "vm", e.VM, "err", err)
	}
	d.answer(d.local(ctx, e.VM, e.Query))
}

// destroyLocal destroys a stopped VM, and looks first: a running one is never
// destroyed.
func (d *Desk) destroyLocal(ctx context.Context, e negotiate.DestroyLocal) {
	now := d.local(ctx, e.VM, e.Query)
	if s, ok := now.src.(negotiate.LocalState); !ok || s.State != negotiate.LocalPaused {
		d.answer(now)
		return
	}
	if err := d.o.Hypervisor.Destroy(ctx, string(e.VM)); err != nil {
		d.o.Logger.Warn("handed-over VM not destroyed", "vm", e.VM, "err", err)
	}
	d.answer(d.local(ctx, e.VM, e.Query))
}

// forgetMoved removes the definition of a VM that has moved away, where libvirt died
// before it could: nobody may start it here. A VM that came back is not touched.
func (d *Desk) forgetMoved(ctx context.Context, e negotiate.Done, lease negotiate.LeaseID) {
	dom, ok, err := d.o.Hypervisor.Lookup(ctx, string(e.VM))
	if err != nil || !ok || dom.State.Live() || dom.Metadata.Lease != string(lease) || negotiate.Attempt(dom.Metadata.Attempt) != e.Attempt {
		return
	}
	if err := d.o.Hypervisor.Destroy(ctx, string(e.VM)); err != nil {
		d.o.Logger.Warn("definition of a VM that has moved not removed", "vm", e.VM, "err", err)
	}
}

// copyState is the truth about a VM at the destination.
func (d *Desk) copyState(ctx context.Context, vm negotiate.VMID, query uint64) item {
	dom, ok, err := d.o.Hypervisor.Lookup(ctx, string(vm))
	switch {
	case err != nil:
		return item{vm: vm, dst: negotiate.CopyLost{VM: vm, Query: query}}
	case !ok || !dom.State.Live():
		return item{vm: vm, dst: negotiate.CopyGone{VM: vm, Query: query}}
	}
	c := negotiate.CopyAppeared{VM: vm, Query: query, Attempt: negotiate.Attempt(dom.Metadata.Attempt),
		Lease: negotiate.LeaseID(dom.Metadata.Lease), State: negotiate.CopyPaused}
	switch {
	case dom.Incoming:
		c.State = negotiate.CopyIn
	case dom.State == hypervisor.Running:
		c.State = negotiate.CopyRunning
	}
	return item{vm: vm, dst: c}
}

// sameToken reads the copy and says whether it carries the token, which is the
// permission to act on it.
func (d *Desk) sameToken(now item, attempt negotiate.Attempt, lease negotiate.LeaseID) bool {
	c, ok := now.dst.(negotiate.CopyAppeared)
	return ok && c.Attempt == attempt && c.Lease == lease
}

func (d *Desk) resumeCopy(ctx context.Context, e negotiate.ResumeCopy) {
	now := d.copyState(ctx, e.VM, e.Query)
	if c, ok := now.dst.(negotiate.CopyAppeared); !ok || c.State != negotiate.CopyPaused || !d.sameToken(now, e.Attempt, e.Lease) {
		d.answer(now)
		return
	}
	if err := d.o.Hypervisor.Resume(ctx, string(e.VM)); err != nil {
		d.answer(item{vm: e.VM, dst: negotiate.ActFailed{VM: e.VM, Err: err.Error()}})
		return
	}
	d.answer(d.copyState(ctx, e.VM, e.Query))
}

// destroyCopy destroys a copy that does not run, and looks first.
func (d *Desk) destroyCopy(ctx context.Context, e negotiate.DestroyCopy) {
	now := d.copyState(ctx, e.VM, e.Query)
	if c, ok := now.dst.(negotiate.CopyAppeared); !ok || c.State == negotiate.CopyRunning || !d.sameToken(now, e.Attempt, e.Lease) {
		d.answer(now)
		return
	}
	if err := d.o.Hypervisor.Destroy(ctx, string(e.VM)); err != nil {
		d.answer(item{vm: e.VM, dst: negotiate.ActFailed{VM: e.VM, Err: err.Error()}})
		return
	}
	d.answer(d.copyState(ctx, e.VM, e.Query))
}
