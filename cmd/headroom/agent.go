package main

import (
	"log/slog"

	"github.com/spf13/cobra"

	"headroom/agent"
	"headroom/agent/config"
)

// agentCmd runs the agent.
type agentCmd struct {
	*env
	config string
}

func (c *agentCmd) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the agent (what the systemd unit starts)",
		Long: `Run the agent until SIGTERM or SIGINT; it stops within five seconds. A migration
that is under way then goes on without it, and the next agent takes it up again.
The log goes to standard error.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(c.config)
			if err != nil {
				return err
			}
			if err := cfg.Check(); err != nil {
				return err
			}
			log := c.logger(cfg.Agent)
			a, closeAll, err := agent.Open(cmd.Context(), cfg, version(), log)
			if err != nil {
				return err
			}
			err = a.Run(cmd.Context())
			return closeAll(err)
		},
	}
	cmd.Flags().StringVar(&c.config, "config", config.DefaultPath, "the configuration file")
	return cmd
}

// logger is the one structured log of the agent.
func (c *agentCmd) logger(a config.Agent) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.LogLevel)); err != nil {
		level = slog.LevelInfo // config.Check has refused this already
	}
	o := &slog.HandlerOptions{Level: level}
	if a.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(c.errOut, o))
	}
	return slog.New(slog.NewTextHandler(c.errOut, o))
}
