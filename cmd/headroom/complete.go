package main

import "github.com/spf13/cobra"

// complete makes the shell complete a command's only argument with what the
// agent knows. Without an agent nothing is offered: a shell shows no errors.
func (e *env) complete(words func(*cobra.Command) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		list, err := words(cmd)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return list, cobra.ShellCompDirectiveNoFileComp
	}
}

// vmNames are the names of the host's VMs.
func (e *env) vmNames(cmd *cobra.Command) ([]string, error) {
	vms, err := e.client().VMs(cmd.Context())
	var out []string
	for _, vm := range vms {
		out = append(out, vm.Name)
	}
	return out, err
}
