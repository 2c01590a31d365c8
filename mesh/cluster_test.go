package mesh

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestClusterSeesJoinLeaveAndFailure(t *testing.T) {
	for _, n := range []int{3, 10} {
		bubble(t, func(t *testing.T, w *world) {
			all := w.startAll(n)
			events, _ := all[0].Subscribe(64)
			if err := all[n-1].Close(); err != nil {
				t.Fatal(err)
			}
			w.await(pushPull, "the leaver is seen as left", func() bool { return member(t, all[0], idOf(n)).Status == StatusLeft })

			w.hosts[ipOf(n-1)].unplug() // a crash: it says nothing
			took := w.await(30*time.Second, "the crashed is seen as failed", func() bool { return member(t, all[0], idOf(n-1)).Status == StatusFailed })
			t.Logf("%d hosts: crash seen after %v", n, took)

			// Serf changes the member's state before it tells of it.
			w.await(10*time.Second, "both events are told", func() bool { return len(events) >= 2 })
			var got []string
			for len(events) > 0 {
				e := <-events
				got = append(got, e.Kind+" "+string(e.Host)+" "+e.Name)
			}
			want := []string{"member-leave " + string(idOf(n)) + " " + all[n-1].cfg.Name, "member-failed " + string(idOf(n-1)) + " " + all[n-2].cfg.Name}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			stopAll(t, all...)
		})
	}
}

func TestStableNeedsQuietAndLittleChurn(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := w.startAll(5)
		w.await(2*time.Minute, "stable after joining", func() bool { ok, _ := all[0].Stable(); return ok })
		if err := all[4].Close(); err != nil {
			t.Fatal(err)
		}
		w.await(pushPull, "the leaver is seen as left", func() bool { return member(t, all[0], idOf(5)).Status == StatusLeft })
		if ok, why := all[0].Stable(); ok || !strings.Contains(why, "membership changed") {
			t.Errorf("stable right after a member left: %v %q", ok, why)
		}
		time.Sleep(11 * time.Second)
		if ok, why := all[0].Stable(); ok || !strings.Contains(why, "1 of 5 members came or went") {
			t.Errorf("stable although a fifth left within the window: %v %q", ok, why)
		}
		time.Sleep(20 * time.Second)
		if ok, why := all[0].Stable(); !ok {
			t.Errorf("not stable after half a minute of quiet: %s", why)
		}
		if score := all[0].HealthScore(); score != 0 {
			t.Errorf("health score %d in a quiet cluster", score)
		}
		// New tags are no change of membership.
		if err := all[1].SetTags(Tags{Draining: true}); err != nil {
			t.Fatal(err)
		}
		w.await(pushPull, "the tags arrive", func() bool { return member(t, all[0], idOf(2)).Tags.Draining })
		if got := member(t, all[0], idOf(2)).Tags; got.Name != "h2" || got.RPCAddr == "" || got.Version != ProtocolVersion {
			t.Errorf("tags at a peer: %+v", got)
		}
		if ok, why := all[0].Stable(); !ok {
			t.Errorf("new tags made the view unstable: %s", why)
		}
		stopAll(t, all...)
	})
}

func TestPartitionHeals(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := w.startAll(10)
		w.setCuts(half(4))
		took := w.await(time.Minute, "each side sees itself alone", func() bool {
			return everyoneSees(all[:4], 4) && everyoneSees(all[4:], 6)
		})
		// Host 9's peers are told; across the cut nothing is reachable.
		if _, err := all[0].Call(t.Context(), idOf(9), "any", nil); !errors.Is(err, ErrNotMember) {
			t.Errorf("call across the cut: %v", err)
		}
		time.Sleep(5 * time.Minute)
		w.setCuts(nil)
		healed := w.await(2*time.Minute, "all see all again", func() bool { return everyoneSees(all, 10) })
		t.Logf("parted after %v, healed after %v", took, healed)
		stopAll(t, all...)
	})
}

