package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"libvirt.org/go/libvirt"
)

const (
	// abortWait is how long a cancelled migration may take to give up, and
	// abortEvery how often it is told to: a job that has not begun yet cannot be
	// aborted, nor one that has just begun to switch over.
	abortWait  = 30 * time.Second
	abortEvery = 250 * time.Millisecond
	// statsWait is how long the figures of a finished migration may take.
	statsWait = time.Second
)

// Migrate moves a domain and returns when libvirt's call does, which may be
// after hours: only ctx bounds it. A cancelled ctx aborts the job, and Migrate
// returns once libvirt has given up or finished: the error then wraps ctx's, or
// is nil when the domain had moved already. Our own death does not abort:
// peer-to-peer, the two libvirtd finish alone. An error that wraps
// ErrUnknownOutcome says nothing about where the domain is.
func (d *Libvirt) Migrate(ctx context.Context, r MigrateRequest) (MigrateResult, error) {
	stats, forget := d.completed.expect(r.ID)
	defer forget()
	ch := make(chan answer[time.Duration], 1)
	if err := d.startMove(r, ch); err != nil {
		return MigrateResult{}, fmt.Errorf("migrate domain %s: %w", r.ID, err)
	}
	a, err := d.awaitMove(ctx, r.ID, ch)
	if err != nil {
		return MigrateResult{}, fmt.Errorf("migrate domain %s: %w", r.ID, err)
	}
	out := MigrateResult{CopyTime: a}
	limit := time.NewTimer(statsWait)
	defer limit.Stop()
	select {
	case j := <-stats:
		out.measured(&j)
	case <-limit.C: // a nicety: its absence is not the migration's failure
	}
	return out, nil
}

// startMove makes the call on a goroutine of its own.
func (d *Libvirt) startMove(r MigrateRequest, ch chan<- answer[time.Duration]) error {
	if err := d.link.state(); err != nil {
		return err
	}
	select {
	case d.moves.places <- struct{}{}:
	default:
		return fmt.Errorf("%w: %d migrations", ErrOverloaded, maxMoves)
	}
	go func() {
		defer func() { <-d.moves.places }()
		took, err := on(d.moves, func(c *libvirt.Connect) (time.Duration, error) { return migrate(c, r) })
		switch {
		case err == nil, unreached(err):
		case broken(err):
			err = fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
		default:
			err = typed(err)
		}
		ch <- answer[time.Duration]{took, err}
	}()
	return nil
}

// awaitMove waits for the call, and aborts the job when ctx ends.
func (d *Libvirt) awaitMove(ctx context.Context, id string, ch <-chan answer[time.Duration]) (time.Duration, error) {
	select {
	case a := <-ch:
		return a.v, a.err
	case <-ctx.Done():
	}
	abortCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortWait)
	defer cancel()
	again := time.NewTicker(abortEvery)
	defer again.Stop()
	for {
		abortErr := d.AbortJob(abortCtx, id)
		select {
		case a := <-ch:
			if a.err != nil {
				return 0, fmt.Errorf("%w: %w", ctx.Err(), a.err)
			}
			return a.v, nil
		case <-again.C:
		case <-abortCtx.Done():
			return 0, errors.Join(fmt.Errorf("%w: not aborted within %v: %w", ErrUnknownOutcome, abortWait, ctx.Err()), abortErr)
		}
	}
}

// migrate is libvirt's call; it returns how long that took.
func migrate(c *libvirt.Connect, r MigrateRequest) (time.Duration, error) {
	dom, err := c.LookupDomainByUUIDString(r.ID)
	if err != nil {
		return 0, err
	}
	defer func() { _ = dom.Free() }() // fails only for a domain that is not one
	flags := libvirt.MIGRATE_PEER2PEER | libvirt.MIGRATE_PERSIST_DEST | libvirt.MIGRATE_UNDEFINE_SOURCE | libvirt.MIGRATE_ABORT_ON_ERROR
	if r.Live {
		flags |= libvirt.MIGRATE_LIVE
	}
	if r.Paused {
		flags |= libvirt.MIGRATE_PAUSED
	}
	if r.TLS {
		flags |= libvirt.MIGRATE_TLS
	}
	if r.AutoConverge {
		flags |= libvirt.MIGRATE_AUTO_CONVERGE
	}
	params := &libvirt.DomainMigrateParameters{URISet: r.DataURI != "", URI: r.DataURI}
	if r.Parallel > 0 {
		flags |= libvirt.MIGRATE_PARALLEL
		params.ParallelConnectionsSet, params.ParallelConnections = true, r.Parallel
	}
	if r.BandwidthMiBps > 0 {
		params.BandwidthSet, params.Bandwidth = true, max(1, uint64(r.BandwidthMiBps))
	}
	if r.MaxDowntime > 0 {
		// An older libvirt may refuse it before the job; its default then holds.
		_ = dom.MigrateSetMaxDowntime(uint64(r.MaxDowntime.Milliseconds()), 0)
	}
	begun := time.Now()
	err = dom.MigrateToURI3(r.DestURI, params, flags)
	return time.Since(begun), err
}

// completions hands the figures of a finished job to the migration that waits
// for them. They come as an event: once the domain has left the host, nobody
// there can be asked.
type completions struct {
	mu      sync.Mutex
	waiting map[string]chan libvirt.DomainJobInfo // by domain; guarded by mu
}

func (c *completions) expect(id string) (<-chan libvirt.DomainJobInfo, func()) {
	ch := make(chan libvirt.DomainJobInfo, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		c.waiting = map[string]chan libvirt.DomainJobInfo{}
	}
	c.waiting[id] = ch
	return ch, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.waiting[id] == ch {
			delete(c.waiting, id)
		}
	}
}

// tell never blocks; the first figures count.
func (c *completions) tell(id string, info libvirt.DomainJobInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case c.waiting[id] <- info:
	default:
	}
}

// jobCompleted is called from libvirt's event loop and must not block.
func (d *Libvirt) jobCompleted(_ *libvirt.Connect, dom *libvirt.Domain, ev *libvirt.DomainEventJobCompleted) {
	if id, err := dom.GetUUIDString(); err == nil {
		d.completed.tell(id, ev.Info)
	}
}

// measured takes over what libvirt measured.
func (r *MigrateResult) measured(j *libvirt.DomainJobInfo) {
	if j.TimeElapsedSet {
		r.CopyTime = time.Duration(j.TimeElapsed) * time.Millisecond
	}
	if j.DowntimeSet {
		r.Blackout = time.Duration(j.Downtime) * time.Millisecond
	}
	if j.DowntimeNetSet {
		r.BlackoutNet = time.Duration(j.DowntimeNet) * time.Millisecond
	}
	if j.MemProcessedSet {
		r.Bytes = j.MemProcessed
	}
	if j.MemDirtyRateSet && j.MemPageSizeSet {
		r.DirtyRate = float64(j.MemDirtyRate) * float64(j.MemPageSize)
	}
}
