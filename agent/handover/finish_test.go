package handover

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"headroom/agent/hypervisor"
	"headroom/planner/negotiate"
)

// silenceFor keeps all messages between the hosts from arriving for a while.
func (b *bench) silenceFor(d time.Duration) {
	b.mu.Lock()
	b.drop = func(negotiate.HostID, negotiate.HostID, negotiate.Message) bool { return true }
	b.mu.Unlock()
	time.Sleep(d) // virtual
	b.hear()
}

// afterwards waits until nothing goes on any more, and wants the VM to run once.
func (b *bench) afterwards() {
	b.t.Helper()
	for range 180 {
		time.Sleep(time.Second) // virtual
		synctest.Wait()
		if r := b.world.Runners(vmID); len(r) > 1 {
			b.t.Fatalf("OneRunner: the VM runs on %v", r)
		}
	}
	r := b.world.Runners(vmID)
	if len(r) != 1 {
		b.t.Fatalf("NoLostVM: the VM runs on %v", r)
	}
	b.wantRunner(negotiate.HostID(r[0]))
}

// TestFinishReplyLost: libvirt's last word does not come from the destination, and the
// source's libvirt resumes its VM while a whole copy stands there. The guard keeps it
// standing until the source's journal says that it may go, whoever else is away.
func TestFinishReplyLost(t *testing.T) {
	for name, also := range map[string]func(b *bench){
		"nothing else":                         func(*bench) {},
		"the agents do not hear of each other": func(b *bench) { b.silenceFor(2 * time.Minute) },
		"the source's agent dies":              func(b *bench) { b.restart("a") },
		"the destination's agent dies":         func(b *bench) { b.restart("b") },
		"both agents die":                      func(b *bench) { b.restart("a", "b") },
	} {
		t.Run(name, func(t *testing.T) {
			scenario(t, []negotiate.HostID{"a", "b"}, func(b *bench) {
				b.world.Fail(vmID, hypervisor.FailFinish)
				if err := b.move("a", "b"); err != nil {
					t.Fatal(err)
				}
				b.reach("incoming")
				also(b)
				b.afterwards()
				if r := b.world.Runners(vmID); !slices.Equal(r, []string{"a"}) {
					t.Errorf("the VM runs on %v; its libvirt has resumed it on a", r)
				}
				if _, there, err := b.drivers["b"].Lookup(b.t.Context(), vmID); there || err != nil {
					t.Errorf("the copy is still on b: %v, %v", there, err)
				}
			})
		})
	}
}

// restart kills agents, and starts them again three seconds later.
func (b *bench) restart(hosts ...negotiate.HostID) {
	for _, h := range hosts {
		b.kill(h)
	}
	time.Sleep(3 * time.Second) // virtual
	for _, h := range hosts {
		b.start(h)
	}
}

// TestCallBreaks: the call that migrates ends without an answer, and the migration
// goes on; the agent asks libvirt until it knows.
func TestCallBreaks(t *testing.T) {
	scenario(t, []negotiate.HostID{"a", "b"}, func(b *bench) {
		b.world.Fail(vmID, hypervisor.FailCall)
		if err := b.move("a", "b"); err != nil {
			t.Fatal(err)
		}
		if r := b.settle(time.Minute); r.Outcome != negotiate.OutcomeMoved {
			t.Errorf("result %+v", r)
		}
		b.wantRunner("b")
	})
}

// TestLibvirtdAway: a libvirtd is away for a while, from each state on; or it answers
// nothing about the VM.
func TestLibvirtdAway(t *testing.T) {
	for _, state := range []string{"held", "migrating", "incoming", "committed"} {
		for name, away := range map[string]func(b *bench, away bool){
			"the source's":      func(b *bench, away bool) { b.world.SetDown("a", away) },
			"the destination's": func(b *bench, away bool) { b.world.SetDown("b", away) },
			"hung":              func(b *bench, away bool) { b.world.SetHung(vmID, away) },
		} {
			t.Run(name+" at "+state, func(t *testing.T) {
				scenario(t, []negotiate.HostID{"a", "b"}, func(b *bench) {
					if err := b.move("a", "b"); err != nil {
						t.Fatal(err)
					}
					b.reach(state)
					away(b, true)
					time.Sleep(20 * time.Second) // virtual
					away(b, false)
					b.afterwards()
				})
			})
		}
	}
}

