package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"headroom/agent/config"
	"headroom/agent/hook"
	"headroom/agent/hypervisor"
)

// hookCmd is libvirt's qemu hook, and its installation.
type hookCmd struct {
	*env
	dir, config string
	byHand      string
}

func (c *hookCmd) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hook",
		Short: "libvirt's qemu hook: a VM comes in by migration only under a lease",
		Long: `libvirt runs its qemu hook for every operation on every VM of the host. headroom's
refuses one operation alone: an incoming migration of a VM that headroom moves and
that this host's agent has granted no lease for. libvirt then cancels the migration,
and the VM keeps running at its source.

A VM without headroom's stamp, moved by hand with virsh, is let in, also while the
agent is dead; with handover.by_hand = "refuse" it is not. Every other operation is
always let through.

Hooks that are there already stay: libvirt from 6.5 on runs every program in
/etc/libvirt/hooks/qemu.d. An older libvirt runs one alone; if there is one, install
says what to put into it, and changes nothing.`,
	}
	install := c.sub("install", "Install the hook, or bring it up to date", c.install)
	remove := c.sub("remove", "Remove the hook, and nobody else's", c.remove)
	status := c.sub("status", "Say whether the hook is installed, and beside which others", c.status)
	run := &cobra.Command{
		Use:    "run VM OPERATION SUB-OPERATION EXTRA",
		Short:  "Answer libvirt: what the installed hook calls, with the VM's XML on standard input",
		Args:   cobra.ArbitraryArgs, // what libvirt may add one day must not fail
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return hook.Judge(cmd.Context(), args, cmd.InOrStdin(), c.client(), hook.ByHand(c.byHand))
		},
	}
	run.Flags().StringVar(&c.byHand, "by-hand", string(hook.ByHandAllow), "a VM without a lease while the agent is dead: allow or refuse")
	run.Flags().SetInterspersed(false)
	cmd.AddCommand(install, remove, status, run)
	return cmd
}

func (c *hookCmd) sub(use, short string, fn func() error) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return fn() }}
	cmd.Flags().StringVar(&c.dir, "dir", hook.DefaultDir, "libvirt's folder of hooks")
	cmd.Flags().StringVar(&c.config, "config", config.DefaultPath, "the agent's configuration: its socket and handover.by_hand")
	return cmd
}

// place is where the hook belongs on this host.
func (c *hookCmd) place() (hook.Place, error) {
	cfg, err := config.Load(c.config)
	if err != nil {
		return hook.Place{}, err
	}
	return hookPlace(c.dir, cfg)
}

func hookPlace(dir string, cfg config.Config) (hook.Place, error) {
	version, err := hypervisor.LibraryVersion()
	if err != nil {
		return hook.Place{}, err
	}
	program, err := os.Executable()
	if err != nil {
		return hook.Place{}, fmt.Errorf("path of this program: %w", err)
	}
	return hook.Place{Dir: dir, Version: version, Program: program, Socket: cfg.Agent.Socket, ByHand: hook.ByHand(cfg.Handover.ByHand)}, nil
}

func (c *hookCmd) install() error {
	p, err := c.place()
	if err != nil {
		return err
	}
	changed, first, err := p.Install()
	if err != nil {
		return err
	}
	result := struct {
		Path    string `json:"path"`
		Changed bool   `json:"changed"`
		Restart bool   `json:"restart_libvirtd"`
	}{p.Path(), changed, first}
	return c.print(result, func(w *tabwriter.Writer) {
		switch {
		case !changed:
			fmt.Fprintf(w, "%s is installed already\n", p.Path())
		case first:
			fmt.Fprintf(w, "installed %s\nThis is the host's first qemu hook: libvirtd looks for hooks when it starts, so restart it now\n"+
				"(systemctl restart libvirtd, or virtqemud; running VMs are not touched).\n", p.Path())
		default:
			fmt.Fprintf(w, "installed %s\n", p.Path())
		}
	})
}

func (c *hookCmd) remove() error {
	gone, err := hook.Place{Dir: c.dir}.Remove()
	if err != nil {
		return err
	}
	return c.print(append([]string{}, gone...), func(w *tabwriter.Writer) {
		if len(gone) == 0 {
			fmt.Fprintln(w, "no hook of headroom's is installed")
			return
		}
		fmt.Fprintf(w, "removed %s; libvirtd needs no restart\n", strings.Join(gone, ", "))
	})
}

func (c *hookCmd) status() error {
	p, err := c.place()
	if err != nil {
		return err
	}
	s, err := p.Status()
	if err != nil {
		return err
	}
	return c.print(s, func(w *tabwriter.Writer) {
		row(w, s.Path, hookWords(s))
		for _, path := range s.Others {
			row(w, path, "another's, left alone")
		}
	})
}

// hookWords says in words what stands at the hook's place.
func hookWords(s hook.State) string {
	switch {
	case s.Foreign:
		return "another's; `headroom hook install` says what to put into it"
	case !s.Installed:
		return "not installed; run `headroom hook install`"
	case !s.Current:
		return "installed, and out of date; run `headroom hook install`"
	}
	return "installed"
}
