package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"headroom/agent/api"
)

// eventsCmd follows the event stream.
type eventsCmd struct {
	*env
	follow bool
	count  int
}

// errEnough ends the stream when the user has what was asked for.
var errEnough = errors.New("enough events")

func (c *eventsCmd) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Follow the agent's events and the cluster's news",
		Example: `  headroom events --follow
  headroom events --follow --json | jq -r 'select(.kind=="news") | .text'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			left := c.count
			if !c.follow && left == 0 {
				return fmt.Errorf("%w: events are a stream from now on: give --follow, or --count N to stop after N", errUsage)
			}
			err := c.client().Events(cmd.Context(), func(ev api.Event) error {
				if err := c.show(ev); err != nil {
					return err
				}
				if left--; left == 0 {
					return errEnough
				}
				return nil
			})
			if errors.Is(err, errEnough) {
				return nil
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&c.follow, "follow", "f", false, "follow until interrupted")
	cmd.Flags().IntVar(&c.count, "count", 0, "stop after this many events")
	return cmd
}

// show prints one event: a line for people, or one JSON object a line.
func (c *eventsCmd) show(ev api.Event) error {
	var err error
	if c.json {
		err = json.NewEncoder(c.out).Encode(ev)
	} else {
		_, err = fmt.Fprintf(c.out, "%s  %-18s %-12s %s\n", clock(ev.At), ev.Kind, dash(ev.Host), ev.Text)
	}
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}
