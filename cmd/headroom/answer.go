package main

import (
	"text/tabwriter"

	"github.com/spf13/cobra"

	"headroom/agent/api"
)

// answerCmd approves or rejects a decision.
type answerCmd struct {
	*env
	approve bool
}

func (c *answerCmd) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reject ID",
		Short: "Reject a move that waits for approval; its VM stays for a time",
		Long: `Reject a decision that waits for approval (mode approve). Its VM stays on this host
for planner.rejection_holds, also if the host is drained, and another VM may be
proposed instead.`,
		Example: "  headroom decisions\n  headroom reject 1789041600000000000",
	}
	if c.approve {
		cmd.Use, cmd.Short = "approve ID", "Approve a move that waits for approval"
		cmd.Long = `Approve a decision that waits for approval (mode approve). The agent weighs the
move anew in its next round: if it is still wanted, if every rule still allows it
and if a host still takes the VM, it moves, perhaps to another host than the one
shown. Otherwise nothing moves, and the approval lapses after
planner.approval_expires.`
		cmd.Example = "  headroom decisions\n  headroom approve 1789041600000000000"
	}
	cmd.Args = exactArgs(1)
	cmd.ValidArgsFunction = c.complete(c.waiting)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a, err := c.client().Answer(cmd.Context(), args[0], c.approve)
		if err != nil {
			return err
		}
		return c.print(a, func(w *tabwriter.Writer) { answerTable(w, a) })
	}
	return cmd
}

func answerTable(w *tabwriter.Writer, a api.AnswerReply) {
	if a.Approved {
		row(w, "approved: "+a.VMName+" moves in the next round that still wants it, until "+clock(a.Until))
		return
	}
	row(w, "rejected: "+a.VMName+" stays until "+clock(a.Until))
}

// waiting are the decisions that wait for an answer.
func (c *answerCmd) waiting(cmd *cobra.Command) ([]string, error) {
	list, err := c.client().Decisions(cmd.Context(), api.Query{Limit: 100})
	var out []string
	for _, d := range list {
		if d.ExpiresAt != nil && d.Answer == "" {
			out = append(out, d.ID+"\t"+d.VMName+" to "+d.To)
		}
	}
	return out, err
}
