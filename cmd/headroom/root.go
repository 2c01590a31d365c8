package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"headroom/agent/api"
	"headroom/agent/config"
)

// Exit codes, also in the help text.
const (
	exitOK = iota
	exitFailed
	exitUsage
	exitNoAgent
	exitNotFound
	exitConflict
)

// errUsage marks a wrong call of the command line.
var errUsage = errors.New("usage")

// errChecksFailed ends a command that has printed its findings itself.
var errChecksFailed = errors.New("checks failed")

func exitCode(err error) int {
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return exitOK
	case errors.Is(err, errUsage), errors.Is(err, api.ErrInvalid):
		return exitUsage
	case errors.Is(err, api.ErrNoAgent):
		return exitNoAgent
	case errors.Is(err, api.ErrNotFound):
		return exitNotFound
	case errors.Is(err, api.ErrConflict):
		return exitConflict
	}
	return exitFailed
}

// env is what every command needs: where to write, and which agent to ask.
type env struct {
	out, errOut io.Writer
	socket      string
	json        bool
}

func (e *env) client() *api.Client { return api.NewClient(e.socket) }

const rootLong = `headroom watches the VMs of this hypervisor, forecasts their demand, and moves
a VM to a peer before contention happens. One agent runs on every hypervisor;
there is no central scheduler.

The commands below ask the local agent's socket. With --json they print the
answer as the agent gave it (described at /v1/openapi.yaml on the socket).

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no agent answers, 4 not found,
5 not possible now.`

func newRoot(out, errOut io.Writer) *cobra.Command {
	e := &env{out: out, errOut: errOut}
	root := &cobra.Command{
		Use:           "headroom",
		Short:         "Moves VMs to a peer before contention happens",
		Long:          rootLong,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version(),
	}
	socket := os.Getenv("HEADROOM_SOCKET")
	if socket == "" {
		socket = config.Default().Agent.Socket
	}
	root.PersistentFlags().StringVar(&e.socket, "socket", socket, "the agent's socket (or HEADROOM_SOCKET)")
	root.PersistentFlags().BoolVar(&e.json, "json", false, "print JSON for programs")
	root.SetOut(out)
	root.SetErr(errOut)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errUsage, err) })
	root.AddGroup(
		&cobra.Group{ID: "ask", Title: "Ask the local agent:"},
		&cobra.Group{ID: "act", Title: "Act:"},
		&cobra.Group{ID: "study", Title: "Study:"},
		&cobra.Group{ID: "host", Title: "Set up a host:"})
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("ask", (&statusCmd{env: e}).command(), (&vmsCmd{env: e}).command(), (&forecastCmd{env: e}).command(), (&backtestCmd{env: e}).command(),
		(&slotsCmd{env: e}).command(), (&membersCmd{env: e}).command(), (&offersCmd{env: e}).command(),
		(&decisionsCmd{env: e}).command(), (&planCmd{env: e}).command(), (&explainCmd{env: e}).command(), (&migrationsCmd{env: e}).command(), (&eventsCmd{env: e}).command())
	add("act", (&migrateCmd{env: e}).command(), (&answerCmd{env: e, approve: true}).command(), (&answerCmd{env: e}).command(),
		(&drainCmd{env: e}).command(), (&undrainCmd{env: e}).command(), (&pauseCmd{env: e}).command(), (&resumeCmd{env: e}).command(),
		(&orphansCmd{env: e}).command())
	add("study", (&simulateCmd{env: e}).command())
	add("host", (&agentCmd{env: e}).command(), (&configCmd{env: e}).command(), (&certCmd{env: e}).command(),
		(&hookCmd{env: e}).command(), (&doctorCmd{env: e}).command())
	return root
}
