package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"headroom/planner/negotiate"
)

// logged is the part of an agent's log record that a trace is read from: the message
// and key are agent/handover's TraceMessage and TraceKey.
type logged struct {
	Time time.Time             `json:"time"`
	Msg  string                `json:"msg"`
	Step *negotiate.Transition `json:"step"`
}

// ReadLogs holds what agents have logged of one run, each in JSON at level debug,
// against the protocol's table, and returns how many steps they told. Steps of
// several hosts follow each other by the time of their records, so the hosts must
// share a clock. Lines that tell no step are passed over.
func ReadLogs(logs ...[]byte) (int, error) {
	var all []logged
	for _, log := range logs {
		for line := range bytes.Lines(log) {
			if !bytes.Contains(line, []byte(`"hand-over step"`)) {
				continue
			}
			var l logged
			if err := json.Unmarshal(line, &l); err != nil {
				return 0, fmt.Errorf("log line %q: %w", line, err)
			}
			if l.Step == nil {
				continue
			}
			all = append(all, l)
		}
	}
	slices.SortStableFunc(all, func(a, b logged) int { return a.Time.Compare(b.Time) })
	var c Trace
	for _, l := range all {
		if err := c.Add(*l.Step); err != nil {
			return c.Steps, fmt.Errorf("step %d, at %s: %w", c.Steps, l.Time.Format("15:04:05.000000"), err)
		}
	}
	return c.Steps, nil
}
