package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"headroom/tests/lab"
)

func up(name *string) *cobra.Command {
	var o lab.Options
	c := &cobra.Command{
		Use:   "up HOSTS",
		Short: "Make a lab of so many hosts",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[0])
			if err != nil {
				return fmt.Errorf("%q is no number of hosts", args[0])
			}
			o.Name, o.Hosts = *name, n
			begun := time.Now()
			l, err := lab.Up(c.Context(), o)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "lab %s is up after %.1f s: %d hosts, %.1f million iterations a core-second\n",
				l.Name(), time.Since(begun).Seconds(), n, l.Rate()/1e6)
			return nil
		},
	}
	c.Flags().Float64Var(&o.Quota, "quota", 0, "cores that each host's VMs may use together (0: no bound)")
	c.Flags().Float64Var(&o.Rate, "rate", 0, "iterations a core-second (0: measure)")
	return c
}

func down(name *string) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "down",
		Short: "Remove every trace of a lab",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			names := []string{*name}
			if all {
				var err error
				if names, err = lab.List(); err != nil {
					return err
				}
			}
			var errs []error
			for _, n := range names {
				errs = append(errs, lab.Down(c.Context(), n))
			}
			return errors.Join(errs...)
		},
	}
	c.Flags().BoolVar(&all, "all", false, "remove every lab of this machine, also what a killed demo or test left")
	return c
}
