package hypervisor

import (
	"context"
	"fmt"
	"time"

	"libvirt.org/go/libvirt"
)

// Kinds of jobs that the driver itself tells apart.
const (
	outgoing = "migration out"
	incoming = "migration in"
)

var jobKinds = map[libvirt.DomainJobOperationType]string{
	libvirt.DOMAIN_JOB_OPERATION_START: "start", libvirt.DOMAIN_JOB_OPERATION_SAVE: "save",
	libvirt.DOMAIN_JOB_OPERATION_RESTORE: "restore", libvirt.DOMAIN_JOB_OPERATION_MIGRATION_IN: incoming,
	libvirt.DOMAIN_JOB_OPERATION_MIGRATION_OUT: outgoing, libvirt.DOMAIN_JOB_OPERATION_SNAPSHOT: "snapshot",
	libvirt.DOMAIN_JOB_OPERATION_SNAPSHOT_REVERT: "snapshot revert", libvirt.DOMAIN_JOB_OPERATION_DUMP: "dump",
	libvirt.DOMAIN_JOB_OPERATION_BACKUP: "backup",
}

// Progress says which job runs on a domain and how far it is.
func (d *Libvirt) Progress(ctx context.Context, id string) (JobProgress, error) {
	return onDomain(ctx, d, d.acts, id, "ask for the job of", progress)
}

func progress(dom *libvirt.Domain) (JobProgress, error) {
	j, err := dom.GetJobStats(0)
	switch {
	case isCode(err, libvirt.ERR_NO_SUPPORT):
		return JobProgress{}, nil
	case isCode(err, libvirt.ERR_OPERATION_INVALID, libvirt.ERR_OPERATION_UNSUPPORTED):
		return refusedProgress(dom, err)
	case err != nil:
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
	if j.DataTotalSet { // disks that are copied along count too
		p.Total, p.Remaining = j.DataTotal, j.DataRemaining
	}
	p.Sent = j.MemProcessed
	p.BytesPerSecond = float64(j.MemBps)
	p.DirtyRate = float64(j.MemDirtyRate) * float64(j.MemPageSize)
	return p, nil
}

// refusedProgress reads the two refusals: a domain that is not running has no
// job; a running one refuses at the destination of its migration, whose figures
// are at the source alone.
func refusedProgress(dom *libvirt.Domain, refusal error) (JobProgress, error) {
	active, err := dom.IsActive()
	if err != nil {
		return JobProgress{}, fmt.Errorf("%w: %w", refusal, err)
	}
	if !active {
		return JobProgress{}, nil
	}
	return JobProgress{Active: true, Kind: incoming}, nil
}

// AbortJob ends the domain's job. No job is no error.
func (d *Libvirt) AbortJob(ctx context.Context, id string) error {
	err := d.do(ctx, id, "abort job of", (*libvirt.Domain).AbortJob)
	if isCode(err, libvirt.ERR_OPERATION_INVALID) {
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
		var impact libvirt.DomainModificationImpact
		active, err := dom.IsActive()
		if err != nil {
			return err
		}
		persistent, err := dom.IsPersistent()
		if err != nil {
			return err
		}
		if active {
			impact |= libvirt.DOMAIN_AFFECT_LIVE
		}
		if persistent {
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

// Destroy ends a domain at once, and removes its definition here. It may be
// repeated after any failure.
func (d *Libvirt) Destroy(ctx context.Context, id string) error {
	return d.do(ctx, id, "destroy", func(dom *libvirt.Domain) error {
		persistent, err := dom.IsPersistent()
		if err != nil {
			return err
		}
		active, err := dom.IsActive()
		if err != nil {
			return err
		}
		if active {
			if err := dom.Destroy(); err != nil {
				return err
			}
		}
		if !persistent {
			return nil
		}
		return undefine(dom)
	})
}

// undefine removes a definition with all that libvirt keeps beside it, as far as
// the hypervisor's driver knows of such things.
func undefine(dom *libvirt.Domain) error {
	all := libvirt.DOMAIN_UNDEFINE_NVRAM | libvirt.DOMAIN_UNDEFINE_MANAGED_SAVE |
		libvirt.DOMAIN_UNDEFINE_SNAPSHOTS_METADATA | libvirt.DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
	err := dom.UndefineFlags(all)
	if isCode(err, libvirt.ERR_INVALID_ARG) {
		return dom.Undefine()
	}
	return err
}

const (
	// dirtyPeriod is how long QEMU counts, and dirtyEvery how often it is asked
	// whether it is done.
	dirtyPeriod = time.Second
	dirtyEvery  = 200 * time.Millisecond
)

// DirtyRate measures for a second how fast the domain writes to its memory, in
// bytes/s. It costs the guest a little; a domain with a job is not measured
// (ErrJobActive).
func (d *Libvirt) DirtyRate(ctx context.Context, id string) (float64, error) {
	_, err := onDomain(ctx, d, d.acts, id, "measure dirty rate of", func(dom *libvirt.Domain) (struct{}, error) {
		p, err := progress(dom)
		if err != nil {
			return struct{}{}, err
		}
		if p.Active {
			return struct{}{}, fmt.Errorf("%w: %s", ErrJobActive, p.Kind)
		}
		return struct{}{}, dom.StartDirtyRateCalc(int(dirtyPeriod.Seconds()), libvirt.DOMAIN_DIRTYRATE_MODE_PAGE_SAMPLING)
	})
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, dirtyPeriod+d.o.Timeout)
	defer cancel()
	again := time.NewTicker(dirtyEvery)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("dirty rate of domain %s: %w", id, ctx.Err())
		case <-again.C:
		}
		stats, err := onDomain(ctx, d, d.acts, id, "read dirty rate of", dirtyStats)
		if err != nil {
			return 0, err
		}
		if stats.CalcStatus == int(libvirt.DOMAIN_DIRTYRATE_MEASURED) && stats.MegabytesPerSecondSet {
			return float64(stats.MegabytesPerSecond) * (1 << 20), nil
		}
	}
}

func dirtyStats(dom *libvirt.Domain) (libvirt.DomainStatsDirtyRate, error) {
	c, err := dom.DomainGetConnect()
	if err != nil {
		return libvirt.DomainStatsDirtyRate{}, err
	}
	defer func() { _, _ = c.Close() }() // gives back the reference that was just taken
	all, err := c.GetAllDomainStats([]*libvirt.Domain{dom}, libvirt.DOMAIN_STATS_DIRTYRATE, 0)
	if err != nil {
		return libvirt.DomainStatsDirtyRate{}, err
	}
	var out libvirt.DomainStatsDirtyRate
	for i := range all {
		if all[i].DirtyRate != nil {
			out = *all[i].DirtyRate
		}
		_ = all[i].Domain.Free() // fails only for a domain that is not one
	}
	return out, nil
}
