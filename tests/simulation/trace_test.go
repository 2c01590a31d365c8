package simulation

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"headroom/planner/negotiate"
	"headroom/tests/model"
)

// TestTracesFollowTheProtocol writes every step of some fleets as lines of JSON,
// as an agent's log would, and holds them against the protocol's table.
func TestTracesFollowTheProtocol(t *testing.T) {
	steps := 0
	for seed := uint64(1); seed <= 30; seed++ {
		var log bytes.Buffer
		out := json.NewEncoder(&log)
		r := Run(Config{Seed: seed, Agents: 5 + int(seed), Record: func(tr negotiate.Transition) {
			if err := out.Encode(tr); err != nil {
				t.Fatal(err)
			}
		}})
		if r.Violation != "" {
			t.Fatal(r.Violation)
		}
		n, err := model.ReadTrace(&log)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		steps += n
	}
	t.Logf("%d steps", steps)
}

// TestTraceOfAMutantLeavesTheProtocol: the table sees a Commit without its record.
func TestTraceOfAMutantLeavesTheProtocol(t *testing.T) {
	for seed := range uint64(50) {
		var check model.Trace
		var bad error
		Run(Config{Seed: seed, Agents: 20, Mutant: model.MutantActOnTimeouts, Record: func(tr negotiate.Transition) {
			if err := check.Add(tr); err != nil && bad == nil {
				bad = err
			}
		}})
		if bad != nil {
			if !strings.Contains(bad.Error(), "no source has recorded this Commit") {
				t.Fatal(bad)
			}
			return
		}
	}
	t.Fatal("not seen in 50 seeds")
}
