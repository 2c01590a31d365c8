package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"headroom/agent/api"
)

// decisionsCmd lists decisions, or shows one with all its reasons.
type decisionsCmd struct {
	*env
	limit int
	vm    string
}

func (c *decisionsCmd) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "decisions [ID]",
		Short: "List the latest decisions, also those to stay; with ID show one whole",
		Example: `  headroom decisions
  headroom decisions --vm web1
  headroom decisions 01K9X4            # the cost terms and each refused destination`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				d, err := c.client().Decision(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return c.print(d, func(w *tabwriter.Writer) { decisionTable(w, d) })
			}
			list, err := c.client().Decisions(cmd.Context(), api.Query{Limit: c.limit, VM: c.vm})
			if err != nil {
				return err
			}
			return c.print(list, func(w *tabwriter.Writer) { decisionsTable(w, list) })
		},
	}
	addListFlags(cmd, &c.limit, &c.vm)
	return cmd
}

func decisionsTable(w *tabwriter.Writer, list []api.Decision) {
	row(w, "TIME", "ID", "VERDICT", "VM", "TO", "GAIN", "COST", "TIMES", "REASON")
	for _, d := range list {
		row(w, clock(d.LastAt), d.ID, d.Verdict, dash(d.VMName), dash(d.To), opt(d.GainCS, "%.2f"), opt(d.CostCS, "%.2f"),
			itoa(d.Repeats+1), d.Reason)
	}
}

func orAnswer(answer, otherwise string) string {
	if answer == "" {
		return otherwise
	}
	return answer
}

func decisionTable(w *tabwriter.Writer, d api.Decision) {
	row(w, "Decision:", d.ID)
	row(w, "Time:", clock(d.At))
	if d.Repeats > 0 {
		row(w, "", fmt.Sprintf("and %d times more until %s", d.Repeats, clock(d.LastAt)))
	}
	row(w, "Verdict:", d.Verdict)
	row(w, "VM:", dash(d.VMName))
	if d.To != "" {
		row(w, "Move:", d.From+" -> "+d.To)
	}
	row(w, "Reason:", d.Reason)
	row(w, "Contention predicted at:", optTime(d.ContentionAt))
	row(w, "Gain, cost:", opt(d.GainCS, "%.3f")+", "+opt(d.CostCS, "%.3f")+" core-seconds")
	row(w, "What would change it:", dash(d.Counterfactual))
	if d.ExpiresAt != nil {
		row(w, "Waits for approval until:", clock(*d.ExpiresAt)+"; "+orAnswer(d.Answer, "`headroom approve "+d.ID+"` or reject"))
	}
	row(w, "Outcome:", dash(d.Outcome))
	if len(d.Considered) == 0 {
		return
	}
	row(w)
	consideredTable(w, d.Considered)
}

// consideredTable lists the VMs and hosts that a decision looked at.
func consideredTable(w *tabwriter.Writer, list []api.Considered) {
	row(w, "VM", "HOST", "CHOSEN", "GAIN", "COST", "REASON")
	for _, o := range list {
		row(w, dash(o.VM), dash(o.Host), yesNo(o.Chosen), opt(o.GainCS, "%.3f"), opt(o.CostCS, "%.3f"), o.Reason)
		for _, t := range o.Terms {
			row(w, "", "", "", "", fmt.Sprintf("%.3f", t.CoreSeconds), t.Name+" "+t.Detail)
		}
	}
}