// TestAutostart: from before the copy until the hand-over has ended, no host starts
// the VM by itself; then the one that has it does again.
func TestAutostart(t *testing.T) {
	for name, c := range map[string]struct {
		during func(b *bench)
		runs   negotiate.HostID
	}{
		"moved":               {func(*bench) {}, "b"},
		"the source restarts": {func(b *bench) { b.restart("a") }, "b"},
		"the link is silent":  {func(b *bench) { b.silenceFor(time.Minute) }, "b"},
		"the reply is lost":   {func(b *bench) { b.world.Fail(vmID, hypervisor.FailFinish) }, "a"},
		"the copy breaks":     {func(b *bench) { b.world.Fail(vmID, hypervisor.FailCopy) }, "a"},
		"nobody has room":     {func(b *bench) { b.refuseAt("b", negotiate.RefusedNoRoom) }, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			scenario(t, []negotiate.HostID{"a", "b"}, func(b *bench) {
				if c.runs == "a" { // decided before it begins
					c.during(b)
				}
				b.moveAutostarted("a", "b")
				if c.runs == "b" {
					b.reach("incoming")
					if on := b.autostarts(); len(on) > 0 {
						t.Errorf("during the copy %v would start the VM", on)
					}
					c.during(b)
				}
				b.afterwards()
				if r := b.world.Runners(vmID); !slices.Equal(r, []string{string(c.runs)}) {
					t.Errorf("the VM runs on %v, want %s", r, c.runs)
				}
				if on := b.autostarts(); !slices.Equal(on, []negotiate.HostID{c.runs}) {
					t.Errorf("%v start the VM with the host, want %s", on, c.runs)
				}
			})
		})
	}
}

// stubborn is a libvirt that does not switch autostart off.
type stubborn struct{ *hypervisor.Sim }

func (s stubborn) SetAutostart(ctx context.Context, id string, on bool) error {
	if !on {
		return errors.New("read-only file system")
	}
	return s.Sim.SetAutostart(ctx, id, on)
}

// TestAutostartThatStays: a VM that would start here again is not copied.
func TestAutostartThatStays(t *testing.T) {
	scenario(t, []negotiate.HostID{"a", "b"}, func(b *bench) {
		b.wrap = func(s *hypervisor.Sim) Hypervisor { return stubborn{s} }
		b.restart("a")
		b.moveAutostarted("a", "b")
		if r := b.settle(time.Minute); r.Outcome != negotiate.OutcomeAborted || !b.told("autostart: read-only") {
			t.Errorf("result %+v of %+v", r, b.updates)
		}
		if b.saw("migrating") {
			t.Errorf("the copy began: %+v", b.updates)
		}
		b.wantRunner("a")
		if on := b.autostarts(); !slices.Equal(on, []negotiate.HostID{"a"}) {
			t.Errorf("%v start the VM with the host, want a", on)
		}
	})
}

// moveAutostarted asks for a move of the VM, which starts with its host.
func (b *bench) moveAutostarted(from, to negotiate.HostID) {
	b.t.Helper()
	err := errors.Join(b.drivers[from].SetAutostart(b.t.Context(), vmID, true),
		b.nodes[from].desk.Start(b.t.Context(), negotiate.Start{VM: vmID, Need: negotiate.Need{Cores: 1, MemoryMiB: 512}, Autostart: true,
			Candidates: []negotiate.Candidate{{Host: to, Guard: negotiate.GuardPaused}}}))
	if err != nil {
		b.t.Fatal(err)
	}
}

// saw says whether either side has reached a state.
func (b *bench) saw(state string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.updates, func(u Update) bool { return u.State == state })
}

// told says whether a reason with this text was given.
func (b *bench) told(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.updates, func(u Update) bool { return strings.Contains(u.Reason, text) })
}

// autostarts are the hosts that start the VM by themselves.
func (b *bench) autostarts() []negotiate.HostID {
	b.t.Helper()
	var on []negotiate.HostID
	for _, h := range []negotiate.HostID{"a", "b"} {
		d, ok, err := b.drivers[h].Lookup(b.t.Context(), vmID)
		if err != nil {
			b.t.Fatal(err)
		}
		if ok && d.Autostart {
			on = append(on, h)
		}
	}
	return on
}
