package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// exactArgs is cobra.ExactArgs with the usage error of this program.
func exactArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return fmt.Errorf("%w: %s (see %s --help)", errUsage, cmd.UseLine(), cmd.CommandPath())
		}
		return nil
	}
}
