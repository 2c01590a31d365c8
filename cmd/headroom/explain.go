package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"headroom/agent/api"
)

// explainCmd tells why.
type explainCmd struct{ *env }

func (c *explainCmd) command() *cobra.Command {
	return &cobra.Command{
		Use:   "explain VM|DECISION",
		Short: "Tell why a VM stays or moved, or why a decision was made",
		Long: `Tell in whole sentences why the last decision about a VM, or a decision by its id,
was made: what decided, the largest cost, what would have made it the other way
round, why other hosts were refused, and, some time later, whether it came out as
predicted.`,
		Example: "  headroom explain web1\n  headroom explain 1789041600000000000 --json | jq .deciding",
		Args:    exactArgs(1),

		ValidArgsFunction: c.complete(c.vmNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			x, err := c.client().Explain(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.print(x, func(w *tabwriter.Writer) {
				story(w, x.Text)
				row(w, "Decision: "+x.Decision.ID)
				row(w, learnedLine(x.Learned))
			})
		},
	}
}

func story(w *tabwriter.Writer, text []string) {
	for _, line := range text {
		row(w, line)
	}
}

// learnedLine is what earlier migrations taught, on one line.
func learnedLine(l api.Learned) string {
	if l.Migrations == 0 {
		return "Learned: nothing yet: no migration from this host has ended well."
	}
	text := fmt.Sprintf("Learned from %d migrations: predicted copy times are multiplied by %.2f, pauses by %.2f",
		l.Migrations, l.CopyFactor, l.BlackoutFactor)
	for i, e := range l.Links {
		if i == 3 {
			text += fmt.Sprintf("; and %d more peers", len(l.Links)-i)
			break
		}
		text += fmt.Sprintf("; %s takes %.0f MiB/s", e.Peer, e.MiBPerS)
	}
	return text + fmt.Sprintf("; %d of %d moves failed in the last day.", l.Failed, l.Moves)
}

// planCmd shows what the agent would do now.
type planCmd struct{ *env }

func (c *planCmd) command() *cobra.Command {
	return &cobra.Command{
		Use:   "plan",
		Short: "Show what the agent would do now, and why; nothing is started",
		Long: `Make a round on trial: the same decision as the agent's next round, with the same
live probe of three peers. Nothing is started and nothing is recorded. Which peers
are asked is drawn at random, as in a real round.`,
		Example: "  headroom plan\n  headroom plan --json | jq .decision.considered",
		Args:    exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := c.client().Plan(cmd.Context())
			if err != nil {
				return err
			}
			return c.print(p, func(w *tabwriter.Writer) {
				story(w, p.Text)
				row(w, learnedLine(p.Learned))
				if len(p.Decision.Considered) > 0 {
					row(w)
					consideredTable(w, p.Decision.Considered)
				}
			})
		},
	}
}
