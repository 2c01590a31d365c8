package handover

import (
	"context"
	"fmt"
	"strings"

	"headroom/planner/negotiate"
)

// recover turns the journal into states, and performs what these ask for. A
// record of another version is an error: nothing may be guessed about who owns
// a VM.
func (d *Desk) recover(ctx context.Context) error {
	var arrivals []negotiate.DestRecord
	var departures []negotiate.SourceRecord
	err := d.o.Journal.Each(func(key string, value []byte) error {
		switch {
		case strings.HasPrefix(key, sourcePrefix):
			r, err := negotiate.DecodeSourceRecord(value)
			if err != nil {
				return fmt.Errorf("journal entry %s: %w", key, err)
			}
			departures = append(departures, r)
		case strings.HasPrefix(key, destinationPrefix):
			r, err := negotiate.DecodeDestRecord(value)
			if err != nil {
				return fmt.Errorf("journal entry %s: %w", key, err)
			}
			arrivals = append(arrivals, r)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the negotiation journal: %w", err)
	}
	for _, r := range departures {
		s, effects := negotiate.RecoverSource(d.o.Self, d.o.Timing, r)
		d.sources[r.VM] = s
		d.trace(ctx, func() negotiate.Transition { return negotiate.RecoveredSource(s, effects) })
		if err := d.resume(ctx, sourceSide, r.VM, effects); err != nil {
			return fmt.Errorf("take up attempt %d of %s: %w", r.Attempt, r.VM, err)
		}
	}
	dest, effects := negotiate.RecoverDestination(d.o.Self, d.o.Limits, arrivals, d.moment())
	d.dest = dest
	for _, r := range arrivals {
		d.trace(ctx, func() negotiate.Transition { return negotiate.RecoveredDestination(r.VM, dest, effects) })
	}
	if err := d.resume(ctx, destinationSide, "", effects); err != nil {
		return fmt.Errorf("take up arriving VMs: %w", err)
	}
	return nil
}

// resume performs the effects of a recovery in order: those of several VMs
// follow each other, so records do not all stand first.
func (d *Desk) resume(ctx context.Context, s side, vm negotiate.VMID, effects []negotiate.Effect) error {
	for i := range effects {
		if err := d.persist(effects[i : i+1]); err != nil {
			return err
		}
		d.perform(ctx, s, vm, effects[i:i+1])
	}
	return nil
}
