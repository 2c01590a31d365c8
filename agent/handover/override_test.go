package handover

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"headroom/planner/negotiate"
)

// stranded moves the VM until its copy is complete and stopped at b, while a's word
// does not come through.
func (b *bench) stranded() Open {
	b.t.Helper()
	b.mu.Lock()
	b.drop = func(from, _ negotiate.HostID, m negotiate.Message) bool {
		return from == "a" && m.Kind == negotiate.Commit
	}
	b.mu.Unlock()
	if err := b.move("a", "b"); err != nil {
		b.t.Fatal(err)
	}
	time.Sleep(time.Minute) // virtual
	synctest.Wait()
	if r := b.world.Runners(vmID); len(r) > 0 {
		b.t.Fatalf("the VM runs on %v without a Commit", r)
	}
	open := b.nodes["b"].desk.Holdings().Open
	if len(open) != 1 {
		b.t.Fatalf("open at the destination: %+v", open)
	}
	return open[0]
}

// TestOrphanIsListedAndNeverRun: a copy whose source does not speak is shown with
// the time that it waits, raises an alarm, and stands still for as long as that lasts.
func TestOrphanIsListedAndNeverRun(t *testing.T) {
	scenario(t, []negotiate.HostID{"a", "b"}, func(b *bench) {
		o := b.stranded()
		if o.Role != RoleDestination || o.Peer != "a" || o.Here != string(negotiate.CopyPaused) || o.Waits < 30*time.Second || o.Waits > time.Minute || o.Advice == "" {
			t.Errorf("orphan %+v", o)
		}
		if !b.alarmed("waits for a to commit or abort") {
			t.Errorf("no alarm among %+v", b.updates)
		}
		b.kill("b")
		b.start("b")
		time.Sleep(10 * time.Minute) // virtual
		synctest.Wait()
		if r := b.world.Runners(vmID); len(r) > 0 {
			t.Errorf("after a restart and ten minutes the VM runs on %v", r)
		}
		if o := b.nodes["b"].desk.Holdings().Open; len(o) != 1 || o[0].Waits < 9*time.Minute {
			t.Errorf("after a restart: %+v", o)
		}
		b.hear()
		b.wantRunner("b")
		if o := b.nodes["b"].desk.Holdings().Open; len(o) > 0 {
			t.Errorf("settled, and still open: %+v", o)
		}
	})
}

// hear lets messages through again.
func (b *bench) hear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop = nil
}

func (b *bench) alarmed(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, u := range b.updates {
		if strings.Contains(u.Alarm, text) {
			return true
		}
	}
	return false
}

// TestOverride: an operator's word decides what the hosts cannot, is alarmed with
// name and evidence, and is refused where it means nothing.
func TestOverride(t *testing.T) {
	scenario(t, []negotiate.HostID{"a", "b"}, func(b *bench) {
		if err := b.nodes["b"].desk.Override(b.t.Context(), vmID, ActionResume, "me", "a is off"); !errors.Is(err, ErrNothingOpen) {
			t.Errorf("with nothing open: %v", err)
		}
		b.stranded()
		desk := b.nodes["b"].desk
		if err := desk.Override(b.t.Context(), vmID, "restart", "me", "a is off"); !errors.Is(err, ErrNoAction) {
			t.Errorf("an unknown action: %v", err)
		}
		if err := desk.Override(b.t.Context(), vmID, ActionResume, "me", ""); !errors.Is(err, ErrNotNow) {
			t.Errorf("without evidence: %v", err)
		}
		if err := desk.Override(b.t.Context(), vmID, ActionClose, "me", "a is off"); !errors.Is(err, ErrNotNow) {
			t.Errorf("close of a complete copy: %v", err)
		}
		if err := desk.Override(b.t.Context(), vmID, ActionResume, "me", "a is off"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // virtual
		synctest.Wait()
		if r := b.world.Runners(vmID); len(r) != 1 || r[0] != "b" {
			t.Errorf("the VM runs on %v, want b", r)
		}
		if !b.alarmed("me forced commit: a is off") {
			t.Error("the override is not alarmed")
		}
		b.hear()
		b.wantRunner("b")
	})
	scenario(t, []negotiate.HostID{"a", "b"}, func(b *bench) {
		b.stranded()
		if err := b.nodes["b"].desk.Override(b.t.Context(), vmID, ActionDestroy, "me", "it was restored from backup"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // virtual
		synctest.Wait()
		if _, ok, err := b.drivers["b"].Lookup(b.t.Context(), vmID); ok || err != nil {
			t.Errorf("the copy is still there (%v)", err)
		}
	})
}
