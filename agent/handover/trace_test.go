package handover

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"headroom/planner/negotiate"
)

// steps are the steps that a bench's desks have told, a line each; kind says which.
func (b *bench) steps(kind func(negotiate.Transition) bool) []string {
	b.t.Helper()
	var out []string
	for line := range strings.Lines(b.log.String()) {
		var r struct {
			Level string
			Msg   string
			Step  negotiate.Transition
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			b.t.Fatal(err)
		}
		if r.Msg != TraceMessage || !kind(r.Step) {
			continue
		}
		if r.Level != "DEBUG" || r.Step.VM != vmID || r.Step.Attempt == 0 || r.Step.Lease == "" && r.Step.From != "idle" {
			b.t.Errorf("step %s at level %s", line, r.Level)
		}
		s := r.Step
		acts := ""
		if len(s.Acts) > 0 {
			acts = ": " + strings.Join(s.Acts, ", ")
		}
		out = append(out, string(s.Host)+" "+s.From+" -["+s.Event+"]-> "+s.To+acts)
	}
	return out
}

// TestDeskTellsItsSteps: the log of a hand-over, over a restart of its source, reads
// like the protocol's table.
func TestDeskTellsItsSteps(t *testing.T) {
	scenario(t, []negotiate.HostID{"a", "b"}, func(b *bench) {
		if err := b.move("a", "b"); err != nil {
			t.Fatal(err)
		}
		b.settle(time.Minute)
		b.wantRunner("b")
		b.kill("a")
		b.start("a")
		time.Sleep(time.Second) // virtual
		synctest.Wait()         // what woke at the same moment may still write
		// The copy is let run when both the commit and libvirt's word that it is
		// paused have come, in either order, and again for as long as it is paused.
		resumed := 0
		got := b.steps(func(s negotiate.Transition) bool {
			resumes := slices.Contains(s.Acts, "resume_copy")
			if resumes {
				resumed++
			}
			return s.From != s.To || len(s.Acts) > 0 && !resumes || s.Event == negotiate.EventRestart
		})
		for i := range got {
			got[i] = strings.TrimSuffix(got[i], ", resume_copy")
		}
		if resumed == 0 {
			t.Error("nothing let the copy run")
		}
		want := []string{
			"a idle -[start]-> reserving: record reserving, send reserve",
			"b none -[reserve]-> held: record held, send granted",
			"a reserving -[granted]-> binding",
			"a binding -[stamped]-> migrating: record migrating, start_migration",
			"b held -[prepare]-> incoming: record incoming, allow_prepare",
			"a migrating -[migrated]-> committing: record committed, send commit",
			"b incoming -[commit]-> committed: record committed",
			"b committed -[copy_running]-> owned: record owned, send ack",
			"a committing -[ack]-> idle: record committed",
			"a committed -[restart]-> idle",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("steps (-want +got):\n%s", diff)
		}
	})
}
