package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"headroom/tests/lab"
)

func status(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show a lab's hosts, and the labs there are",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			out := c.OutOrStdout()
			names, err := lab.List()
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "labs: %v\n", names)
			l, err := lab.Attach(*name)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%s: %.1f million iterations a core-second\n", l.Name(), l.Rate()/1e6)
			return printHosts(out, l)
		},
	}
}

func printHosts(out io.Writer, l *lab.Lab) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "HOST\tADDRESS\tMACHINE-ID\tQUOTA\tLIBVIRTD\tDIR")
	for _, h := range l.Hosts() {
		pid, err := h.LibvirtdPID()
		if err != nil {
			return err
		}
		libvirtd := "down"
		if pid > 0 {
			libvirtd = fmt.Sprint(pid)
		}
		quota := "none"
		if q := l.Quota(); q > 0 {
			quota = fmt.Sprint(q)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", h.Name(), h.Addr(), h.MachineID(), quota, libvirtd, h.Dir())
	}
	return w.Flush()
}
