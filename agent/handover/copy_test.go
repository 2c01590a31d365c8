package handover

import (
	"testing"
	"time"

	"headroom/planner/negotiate"
)

// TestCopyThatDoesNotConvergeIsGivenUp: a VM that writes faster than the link carries
// is not copied for ever: it runs on where it is, in time and with the reason.
func TestCopyThatDoesNotConvergeIsGivenUp(t *testing.T) {
	for _, restart := range []bool{false, true} {
		scenario(t, []negotiate.HostID{"a", "b"}, func(b *bench) {
			b.world.SetDirtyRate(vmID, 1e12)
			if err := b.move("a", "b"); err != nil {
				t.Fatal(err)
			}
			if restart { // the agent that comes back follows the copy again
				time.Sleep(2 * time.Second) // virtual
				b.kill("a")
				b.start("a")
			}
			begun := time.Now()
			r := b.settle(time.Minute)
			if r.Outcome != negotiate.OutcomeAborted {
				t.Errorf("result %+v", r)
			}
			if took := time.Since(begun); took < 4*time.Second || took > 20*time.Second {
				t.Errorf("given up after %v, want some more than 5 s", took)
			}
			if !b.alarmed("does not converge") {
				t.Errorf("no reason among %+v", b.updates)
			}
			b.wantRunner("a")
		})
	}
}
