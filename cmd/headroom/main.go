// Command headroom is the whole program: the agent that runs on every
// hypervisor and every command that asks it.
//
// Client commands talk to the local agent's socket only (package agent/api).
// `headroom agent` builds an agent.Agent and runs it until SIGTERM.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the program at once.
	context.AfterFunc(ctx, stop)
	err := newRoot(os.Stdout, os.Stderr).ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "headroom:", err)
	}
	os.Exit(exitCode(err))
}
