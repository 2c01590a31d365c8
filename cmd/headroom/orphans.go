package main

import (
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"headroom/agent/api"
)

// orphansCmd lists hand-overs that cannot end by themselves, and ends them on the
// operator's word.
type orphansCmd struct {
	*env
	evidence string
}

func (c *orphansCmd) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "orphans",
		Short: "List hand-overs that wait for another host, or force their end",
		Long: `List the hand-overs that this host cannot end alone: the other host does not
answer, and nobody may decide by a time-out which of two copies is the VM. They end by
themselves when the other host or its agent comes back. Where it does not come back, an
operator who knows that it is off (fenced, powered down) decides:

  headroom orphans resume VM   the VM of this host is the VM: it runs here
  headroom orphans destroy VM  the VM of this host is not: it is removed here; a
                               running one is never destroyed
  headroom orphans close VM    the other host is gone for good: stop telling it

--evidence says how you know, and is written to the journal and the log with your name.
Nothing checks it: a VM that still runs on the other host runs twice after resume.`,
		Example: "  headroom orphans\n  headroom orphans resume web1 --evidence 'hv3 powered off by IPMI, 14:02'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := c.client().Orphans(cmd.Context())
			if err != nil {
				return err
			}
			return c.print(list, func(w *tabwriter.Writer) { orphansTable(w, list) })
		},
	}
	cmd.AddCommand(
		c.force("resume", "Make the VM of this host the VM"),
		c.force("destroy", "Remove the VM of this host, which does not run"),
		c.force("close", "Stop telling a host that is gone for good"))
	return cmd
}

func (c *orphansCmd) force(action, short string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   action + " VM --evidence TEXT",
		Short: short,
		Args:  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if c.evidence == "" {
				return fmt.Errorf("%w: say with --evidence how you know that the other host does not run the VM", errUsage)
			}
			r := api.OverrideRequest{Action: action, By: operator(), Evidence: c.evidence}
			if err := c.client().Override(cmd.Context(), args[0], r); err != nil {
				return err
			}
			return c.print(r, func(w *tabwriter.Writer) {
				fmt.Fprintf(w, "%s of %s is in the journal as the word of %s; follow it with `headroom orphans` and `headroom migrations`\n", action, args[0], r.By)
			})
		},
	}
	cmd.Flags().StringVar(&c.evidence, "evidence", "", "how you know that the other host does not run the VM")
	return cmd
}

// operator is who forces, for the journal: whoever called sudo, else the user.
func operator() string {
	for _, key := range []string{"SUDO_USER", "USER", "LOGNAME"} {
		if name := os.Getenv(key); name != "" {
			return name
		}
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}

func orphansTable(w *tabwriter.Writer, list []api.Orphan) {
	row(w, "NAME", "ROLE", "PEER", "ATTEMPT", "STATE", "HERE", "WAITS", "WHAT TO DO")
	for _, o := range list {
		name := o.Name
		if name == "" {
			name = o.VM
		}
		row(w, name, o.Role, o.Peer, fmt.Sprint(o.Attempt), o.State, dash(o.Here), seconds(o.WaitsS), o.Advice)
	}
}
