package main

import (
	"text/tabwriter"

	"github.com/spf13/cobra"

	"headroom/agent/api"
)

// offersCmd lists the latest offers given and received.
type offersCmd struct {
	*env
	limit int
	vm    string
}

func (c *offersCmd) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "offers",
		Short: "List the latest answers to «could you take this VM?», given and received",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			offers, err := c.client().Offers(cmd.Context(), api.Query{Limit: c.limit, VM: c.vm})
			if err != nil {
				return err
			}
			return c.print(offers, func(w *tabwriter.Writer) {
				row(w, "TIME", "DIRECTION", "PEER", "VM", "ACCEPTS", "FREE CORES", "FREE MIB", "GAIN", "COST", "REASON")
				for _, o := range offers {
					row(w, clock(o.At), o.Direction, o.Peer, o.VM, yesNo(o.Accepts), cores(o.FreeCores), mib(o.FreeMiB),
						opt(o.GainCS, "%.2f"), opt(o.CostCS, "%.2f"), dash(o.Reason))
				}
			})
		},
	}
	addListFlags(cmd, &c.limit, &c.vm)
	return cmd
}

func addListFlags(cmd *cobra.Command, limit *int, vm *string) {
	cmd.Flags().IntVarP(limit, "limit", "n", 20, "how many, newest first (1 to 1000)")
	cmd.Flags().StringVar(vm, "vm", "", "only of this VM (name or UUID)")
}
