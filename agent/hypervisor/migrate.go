package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"libvirt.org/go/libvirt"
)

// abortWait is how long a cancelled migration may take to give up.
const abortWait = 10 * time.Second

// Migrate moves a domain and returns when libvirt's call does, which may be
// after hours: only ctx bounds it. A cancelled ctx aborts the job. Our own death
// does not: peer-to-peer, the two libvirtd finish alone. An error that wraps
// ErrUnknownOutcome says nothing about where the domain is.
func (d *Libvirt) Migrate(ctx context.Context, r MigrateRequest) (MigrateResult, error) {
	conn := d.current()
	if conn == nil {
		_, err := d.Connected()
		return MigrateResult{}, fmt.Errorf("migrate domain %s: %w", r.ID, err)
	}
	select {
	case d.calls <- struct{}{}:
	default:
		return MigrateResult{}, fmt.Errorf("migrate domain %s: %w", r.ID, ErrOverloaded)
	}
	ch := make(chan answer[MigrateResult], 1)
	go func() {
		defer func() { <-d.calls }()
		v, err := migrate(conn, r)
		ch <- answer[MigrateResult]{v, err}
	}()
	select {
	case a := <-ch:
		return a.v, d.migrated(r.ID, a.err)
	case <-ctx.Done():
	}
	abortCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortWait)
	defer cancel()
	abortErr := d.AbortJob(abortCtx, r.ID)
	select {
	case a := <-ch:
		return a.v, d.migrated(r.ID, a.err)
	case <-abortCtx.Done():
		return MigrateResult{}, fmt.Errorf("migrate domain %s: %w: not aborted in time: %w", r.ID, ErrUnknownOutcome, abortErr)
	}
}

// migrated names the kind of a failed migration.
func (d *Libvirt) migrated(id string, err error) error {
	switch {
	case err == nil:
		return nil
	case broken(err):
		return fmt.Errorf("migrate domain %s: %w: %w", id, ErrUnknownOutcome, err)
	}
	return fmt.Errorf("migrate domain %s: %w", id, typed(err))
}

func migrate(c *libvirt.Connect, r MigrateRequest) (MigrateResult, error) {
	dom, err := c.LookupDomainByUUIDString(r.ID)
	if err != nil {
		return MigrateResult{}, err
	}
	defer func() { _ = dom.Free() }() // fails only for a domain that is not one
	flags := libvirt.MIGRATE_PEER2PEER | libvirt.MIGRATE_PERSIST_DEST | libvirt.MIGRATE_UNDEFINE_SOURCE | libvirt.MIGRATE_ABORT_ON_ERROR
	if r.Live {
		flags |= libvirt.MIGRATE_LIVE
	}
	if r.Paused {
		flags |= libvirt.MIGRATE_PAUSED
	}
	params := &libvirt.DomainMigrateParameters{}
	if r.BandwidthMiBps > 0 {
		params.BandwidthSet, params.Bandwidth = true, uint64(r.BandwidthMiBps)
	}
	if r.MaxDowntime > 0 {
		// An older libvirt may refuse it before the job; its default then holds.
		_ = dom.MigrateSetMaxDowntime(uint64(r.MaxDowntime.Milliseconds()), 0)
	}
	begun := time.Now()
	if err := dom.MigrateToURI3(r.DestURI, params, flags); err != nil {
		return MigrateResult{}, err
	}
	out := MigrateResult{CopyTime: time.Since(begun)}
	out.completed(dom)
	return out, nil
}

// completed adds what libvirt keeps of a finished job. It is a nicety: its
// absence is not the migration's failure.
func (r *MigrateResult) completed(dom *libvirt.Domain) {
	j, err := dom.GetJobStats(libvirt.DOMAIN_JOB_STATS_COMPLETED)
	if err != nil {
		return
	}
	if j.TimeElapsedSet {
		r.CopyTime = time.Duration(j.TimeElapsed) * time.Millisecond
	}
	if j.DowntimeSet {
		r.Blackout = time.Duration(j.Downtime) * time.Millisecond
	}
	if j.MemProcessedSet {
		r.Bytes = j.MemProcessed
	}
	if j.MemDirtyRateSet && j.MemPageSizeSet {
		r.DirtyRate = float64(j.MemDirtyRate) * float64(j.MemPageSize)
	}
}

const outgoing = "migration out"

