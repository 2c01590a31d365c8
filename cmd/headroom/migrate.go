package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// migrateCmd moves a VM on the operator's word.
type migrateCmd struct {
	*env
	to string
}

func (c *migrateCmd) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate VM",
		Short: "Move a VM to a peer by the same negotiation, now",
		Long: `Move a VM to a peer: the peer is asked, grants a lease, and the VM is
live-migrated. Without --to the agent asks the feasible hosts and takes the
cheapest. The hard constraints hold (memory, CPU model, pools, pinning); the
thresholds and the cool-down, which protect from needless moves, do not: you
have decided. The command returns when the attempt has started.`,
		Example: "  headroom migrate web1\n  headroom migrate web1 --to hv3\n  headroom migrations",
		Args:    exactArgs(1),

		ValidArgsFunction: c.complete(c.vmNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := c.client().Migrate(cmd.Context(), args[0], c.to)
			if err != nil {
				return err
			}
			return c.print(r, func(w *tabwriter.Writer) {
				to := "a host that the agent chooses"
				if r.To != "" {
					to = r.To
				}
				fmt.Fprintf(w, "attempt %d to move %s to %s has started; follow it with `headroom migrations` or `headroom events --follow`\n", r.Attempt, args[0], to)
			})
		},
	}
	cmd.Flags().StringVar(&c.to, "to", "", "the destination host (name or id)")
	return cmd
}
