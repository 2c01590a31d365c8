package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"headroom/planner/negotiate"
)

// Logged is one step as an agent's log tells it: the message and key are
// agent/handover's TraceMessage and TraceKey.
type Logged struct {
	Time time.Time             `json:"time"` // when its record was durable
	Step *negotiate.Transition `json:"step"` // never nil
}

// Steps reads the steps that agents have logged, each in JSON at level debug. Those of
// several hosts follow each other by the time of their records, so the hosts must
// share a clock. Lines that tell no step are passed over.
func Steps(logs ...[]byte) ([]Logged, error) {
	var all []Logged
	for _, log := range logs {
		for line := range bytes.Lines(log) {
			if !bytes.Contains(line, []byte(`"hand-over step"`)) {
				continue
			}
			var l Logged
			if err := json.Unmarshal(line, &l); err != nil {
				return nil, fmt.Errorf("log line %q: %w", line, err)
			}
			if l.Step != nil {
				all = append(all, l)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Logged) int { return a.Time.Compare(b.Time) })
	return all, nil
}

// ReadLogs holds the steps that agents have logged of one run against the protocol's
// table, and returns how many they are.
func ReadLogs(logs ...[]byte) (int, error) {
	all, err := Steps(logs...)
	if err != nil {
		return 0, err
	}
	var c Trace
	for _, l := range all {
		if err := c.Add(*l.Step); err != nil {
			return c.Steps, fmt.Errorf("step %d, at %s: %w", c.Steps, l.Time.Format("15:04:05.000000"), err)
		}
	}
	return c.Steps, nil
}