var jobKinds = map[libvirt.DomainJobOperationType]string{
	libvirt.DOMAIN_JOB_OPERATION_START: "start", libvirt.DOMAIN_JOB_OPERATION_SAVE: "save",
	libvirt.DOMAIN_JOB_OPERATION_RESTORE: "restore", libvirt.DOMAIN_JOB_OPERATION_MIGRATION_IN: "migration in",
	libvirt.DOMAIN_JOB_OPERATION_MIGRATION_OUT: outgoing, libvirt.DOMAIN_JOB_OPERATION_SNAPSHOT: "snapshot",
	libvirt.DOMAIN_JOB_OPERATION_SNAPSHOT_REVERT: "snapshot revert", libvirt.DOMAIN_JOB_OPERATION_DUMP: "dump",
	libvirt.DOMAIN_JOB_OPERATION_BACKUP: "backup",
}

// Progress says which job runs on a domain and how far it is.
func (d *Libvirt) Progress(ctx context.Context, id string) (JobProgress, error) {
	p, err := onDomain(ctx, d, id, progress)
	if err != nil {
		return JobProgress{}, fmt.Errorf("job of domain %s: %w", id, err)
	}
	return p, nil
}

func progress(dom *libvirt.Domain) (JobProgress, error) {
	j, err := dom.GetJobStats(0)
	if isCode(err, libvirt.ERR_NO_SUPPORT) {
		return JobProgress{}, nil
	}
	if err != nil {
		return JobProgress{}, err
	}
	p := JobProgress{Active: j.Type == libvirt.DOMAIN_JOB_BOUNDED || j.Type == libvirt.DOMAIN_JOB_UNBOUNDED}
	if !p.Active {
		return p, nil
	}
	p.Kind = "job"
	if j.OperationSet {
		if kind := jobKinds[j.Operation]; kind != "" {
			p.Kind = kind
		}
	}
	p.Elapsed = time.Duration(j.TimeElapsed) * time.Millisecond
	p.Total, p.Remaining = j.MemTotal, j.MemRemaining
	p.BytesPerSecond = float64(j.MemBps)
	p.DirtyRate = float64(j.MemDirtyRate) * float64(j.MemPageSize)
	return p, nil
}

// AbortJob ends the domain's job. No job is no error.
func (d *Libvirt) AbortJob(ctx context.Context, id string) error {
	err := d.do(ctx, id, "abort job of", (*libvirt.Domain).AbortJob)
	var e libvirt.Error
	if errors.As(err, &e) && e.Code == libvirt.ERR_OPERATION_INVALID {
		return nil
	}
	return err
}

// SetMetadata writes headroom's metadata, to the running domain and to its
// definition.
func (d *Libvirt) SetMetadata(ctx context.Context, id string, m Metadata) error {
	text, err := m.Encode()
	if err != nil {
		return err
	}
	return d.do(ctx, id, "write metadata of", func(dom *libvirt.Domain) error {
		impact := libvirt.DOMAIN_AFFECT_LIVE
		if persistent, err := dom.IsPersistent(); err != nil {
			return err
		} else if persistent {
			impact |= libvirt.DOMAIN_AFFECT_CONFIG
		}
		return dom.SetMetadata(libvirt.DOMAIN_METADATA_ELEMENT, text, metadataKey, MetadataURI, impact)
	})
}

// SetAutostart sets whether the domain starts with its host. A transient domain
// never does.
func (d *Libvirt) SetAutostart(ctx context.Context, id string, on bool) error {
	return d.do(ctx, id, "set autostart of", func(dom *libvirt.Domain) error {
		if persistent, err := dom.IsPersistent(); err != nil || !persistent {
			return err
		}
		return dom.SetAutostart(on)
	})
}

// Resume starts a paused domain's CPUs.
func (d *Libvirt) Resume(ctx context.Context, id string) error {
	return d.do(ctx, id, "resume", (*libvirt.Domain).Resume)
}

// Destroy ends a domain at once, and removes its definition here.
func (d *Libvirt) Destroy(ctx context.Context, id string) error {
	return d.do(ctx, id, "destroy", func(dom *libvirt.Domain) error {
		persistent, err := dom.IsPersistent()
		if err != nil {
			return err
		}
		if err := dom.Destroy(); err != nil || !persistent {
			return err
		}
		return dom.UndefineFlags(libvirt.DOMAIN_UNDEFINE_NVRAM | libvirt.DOMAIN_UNDEFINE_MANAGED_SAVE)
	})
}
