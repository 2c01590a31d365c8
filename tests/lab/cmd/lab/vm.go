package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"headroom/tests/lab"
)

func vm(name *string) *cobra.Command {
	c := &cobra.Command{Use: "vm", Short: "Make and watch guests"}
	c.AddCommand(vmCreate(name), vmDestroy(name), vmList(name), vmProgress(name))
	return c
}

func vmCreate(name *string) *cobra.Command {
	var o lab.VMOptions
	c := &cobra.Command{
		Use:   "create HOST NAME",
		Short: "Make a guest and wait until its script has begun",
		Long: `Make a guest and wait until its script has begun.

A demand script is parts joined by "+", in cores and times:
  constant:0.2              ramp:FROM,TO,AFTER,DURATION (ramp:0.1,0.4,25s,35s)
  sine:MEAN,AMPLITUDE,PERIOD  burst:BASE,PEAK,PERIOD,WIDTH  noise:SD[,SEED]`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := lab.Attach(*name)
			if err != nil {
				return err
			}
			h, err := l.HostByName(args[0])
			if err != nil {
				return err
			}
			o.Name = args[1]
			made, err := l.CreateVM(c.Context(), h, o)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s runs on %s, booted in %.1f s\n", made.Name, h.Name(), made.Boot.Seconds())
			return nil
		},
	}
	c.Flags().IntVar(&o.Memory, "memory", lab.DefaultMemory, "MiB")
	c.Flags().IntVar(&o.VCPUs, "vcpus", 1, "virtual CPUs")
	c.Flags().StringVar(&o.Demand, "demand", "constant:0", "demand script")
	return c
}

func vmDestroy(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "destroy NAME",
		Short: "End a guest and forget it",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := lab.Attach(*name)
			if err != nil {
				return err
			}
			return l.DestroyVM(c.Context(), args[0])
		},
	}
}

func vmList(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the guests on each host, as libvirt sees them",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := lab.Attach(*name)
			if err != nil {
				return err
			}
			domains, err := l.Domains(c.Context())
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "VM\tHOST\tSTATE\tDEMAND")
			for _, d := range domains {
				made, _ := l.VM(d.Name) // one that CreateVM did not make has no script
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", d.Name, d.Host, d.State, made.Demand)
			}
			w.Flush()
			return err
		},
	}
}

func vmProgress(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "progress [NAME...]",
		Short: "Show what guests have done and lost, in core-seconds",
		RunE: func(c *cobra.Command, args []string) error {
			l, err := lab.Attach(*name)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				vms, err := l.VMs()
				if err != nil {
					return err
				}
				for _, v := range vms {
					args = append(args, v.Name)
				}
			}
			return printProgress(c.OutOrStdout(), l, args)
		},
	}
}

func printProgress(out io.Writer, l *lab.Lab, names []string) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "VM\tGUEST s\tDEMANDED\tDONE\tLOST\tWALL s\tDEMANDED\tLOST\tLIVE")
	for _, n := range names {
		p, err := l.Progress(n)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\t%.1f\t%.2f\t%.2f\t%.2f\t%.1f\t%.2f\t%.2f\t%t\n", p.VM, p.Elapsed.Seconds(),
			p.Demanded, p.Done, p.Lost, p.Wall.Seconds(), p.WallDemanded, p.WallLost, p.Live)
	}
	return w.Flush()
}
