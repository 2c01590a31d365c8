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

// awareLimit is how long --wait waits for all live hosts to know of an order.
const awareLimit = time.Minute

// pauseCmd lets no move begin in the whole cluster.
type pauseCmd struct {
	*env
	reason string
	lasts  time.Duration
	wait   bool
}

func (c *pauseCmd) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pause",
		Short: "Let no move begin in the whole cluster; moves that run finish",
		Long: `Let no host of the cluster begin a move, drains included. Moves that run finish;
sampling, forecasts and decisions go on and are recorded. ` + "`headroom migrate`" + ` is a
person's own word and still works.

Each agent keeps the order on its disk. One that was down learns it from its peers
when it comes back. The latest of pause and resume counts, wherever it was given.`,
		Example: "  headroom pause --reason 'core switch is replaced' --for 2h\n  headroom resume",
		Args:    exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.lasts < 0 {
				return fmt.Errorf("%w: --for %s: give a time from now on", errUsage, c.lasts)
			}
			p, err := c.client().SetPause(cmd.Context(), true, c.reason, c.lasts)
			if err != nil {
				return err
			}
			return c.told(cmd.Context(), p, c.wait)
		},
	}
	cmd.Flags().StringVar(&c.reason, "reason", "", "why, for whoever looks later")
	cmd.Flags().DurationVar(&c.lasts, "for", 0, "resume by itself after this time (default: when somebody resumes)")
	addAwareFlag(cmd, &c.wait)
	return cmd
}

func addAwareFlag(cmd *cobra.Command, wait *bool) {
	cmd.Flags().BoolVar(wait, "wait", false, "return when every live host knows of it (exit code 5 if not within "+awareLimit.String()+")")
}

// resumeCmd takes a pause back.
type resumeCmd struct {
	*env
	wait bool
}

func (c *resumeCmd) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resume",
		Short: "Let moves begin again in the whole cluster",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := c.client().SetPause(cmd.Context(), false, "", 0)
			if err != nil {
				return err
			}
			return c.told(cmd.Context(), p, c.wait)
		},
	}
	addAwareFlag(cmd, &c.wait)
	return cmd
}

// told prints an order, after every live host knows of it if wait says so.
func (e *env) told(ctx context.Context, p api.Pause, wait bool) error {
	if wait {
		ctx, cancel := context.WithTimeout(ctx, awareLimit)
		defer cancel()
		mine := p.Version
		err := poll(ctx, func() (bool, error) {
			var err error
			p, err = e.client().Pause(ctx)
			return p.Version >= mine && p.Aware == p.Hosts, err
		})
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("%w: %d of %d hosts know of the order after %s", api.ErrConflict, p.Aware, p.Hosts, awareLimit)
		}
		if err != nil {
			return err
		}
	}
	return e.print(p, func(w *tabwriter.Writer) { row(w, pauseLine(p)) })
}

// pauseLine is the state of the cluster's pause, on one line.
func pauseLine(p api.Pause) string {
	know := fmt.Sprintf("%d of %d hosts know", p.Aware, p.Hosts)
	switch {
	case p.Version == 0 && p.Held == "":
		return "moves may begin"
	case !p.Paused && p.Held != "": // gossip tells of an order that is not known yet
		return "held: " + p.Held
	case !p.Paused:
		return fmt.Sprintf("moves may begin, on the word of %s; %s", dash(p.Host), know)
	}
	text := "paused on " + dash(p.Host)
	if p.Reason != "" {
		text += " (" + p.Reason + ")"
	}
	if p.Until != nil {
		text += " until " + clock(*p.Until)
	}
	return text + "; " + know
}
