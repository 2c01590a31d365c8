package main

import (
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"headroom/agent/api"
)

// vmsCmd lists the host's VMs.
type vmsCmd struct{ *env }

func (c *vmsCmd) command() *cobra.Command {
	return &cobra.Command{
		Use:   "vms",
		Short: "List this host's VMs: CPU used and waited for, forecast, guard",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			vms, err := c.client().VMs(cmd.Context())
			if err != nil {
				return err
			}
			return c.print(vms, func(w *tabwriter.Writer) { vmsTable(w, vms) })
		},
	}
}

func vmsTable(w *tabwriter.Writer, vms []api.VM) {
	row(w, "NAME", "STATE", "VCPU", "MIB", "USED", "WAITED", "P50", "P90", "METHOD", "MODE", "GUARD", "NOTE")
	for _, v := range vms {
		used, waited, note := cores(v.UsedCores), cores(v.WaitCores), v.Busy
		if !v.Measured {
			used, waited, note = absent, absent, v.Why
		}
		if v.GuardWhy != "" {
			note = join(note, "no guard: "+v.GuardWhy)
		}
		for _, h := range v.HotSpots { // the numbers are in `headroom forecast`
			kind, _, _ := strings.Cut(h, ":")
			note = join(note, kind)
		}
		row(w, v.Name, v.State, itoa(v.VCPUs), mib(v.MemoryMiB), used, waited,
			opt(v.PeakP50Cores, "%.2f"), opt(v.PeakP90Cores, "%.2f"), dash(v.Method), v.Mode, dash(v.Guard), dash(note))
	}
}