// TestHalvesFindEachOther starts two clusters whose common seed is down, so that
// neither side has joined the other when it comes up.
func TestHalvesFindEachOther(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		seeds := func(s ...string) func(*Config) { return func(c *Config) { c.Join = s } }
		all := []*Mesh{w.start(2, seeds(gossipAt(1), gossipAt(3))), w.start(3, seeds(gossipAt(1), gossipAt(2)))}
		w.await(time.Minute, "the first half is together", func() bool { return everyoneSees(all, 2) })
		lone := w.start(1, seeds())
		all = append(all, lone)
		took := w.await(time.Minute, "the seed is found", func() bool { return everyoneSees(all, 3) })
		t.Logf("found after %v", took)
		stopAll(t, all...)
	})
}

func TestLossMakesNobodyFail(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := w.startAll(20)
		events, _ := all[7].Subscribe(256)
		w.setLoss(0.2)
		until := time.Now().Add(5 * time.Minute)
		for i := uint8(0); time.Now().Before(until); i++ {
			if _, err := all[3].PublishDigest(Digest{ValidFor: time.Minute, Free: [4]uint8{i}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
		}
		for len(events) > 0 {
			if e := <-events; e.Kind == "member-failed" {
				t.Errorf("%s failed by loss alone", e.Host)
			}
		}
		for _, m := range all {
			if x := member(t, m, idOf(4)); !x.HasDigest || x.DigestAge > 30*time.Second {
				t.Errorf("%s: digest known=%v, age %v", m.Self(), x.HasDigest, x.DigestAge)
			}
		}
		stopAll(t, all...)
	})
}

func TestWrongKeyIsToldOnBothSides(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := w.startAll(3)
		stranger := w.start(4, func(c *Config) { c.Key = key(2) })
		events, _ := stranger.Subscribe(8)
		time.Sleep(time.Minute)

		if ok, why := stranger.Stable(); ok || !strings.Contains(why, "gossip key differs") {
			t.Errorf("the stranger's view: stable=%v, %q", ok, why)
		}
		if e := stranger.Stats().JoinError; !strings.Contains(e, gossipAt(1)) || !strings.Contains(e, "copy the same key file") {
			t.Errorf("the stranger's error does not tell what to do: %q", e)
		}
		// One event, however often it is tried.
		if diff := cmp.Diff([]string{EventJoinFailed}, joinKinds(events)); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		s := all[0].Stats()
		if s.Refused["gossip_key"] == 0 || !strings.HasPrefix(s.RefusedFrom["gossip_key"], "10.0.0.4:") {
			t.Errorf("the seed counts %v from %v", s.Refused, s.RefusedFrom)
		}
		if !everyoneSees(all, 3) || count(stranger, StatusAlive) != 1 {
			t.Error("a host with another key became a member")
		}
		stopAll(t, append(all, stranger)...)
	})
}

func TestOtherClusterIsTurnedAway(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := w.startAll(3)
		foreign := newAuthority(t, "other")
		stranger := w.start(4, func(c *Config) {
			dir := foreign.host(c.ID)
			c.Cluster, c.CAFile = "other", foreign.ca()
			c.CertFile, c.KeyFile = filepath.Join(dir, HostCertName), filepath.Join(dir, HostKeyName)
		})
		time.Sleep(time.Minute)
		if _, why := stranger.Stable(); !strings.Contains(why, "mesh.cluster") {
			t.Errorf("the stranger's view: %q", why)
		}
		if s := all[0].Stats(); s.Refused["gossip_label"] == 0 {
			t.Errorf("the seed counts %v", s.Refused)
		}
		stopAll(t, append(all, stranger)...)
	})
}

// joinKinds are the events about joining that wait.
func joinKinds(events <-chan Event) []string {
	var kinds []string
	for len(events) > 0 {
		if e := <-events; e.Kind == EventJoinFailed || e.Kind == EventJoined {
			kinds = append(kinds, e.Kind)
		}
	}
	return kinds
}

