package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"headroom/agent/api"
)

// membersCmd lists the hosts of the cluster.
type membersCmd struct{ *env }

func (c *membersCmd) command() *cobra.Command {
	return &cobra.Command{
		Use:   "members",
		Short: "List the hosts of the cluster as gossip shows them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			members, err := c.client().Members(cmd.Context())
			if err != nil {
				return err
			}
			return c.print(members, func(w *tabwriter.Writer) { membersTable(w, members) })
		},
	}
}

func membersTable(w *tabwriter.Writer, members []api.Member) {
	row(w, "NAME", "ADDRESS", "STATUS", "PRESSURE", "FREE SLOTS", "INCOMING", "DIGEST AGE", "RTT", "NOTE")
	for _, m := range members {
		note := ""
		if m.Self {
			note = "this host"
		}
		if m.Draining {
			note = join(note, "draining")
		}
		row(w, m.Name, m.Addr, m.Status, opt(m.Pressure, "%.2f"), freeSlots(m.Free), itoa(m.Incoming),
			opt(m.DigestAgeS, "%.0fs"), opt(m.RTTMS, "%.2fms"), dash(note))
	}
}

func freeSlots(free map[string]int) string {
	var parts []string
	for _, class := range sortedKeys(free) {
		parts = append(parts, fmt.Sprintf("%s %d", class, free[class]))
	}
	return dash(strings.Join(parts, ", "))
}
