package handover

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"headroom/agent/hypervisor"
	"headroom/planner/negotiate"
)

// held makes b hold a lease for the VM that a wants to move, and keeps a from
// hearing of it.
func (b *bench) held() negotiate.Lease {
	b.t.Helper()
	b.mu.Lock()
	b.drop = func(_, _ negotiate.HostID, m negotiate.Message) bool { return m.Kind == negotiate.Granted }
	b.mu.Unlock()
	if err := b.move("a", "b"); err != nil {
		b.t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // virtual
	synctest.Wait()
	l := b.nodes["b"].desk.Holdings().Leases
	if len(l) != 1 {
		b.t.Fatalf("leases %+v", l)
	}
	return l[0]
}

// TestHookRefusesStale: only the VM with the lease that is held now, from the host
// that it was given to, comes in, and once.
func TestHookRefusesStale(t *testing.T) {
	valid := func(l negotiate.Lease) negotiate.PrepareCheck {
		return negotiate.PrepareCheck{VM: l.VM, Source: l.Source, Attempt: l.Attempt, Lease: l.Lease}
	}
	for _, c := range []struct {
		name string
		ask  func(*bench, negotiate.Lease) negotiate.PrepareCheck
		says string // "" for yes
	}{
		{"held", func(_ *bench, l negotiate.Lease) negotiate.PrepareCheck { return valid(l) }, ""},
		{"expired", func(_ *bench, l negotiate.Lease) negotiate.PrepareCheck {
			time.Sleep(31 * time.Second) // virtual
			return valid(l)
		}, "the lease is released"},
		{"twice", func(b *bench, l negotiate.Lease) negotiate.PrepareCheck {
			if err := b.nodes["b"].desk.Incoming(b.t.Context(), valid(l)); err != nil {
				t.Error(err)
			}
			return valid(l)
		}, "the lease is incoming"},
		{"another VM", func(_ *bench, l negotiate.Lease) negotiate.PrepareCheck {
			p := valid(l)
			p.VM = "00000000-0000-4000-8000-000000000002"
			return p
		}, "is not known here"},
		{"another lease", func(_ *bench, l negotiate.Lease) negotiate.PrepareCheck {
			p := valid(l)
			p.Lease += "0"
			return p
		}, "is not known here"},
		{"another attempt", func(_ *bench, l negotiate.Lease) negotiate.PrepareCheck {
			p := valid(l)
			p.Attempt++
			return p
		}, "is not known here"},
		{"another source", func(_ *bench, l negotiate.Lease) negotiate.PrepareCheck {
			p := valid(l)
			p.Source = "c"
			return p
		}, "was given to a"},
		{"by hand during a hand-over", func(_ *bench, l negotiate.Lease) negotiate.PrepareCheck {
			return negotiate.PrepareCheck{VM: l.VM}
		}, "its hand-over from a is held"},
		{"the rest of an attempt that was given up", func(_ *bench, l negotiate.Lease) negotiate.PrepareCheck {
			time.Sleep(31 * time.Second) // virtual
			return negotiate.PrepareCheck{VM: l.VM, Source: "a", Attempt: l.Attempt}
		}, "was given up"},
		{"by hand", func(*bench, negotiate.Lease) negotiate.PrepareCheck {
			return negotiate.PrepareCheck{VM: "00000000-0000-4000-8000-000000000002"}
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			scenario(t, []negotiate.HostID{"a", "b"}, func(b *bench) {
				p := c.ask(b, b.held())
				err := b.nodes["b"].desk.Incoming(b.t.Context(), p)
				switch {
				case c.says == "" && err != nil:
					t.Error(err)
				case c.says != "" && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.says)):
					t.Errorf("%v, want a refusal that says %q", err, c.says)
				}
			})
		})
	}
}

// TestHookNeedsItsJournal: what cannot be recorded does not come in.
func TestHookNeedsItsJournal(t *testing.T) {
	scenario(t, []negotiate.HostID{"a", "b"}, func(b *bench) {
		l := b.held()
		b.nodes["b"].journal.fail(errors.New("disk full"))
		p := negotiate.PrepareCheck{VM: l.VM, Source: l.Source, Attempt: l.Attempt, Lease: l.Lease}
		if err := b.nodes["b"].desk.Incoming(b.t.Context(), p); err == nil || !strings.Contains(err.Error(), "disk full") {
			t.Errorf("%v, want the journal's error", err)
		}
		b.nodes["b"].journal.fail(nil)
		if err := b.nodes["b"].desk.Incoming(b.t.Context(), p); err != nil {
			t.Errorf("once it is written again: %v", err)
		}
	})
}

// TestHookAsksNothingOfLibvirt: libvirt waits for the hook, so the answer comes
// while libvirt answers nothing.
func TestHookAsksNothingOfLibvirt(t *testing.T) {
	scenario(t, []negotiate.HostID{"a", "b"}, func(b *bench) {
		l := b.held()
		b.world.SetDown("b", true)
		begun := time.Now()
		err := b.nodes["b"].desk.Incoming(b.t.Context(), negotiate.PrepareCheck{VM: l.VM, Source: l.Source, Attempt: l.Attempt, Lease: l.Lease})
		if err != nil || time.Since(begun) > 0 {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		b.world.SetDown("b", false)
	})
}

// TestByHandRefused: the policy keeps out what carries no lease.
func TestByHandRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &journal{data: map[string][]byte{}}
		d := New(Options{Self: "b", Journal: j, Now: time.Now, Since: func() time.Duration { return 0 }, Random: func() uint64 { return 1 },
			Notify: func(Update) {}, Logger: discard, RefuseByHand: true})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		if err := d.Incoming(ctx, negotiate.PrepareCheck{VM: vmID}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "by_hand") {
			t.Errorf("%v, want a refusal by policy", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := d.Incoming(t.Context(), negotiate.PrepareCheck{VM: vmID}); !errors.Is(err, ErrStopped) {
			t.Errorf("a stopped desk: %v", err)
		}
	})
}

// TestWithoutTheHook: where libvirt runs no hook the copy is checked when it
// appears.
func TestWithoutTheHook(t *testing.T) {
	scenario(t, []negotiate.HostID{"a", "b"}, func(b *bench) {
		b.world.SetHook("b", nil)
		if err := b.move("a", "b"); err != nil {
			t.Fatal(err)
		}
		if r := b.settle(time.Minute); r.Outcome != negotiate.OutcomeMoved {
			t.Errorf("result %+v", r)
		}
		b.wantRunner("b")
	})
}

// TestHookFencesAVMOfAnother: a copy that the destination's agent did not promise
// never begins, and the VM runs on.
func TestHookFencesAVMOfAnother(t *testing.T) {
	scenario(t, []negotiate.HostID{"a", "b"}, func(b *bench) {
		stamp := hypervisor.Metadata{Attempt: 3, Lease: "9-forged", From: "a", To: "b"}
		if err := b.drivers["a"].SetMetadata(b.t.Context(), vmID, stamp); err != nil {
			t.Fatal(err)
		}
		_, err := b.drivers["a"].Migrate(b.t.Context(), hypervisor.MigrateRequest{ID: vmID, DestURI: "sim://b", Live: true})
		if !errors.Is(err, ErrRefused) {
			t.Errorf("migrate: %v, want the hook's refusal", err)
		}
		b.wantRunner("a")
	})
}