// TestUnreachableSeedIsRetried: the seed comes up later.
func TestUnreachableSeedIsRetried(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		early := w.start(2, nil)
		events, _ := early.Subscribe(16)
		time.Sleep(time.Minute)
		if e := early.Stats().JoinError; !strings.Contains(e, ErrUnreachable.Error()) || strings.Contains(e, "\n") {
			t.Errorf("join error %q", e)
		}
		seed := w.start(1, nil)
		w.await(10*time.Second, "they find each other", func() bool { return everyoneSees([]*Mesh{seed, early}, 2) })
		time.Sleep(time.Second)
		if e := early.Stats().JoinError; e != "" {
			t.Errorf("still %q", e)
		}
		if diff := cmp.Diff([]string{EventJoinFailed, EventJoined}, joinKinds(events)); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		stopAll(t, seed, early)
	})
}

// TestSameNameTwice: cloned machine-ids make Serf shut the newcomer down; that
// must show, and nothing be planned on its view.
func TestSameNameTwice(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := w.startAll(4)
		clone := w.start(9, func(c *Config) {
			*c = w.config(2)
			c.Bind = gossipAt(9)
		})
		events, _ := clone.Subscribe(64)
		w.await(2*time.Minute, "one of the two is down", func() bool { return clone.usable() != nil || all[1].usable() != nil })
		t.Logf("clone down: %v, first down: %v", clone.usable() != nil, all[1].usable() != nil)
		if clone.usable() == nil {
			t.Fatal("the minority stayed")
		}
		time.Sleep(time.Second)
		down := false
		for len(events) > 0 {
			down = (<-events).Kind == EventDown || down
		}
		if !down {
			t.Error("no event tells that the mesh is down")
		}
		if ok, why := clone.Stable(); ok || !strings.Contains(why, "machine-id") {
			t.Errorf("stable=%v %q", ok, why)
		}
		if _, err := clone.PublishDigest(Digest{ValidFor: time.Minute}); !errors.Is(err, ErrClosed) {
			t.Errorf("publish: %v", err)
		}
		if err := clone.SetTags(Tags{}); !errors.Is(err, ErrClosed) {
			t.Errorf("set tags: %v", err)
		}
		stopAll(t, append(all, clone)...)
	})
}

func TestRestartRejoinsFromSnapshot(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := w.startAll(3)
		snap := filepath.Join(t.TempDir(), "serf.snapshot")
		withSnapshot := func(c *Config) { c.SnapshotPath = snap }
		m := w.start(4, withSnapshot)
		w.await(10*time.Second, "joined", func() bool { return count(m, StatusAlive) == 4 })
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		m = w.start(4, func(c *Config) { withSnapshot(c); c.Join = nil })
		took := w.await(time.Minute, "rejoined without a seed", func() bool { return count(m, StatusAlive) == 4 && everyoneSees(all, 4) })
		t.Logf("rejoined after %v", took)
		stopAll(t, append(all, m)...)
	})
}

func TestRoundTripsNeedTime(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := w.startAll(6)
		time.Sleep(4 * time.Minute)
		if x := member(t, all[0], idOf(2)); x.RTTKnown {
			t.Errorf("round trip %v known after 4 minutes", x.RTT)
		}
		time.Sleep(2 * time.Minute)
		for _, x := range all[0].Members() {
			if x.ID == all[0].Self() {
				continue
			}
			if !x.RTTKnown || x.RTT < 200*time.Microsecond || x.RTT > 800*time.Microsecond {
				t.Errorf("%s: round trip %v known=%v, want about 400 us", x.ID, x.RTT, x.RTTKnown)
			}
		}
		stopAll(t, all...)
	})
}

func TestClosedMeshSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		m := w.start(1, nil)
		events, _ := m.Subscribe(1)
		begin := time.Now()
		if err := errors.Join(m.Close(), m.Close()); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("close took %v", took)
		}
		for range events { // ends because it is closed
		}
		late, _ := m.Subscribe(1)
		if _, open := <-late; open {
			t.Error("a late subscriber waits for ever")
		}
		_, callErr := m.Call(t.Context(), "x", "y", nil)
		_, pubErr := m.PublishDigest(Digest{})
		for _, err := range []error{callErr, pubErr, m.Announce(News{Kind: "x"}), m.SetTags(Tags{})} {
			if !errors.Is(err, ErrClosed) {
				t.Errorf("%v, want ErrClosed", err)
			}
		}
		if ok, _ := m.Stable(); ok {
			t.Error("a closed mesh is stable")
		}
	})
}
