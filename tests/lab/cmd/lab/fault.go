package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"headroom/tests/lab"
)

func link(name *string) *cobra.Command {
	c := &cobra.Command{Use: "link", Short: "Cut and heal a host's link"}
	c.AddCommand(
		onHost(name, "cut HOST", "Part a host from the switch; its carrier stays", func(_ context.Context, l *lab.Lab, h *lab.Host) error { return l.CutLink(h) }),
		onHost(name, "heal HOST", "Join a host to the switch again", func(_ context.Context, l *lab.Lab, h *lab.Host) error { return l.HealLink(h) }),
	)
	return c
}

func fault(name *string) *cobra.Command {
	c := &cobra.Command{Use: "fault", Short: "Kill a libvirtd or a guest's QEMU, start libvirtd again, change a quota"}
	var quota float64
	setQuota := onHost(name, "quota HOST", "Bound the CPU of a host's VMs", func(_ context.Context, _ *lab.Lab, h *lab.Host) error { return h.SetQuota(quota) })
	setQuota.Flags().Float64Var(&quota, "cores", 0, "cores (0: no bound)")
	c.AddCommand(
		onHost(name, "kill-libvirtd HOST", "kill -9 a host's libvirtd", func(ctx context.Context, l *lab.Lab, h *lab.Host) error { return l.KillLibvirtd(ctx, h) }),
		onHost(name, "start-libvirtd HOST", "Start a host's libvirtd", func(ctx context.Context, _ *lab.Lab, h *lab.Host) error { return h.StartLibvirtd(ctx) }),
		setQuota,
		&cobra.Command{
			Use:   "kill-qemu VM",
			Short: "kill -9 a guest's process",
			Args:  cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				l, err := lab.Attach(*name)
				if err != nil {
					return err
				}
				return l.KillQEMU(c.Context(), args[0])
			},
		})
	return c
}

// onHost is a command whose one argument is a host.
func onHost(name *string, use, short string, do func(context.Context, *lab.Lab, *lab.Host) error) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := lab.Attach(*name)
			if err != nil {
				return err
			}
			h, err := l.HostByName(args[0])
			if err != nil {
				return err
			}
			if err := do(c.Context(), l, h); err != nil {
				return fmt.Errorf("host %s: %w", h.Name(), err)
			}
			return nil
		},
	}
}
