package negotiate_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"headroom/planner/negotiate"
	"headroom/tests/model"
)

// holds checks one invariant in worlds of drawn size, guards and faults. The
// world checks all; a break of another is that one's to report.
func holds(t *testing.T, invariant string) {
	t.Helper()
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		few := func(name string, most int) uint8 { return uint8(rapid.IntRange(0, most).Draw(t, name)) }
		cfg := model.Config{
			Hosts:    rapid.IntRange(2, 4).Draw(t, "hosts"),
			VMs:      rapid.IntRange(1, 4).Draw(t, "VMs"),
			Capacity: rapid.IntRange(2, 3).Draw(t, "capacity"),
			Guards: rapid.SampledFrom([][]negotiate.Guard{{negotiate.GuardPaused}, {negotiate.GuardLock},
				{negotiate.GuardPaused, negotiate.GuardLock}}).Draw(t, "guards"),
			Limits: negotiate.Limits{MaxIncoming: rapid.IntRange(1, 3).Draw(t, "incoming")},
			Budget: model.Budget{Attempts: 1 + few("attempts", 9), Duplicates: few("duplicates", 5), Cuts: few("cuts", 3),
				Cancels: few("cancels", 2), AgentCrashes: few("agent crashes", 4), LibvirtCrashes: few("libvirt crashes", 3),
				HostCrashes: few("host crashes", 1), JournalFailures: few("journal failures", 2)},
		}
		if broken := simulate(cfg, rapid.Int64().Draw(t, "seed")); strings.HasPrefix(broken, invariant+":") {
			t.Fatal(broken)
		}
	})
}

func TestOneRunner(t *testing.T)        { holds(t, "OneRunner") }
func TestNoStaleResume(t *testing.T)    { holds(t, "StaleResume") }
func TestNoLostVM(t *testing.T)         { holds(t, "NoLostVM") }
func TestSlotConservation(t *testing.T) { holds(t, "SlotConservation") }
func TestNoOvercommit(t *testing.T)     { holds(t, "NoOvercommit") }
func TestTokenMonotonic(t *testing.T)   { holds(t, "TokenMonotonic") }
func TestSettles(t *testing.T)          { holds(t, "Settles") }
