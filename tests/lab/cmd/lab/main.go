// Command lab makes, uses and removes a lab of hypervisors on this machine.
// See package headroom/tests/lab; «lab help» lists the commands.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"headroom/tests/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	err := root().ExecuteContext(ctx)
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		// A program on a host failed, and has said why itself.
		os.Exit(exit.ExitCode())
	default:
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:           "lab",
		Short:         "Real hypervisors on one machine",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	name := c.PersistentFlags().String("name", lab.DefaultName, "the lab's name")
	c.AddCommand(up(name), down(name), status(name), execute(name), vm(name), link(name), fault(name))
	return c
}
