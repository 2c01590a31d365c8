package main

import (
	"text/tabwriter"

	"github.com/spf13/cobra"

	"headroom/agent/api"
)

// migrationsCmd lists migrations.
type migrationsCmd struct {
	*env
	limit int
	vm    string
}

func (c *migrationsCmd) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrations",
		Short: "List migrations that this host took part in, running and ended",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := c.client().Migrations(cmd.Context(), api.Query{Limit: c.limit, VM: c.vm})
			if err != nil {
				return err
			}
			return c.print(list, func(w *tabwriter.Writer) { migrationsTable(w, list) })
		},
	}
	addListFlags(cmd, &c.limit, &c.vm)
	return cmd
}

func migrationsTable(w *tabwriter.Writer, list []api.Migration) {
	row(w, "TIME", "VM", "FROM", "TO", "ROLE", "ATTEMPT", "STATE", "COPY", "BLACKOUT", "LEAD", "CAUSE", "REASON")
	for _, m := range list {
		state := m.Phase
		switch {
		case m.Outcome != "":
			state = m.Outcome
		case m.ProgressPercent != nil:
			state += opt(m.ProgressPercent, " %.0f %%")
		}
		row(w, clock(m.Started), m.VMName, m.From, m.To, m.Role, itoa(int(m.Attempt)), state,
			opt(m.CopyS, "%.2fs"), opt(m.BlackoutMS, "%.0fms"), opt(m.LeadS, "%.1fs"), m.Cause, dash(m.Reason))
	}
}
