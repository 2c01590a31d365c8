package main

import (
	"os"

	"github.com/spf13/cobra"

	"headroom/tests/lab"
)

func execute(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "exec HOST -- COMMAND [ARGUMENT...]",
		Short: "Run a program on a host",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := lab.Attach(*name)
			if err != nil {
				return err
			}
			h, err := l.HostByName(args[0])
			if err != nil {
				return err
			}
			run := h.Command(c.Context(), args[1:]...)
			run.Stdin, run.Stdout, run.Stderr = os.Stdin, os.Stdout, os.Stderr
			return run.Run()
		},
	}
}
