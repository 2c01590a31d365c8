package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// slotsCmd lists the host's shadow slots.
type slotsCmd struct{ *env }

func (c *slotsCmd) command() *cobra.Command {
	return &cobra.Command{
		Use:   "slots",
		Short: "List this host's shadow slots: how many more VMs of each class fit",
		Long: `A shadow slot is a promise in metadata: «one more VM of this class fits here
until then, with this probability», after the growth that is forecast for the
VMs already here. Nothing is instantiated for it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			slots, err := c.client().Slots(cmd.Context())
			if err != nil {
				return err
			}
			return c.print(slots, func(w *tabwriter.Writer) {
				row(w, "CLASS", "VCPU", "MIB", "FREE", "PROBABILITY", "UNTIL", "LIMITED BY")
				for _, s := range slots {
					row(w, s.Class, fmt.Sprintf("%g", s.VCPU), mib(s.MemoryMiB), itoa(s.Free), fmt.Sprintf("%.2f", s.Probability), clock(s.Until), dash(s.Why))
				}
			})
		},
	}
}
