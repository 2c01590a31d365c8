package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"headroom/agent/api"
)

// pollEvery is how often a waiting command asks the agent.
const pollEvery = 500 * time.Millisecond

// drainCmd empties this host.
type drainCmd struct {
	*env
	reason  string
	wait    bool
	timeout time.Duration
}

func (c *drainCmd) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "Empty this host: its VMs leave one after another, and it takes none",
		Long: `Empty this host for maintenance. Its VMs leave by the same negotiation as any
move, the hardest to place first, and fill their new hosts up to HIGH instead of
LOW; the mode, the cool-down and the gain do not hold them back, since you have
decided. Pinned VMs, VMs with a running backup or block job, and VMs that fit
nowhere stay and are named. VMs that are shut off stay.

The order holds until ` + "`headroom undrain`" + `, also over restarts of agent and host.
With --wait the command returns when the host is empty; exit code 5 if that is
not so within --timeout.`,
		Example: "  headroom drain --reason 'new disks' --wait && systemctl reboot\n  headroom undrain",
		Args:    exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := c.client().SetDrain(cmd.Context(), true, c.reason)
			if err == nil && c.wait {
				d, err = c.await(cmd.Context())
			}
			if err != nil {
				return err
			}
			return c.print(d, func(w *tabwriter.Writer) { drainTable(w, d) })
		},
	}
	cmd.Flags().StringVar(&c.reason, "reason", "", "why, for whoever looks later")
	cmd.Flags().BoolVar(&c.wait, "wait", false, "return when the host is empty")
	cmd.Flags().DurationVar(&c.timeout, "timeout", time.Hour, "with --wait: give up after this time; the drain goes on")
	return cmd
}

// await polls until the host is empty, and tells of each change on the way.
func (c *drainCmd) await(ctx context.Context) (api.Drain, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	last := ""
	var d api.Drain
	err := poll(ctx, func() (done bool, err error) {
		if d, err = c.client().Drain(ctx); err != nil {
			return false, err
		}
		if !d.Draining {
			return false, fmt.Errorf("%w: somebody took the drain back", api.ErrConflict)
		}
		if line := drainLine(d); line != last && !d.Done() {
			last = line
			fmt.Fprintln(c.errOut, line) // progress: nothing depends on it
		}
		return d.Done(), nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: not empty after %s: %s", api.ErrConflict, c.timeout, drainLine(d))
	}
	return d, err
}

// poll calls fn until it is done or fails, or ctx ends.
func poll(ctx context.Context, fn func() (done bool, err error)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		done, err := fn()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if done || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// drainLine is how far a drain is, on one line.
func drainLine(d api.Drain) string {
	if !d.Known {
		return join("the hypervisor has not told its VMs yet", d.Note)
	}
	text := fmt.Sprintf("%d VMs here, %d of them leaving", d.VMs, d.Outgoing)
	if d.Arriving > 0 {
		text += fmt.Sprintf(", %d still arriving", d.Arriving)
	}
	return join(text, d.Note)
}

func drainTable(w *tabwriter.Writer, d api.Drain) {
	switch {
	case !d.Draining:
		row(w, "this host is not drained: it gives and takes VMs")
	case d.Done():
		row(w, "this host is drained and empty; `headroom undrain` lets it take VMs again")
	default:
		row(w, "this host is being drained: "+drainLine(d))
	}
}

// undrainCmd takes the order to empty this host back.
type undrainCmd struct{ *env }

func (c *undrainCmd) command() *cobra.Command {
	return &cobra.Command{
		Use:   "undrain",
		Short: "Let this host take VMs again",
		Long:  "Take `headroom drain` back. VMs that have left do not come back by themselves; a move that runs finishes.",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := c.client().SetDrain(cmd.Context(), false, "")
			if err != nil {
				return err
			}
			return c.print(d, func(w *tabwriter.Writer) { drainTable(w, d) })
		},
	}
}
