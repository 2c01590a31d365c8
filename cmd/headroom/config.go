package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"headroom/agent/config"
)

// configCmd checks configuration files.
type configCmd struct{ *env }

func (c *configCmd) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check a configuration file",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "check [FILE]",
		Short: "Report every problem of a configuration file with its line",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			path := config.DefaultPath
			if len(args) == 1 {
				path = args[0]
			}
			cfg, err := config.Load(path)
			if err != nil {
				return err
			}
			if err := cfg.Check(); err != nil {
				return err
			}
			fmt.Fprintf(c.out, "%s: no problem found\n", path)
			return nil
		},
	})
	return cmd
}
