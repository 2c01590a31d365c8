package mesh

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// pushPull is the time within which an event that gossip missed, one in some
// hundred, arrives all the same.
const pushPull = 70 * time.Second

// TestMalformedGossip: whoever has the key can send anything; it is counted, and
// changes nothing.
func TestMalformedGossip(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := w.startAll(3)
		good, err := encodeDigest(idOf(2), Digest{Seq: 7, ValidFor: 5 * time.Minute, Free: [4]uint8{3, 2, 1}})
		if err != nil {
			t.Fatal(err)
		}
		later := append([]byte{9}, good[1:]...)
		for _, e := range []struct {
			name    string
			payload []byte
		}{
			{eventDigest, nil}, {eventDigest, []byte("x")}, {eventDigest, good[:len(good)-1]}, {eventDigest, later},
			{eventNews, []byte("{")}, {eventNews, []byte(`{"kind":"x"}`)}, {"another", []byte("x")}, {eventDigest, good},
		} {
			if err := all[1].serf.UserEvent(e.name, e.payload, false); err != nil {
				t.Fatal(err)
			}
			time.Sleep(300 * time.Millisecond)
		}
		// Bytes without the key, and with the right label in front of them.
		junk := w.plug(netip.MustParseAddr("10.0.9.9"))
		for _, b := range [][]byte{{0}, []byte("hello"), append([]byte{244, 3}, "lab"...), append([]byte{244, 3}, "lab\x01aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"...)} {
			if _, err := junk.WriteTo(b, gossipAt(1)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(pushPull)
		s := all[0].Stats()
		want := map[string]uint64{"digest_malformed": 3, "digest_version": 1, "news_malformed": 2, "event_unknown": 1, "gossip_label": 2, "gossip_key": 2}
		if diff := cmp.Diff(want, s.Refused); diff != "" {
			t.Errorf("refused (-want +got):\n%s", diff)
		}
		if x := member(t, all[0], idOf(2)); !x.HasDigest || x.Digest.Free != [4]uint8{3, 2, 1} {
			t.Errorf("the good digest was lost among the bad: %+v", x)
		}
		if !everyoneSees(all, 3) {
			t.Error("membership changed")
		}
		stopAll(t, all...)
	})
}

// TestDigestBudget: 50 hosts whose state changes all the time stay within their
// quarter of the budget, and the queues short.
func TestDigestBudget(t *testing.T) { digestBudget(t, 30, 90*time.Second) }

// TestDigestBudgetOf200Hosts takes a minute of real time.
func TestDigestBudgetOf200Hosts(t *testing.T) {
	if testing.Short() || underRace {
		t.Skip("skipped by -short and under the race detector: TestDigestBudget does the same with 30 hosts")
	}
	digestBudget(t, 200, 2*time.Minute)
}

func digestBudget(t *testing.T, n int, lasting time.Duration) {
	bubble(t, func(t *testing.T, w *world) {
		begin := time.Now()
		all := w.startAll(n)
		t.Logf("%d hosts see each other after %v", n, time.Since(begin).Round(time.Millisecond))
		time.Sleep(30 * time.Second)
		begin = time.Now()
		deepest := 0
		for i := range int(lasting.Seconds()) {
			for _, m := range all {
				if _, err := m.PublishDigest(Digest{ValidFor: 5 * time.Minute, Free: [4]uint8{uint8(i), uint8(2 * i)}}); err != nil {
					t.Fatal(err)
				}
			}
			if i > 20 { // the first digests come all at once
				deepest = max(deepest, all[0].Stats().QueueDepth)
			}
			time.Sleep(time.Second)
		}
		var sent, held uint64
		for _, m := range all {
			s := m.Stats()
			sent, held = sent+s.DigestsSent, held+s.DigestsHeld
		}
		rate := float64(sent-uint64(n)) / time.Since(begin).Seconds()
		s := all[0].Stats()
		t.Logf("%d hosts: %.2f digests/s of a budget of %.1f, one each %v; %d held, queue at most %d", n, rate, s.BudgetPerSecond, s.MinInterval, held, deepest)
		if limit := s.BudgetPerSecond * digestShare; rate > limit {
			t.Errorf("%.2f digests/s, at most %.2f", rate, limit)
		}
		if held == 0 {
			t.Error("nothing was held back")
		}
		if deepest > maxQueue {
			t.Errorf("queue of %d messages", deepest)
		}
		for _, x := range all[n/2].Members() {
			if !x.HasDigest || x.DigestAge > s.MinInterval*5/4+10*time.Second {
				t.Errorf("%s: digest known=%v, age %v", x.ID, x.HasDigest, x.DigestAge)
			}
		}
		stopAll(t, all...)
	})
}

// TestDigestLives as long as its host tells it, and not longer.
func TestDigestLives(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := w.startAll(3)
		d := Digest{ValidFor: time.Minute, Free: [4]uint8{1}, Pressure: 80}
		for i := range 300 {
			if _, err := all[1].PublishDigest(d); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			if x := member(t, all[0], idOf(2)); i > 40 && (!x.HasDigest || x.Digest.Free != d.Free || x.Digest.Pressure != 80) {
				t.Fatalf("after %d s: %+v", i, x)
			}
		}
		if s := all[1].Stats(); s.DigestsSent != 10 || s.DigestsHeld != 0 {
			t.Errorf("%d sent, %d held in 300 s; want one each half of its life", s.DigestsSent, s.DigestsHeld)
		}
		time.Sleep(61 * time.Second)
		if x := member(t, all[0], idOf(2)); x.HasDigest || x.Digest != (Digest{}) {
			t.Errorf("still there after its life: %+v", x)
		}
		stopAll(t, all...)
	})
}

// TestDigestOutlivesItsInterval: hosts that may tell only every 4.6 s are seen all
// the time, although they mean their digests for 2 s, and are forgotten soon after
// they fall silent.
func TestDigestOutlivesItsInterval(t *testing.T) {
	const n = 30
	bubble(t, func(t *testing.T, w *world) {
		all := w.startAll(n)
		tell := func() {
			for _, m := range all[1:] {
				if _, err := m.PublishDigest(Digest{ValidFor: 2 * time.Second, Free: [4]uint8{1}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		known := func() (n int) {
			for _, x := range all[0].Members() {
				if x.HasDigest {
					n++
				}
			}
			return n
		}
		for range 10 {
			tell()
			time.Sleep(time.Second)
		}
		for i := range 60 {
			tell()
			time.Sleep(time.Second)
			if got := known(); got != n-1 {
				t.Fatalf("after %d s the digests of %d of %d hosts are known", i, got, n-1)
			}
		}
		time.Sleep(DigestLife(2*time.Second, n) + time.Second)
		if got := known(); got != 0 {
			t.Errorf("%d digests are known of hosts that fell silent", got)
		}
		stopAll(t, all...)
	})
}

func TestNewsReachEverybody(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := w.startAll(3)
		events, end := all[2].Subscribe(64)
		slow, _ := all[2].Subscribe(1)
		long := strings.Repeat("ü\"", 400) // JSON doubles the quotes
		for i := range 20 {
			err := all[0].Announce(News{Kind: fmt.Sprint("k", i), VM: "vm\x1b[2J", Detail: long, Attempt: 3})
			if wantErr := i >= newsBurst; errors.Is(err, ErrBusy) != wantErr {
				t.Errorf("news %d: %v", i, err)
			}
		}
		time.Sleep(3 * time.Second)
		if err := all[0].Announce(News{Kind: "later"}); err != nil {
			t.Errorf("three seconds later: %v", err)
		}
		if err := all[0].Announce(News{Kind: strings.Repeat("k", maxNews)}); err == nil {
			t.Error("a news without detail to shorten was sent")
		}
		time.Sleep(pushPull)
		got := 0
		for len(events) > 0 {
			e := <-events
			if e.Kind != EventNews {
				t.Errorf("unexpected %+v", e)
				continue
			}
			got++
			if e.Host != idOf(1) || e.Name != "h1" || e.News.Host != idOf(1) {
				t.Errorf("news of %s %q", e.Host, e.Name)
			}
			if e.News.Kind != "later" && (e.News.VM != "vm?[2J" || !strings.HasPrefix(long, e.News.Detail) || len(e.News.Detail) < 100) {
				t.Errorf("news %+v", e.News)
			}
		}
		if got != newsBurst+1 {
			t.Errorf("%d news came, %d were told", got, newsBurst+1)
		}
		if s := all[2].Stats(); s.DroppedEvents != newsBurst || len(slow) != 1 {
			t.Errorf("%d events dropped by the slow subscriber, want %d", s.DroppedEvents, newsBurst)
		}
		if s := all[0].Stats(); s.NewsSent != newsBurst+1 || s.NewsHeld != 4 {
			t.Errorf("news sent %d, held %d", s.NewsSent, s.NewsHeld)
		}
		end()
		stopAll(t, all...)
	})
}

// TestLongQueueHoldsDigests: what others caused makes this host wait, too.
func TestLongQueueHoldsDigests(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := w.startAll(2)
		for i := range maxQueue + 1 {
			if err := all[0].serf.UserEvent("flood", fmt.Append(nil, i), false); err != nil {
				t.Fatal(err)
			}
		}
		if sent, err := all[0].PublishDigest(Digest{ValidFor: time.Minute}); sent || err != nil {
			t.Errorf("sent=%v, %v, with %d messages in the queue", sent, err, all[0].Stats().QueueDepth)
		}
		time.Sleep(10 * time.Second)
		if sent, err := all[0].PublishDigest(Digest{ValidFor: time.Minute}); !sent || err != nil {
			t.Errorf("sent=%v, %v, with %d messages in the queue", sent, err, all[0].Stats().QueueDepth)
		}
		if s := all[0].Stats(); s.DigestsSent != 1 || s.DigestsHeld != 1 {
			t.Errorf("%d sent, %d held", s.DigestsSent, s.DigestsHeld)
		}
		stopAll(t, all...)
	})
}

// TestNewcomerHearsNoOldNews, which its operator would take for new.
func TestNewcomerHearsNoOldNews(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := w.startAll(3)
		if err := all[0].Announce(News{Kind: "old"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		all = append(all, w.start(4, nil))
		events, _ := all[3].Subscribe(64)
		time.Sleep(2 * time.Minute)
		if err := all[0].Announce(News{Kind: "new"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(pushPull)
		var got []string
		for len(events) > 0 {
			if e := <-events; e.News != nil {
				got = append(got, e.News.Kind)
			}
		}
		if diff := cmp.Diff([]string{"new"}, got); diff != "" {
			t.Errorf("news (-want +got):\n%s", diff)
		}
		stopAll(t, all...)
	})
}

// TestLateDigests: gossip repeats and reorders.
func TestLateDigests(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		m := w.start(1, func(c *Config) { c.Join = nil })
		d := func(seq uint32) Digest { return Digest{Seq: seq, ValidFor: time.Minute} }
		seq := func() uint32 {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.digests["p"].digest.Seq
		}
		steps := []struct {
			what string
			do   func()
			want uint32
		}{
			{"the first", func() { m.hear("p", d(10)) }, 10},
			{"a newer", func() { m.hear("p", d(12)) }, 12},
			{"an older, late", func() { m.hear("p", d(11)) }, 12},
			{"the member went and came: its clock was set back", func() {
				m.mu.Lock()
				m.noteMember(0, "p", time.Now())
				m.mu.Unlock()
				m.hear("p", d(3))
			}, 3},
			{"an older than that", func() { m.hear("p", d(2)) }, 3},
			{"an older, when the newer has expired", func() { time.Sleep(61 * time.Second); m.hear("p", d(1)) }, 1},
		}
		for _, s := range steps {
			if s.do(); seq() != s.want {
				t.Errorf("%s: sequence %d, want %d", s.what, seq(), s.want)
			}
		}
		// A repetition gives an old digest no new life.
		time.Sleep(50 * time.Second)
		m.hear("p", d(1))
		time.Sleep(11 * time.Second)
		if m.digests["p"].valid(time.Now()) {
			t.Error("a repeated digest lives on")
		}
		// A forger invents hosts: the known ones stay, and memory is bounded.
		m.hear("p", d(20))
		for i := range maxPeers + 10 {
			m.hear(HostID(fmt.Sprint("forged", i)), d(1))
		}
		if seq() != 20 || len(m.digests) != maxPeers || m.Stats().Refused["digest_overflow"] == 0 {
			t.Errorf("%d digests kept, sequence %d, %v", len(m.digests), seq(), m.Stats().Refused)
		}
		time.Sleep(61 * time.Second)
		m.hear("late", d(1))
		if len(m.digests) != 1 {
			t.Errorf("%d digests after all but one expired", len(m.digests))
		}
		stopAll(t, m)
	})
}

// TestRPCWithinGossip runs the RPC over the same virtual network.
func TestRPCWithinGossip(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := w.startAll(3)
		all[1].Handle("echo", func(_ context.Context, from HostID, body []byte) ([]byte, error) {
			return []byte(string(from) + " said " + string(body)), nil
		})
		out, err := all[0].Call(t.Context(), idOf(2), "echo", []byte("hi"))
		if err != nil || string(out) != "host-001 said hi" {
			t.Errorf("%q, %v", out, err)
		}
		if _, err := all[0].Call(t.Context(), "nobody", "echo", nil); !errors.Is(err, ErrNotMember) {
			t.Errorf("call of nobody: %v", err)
		}
		// A cut that gossip has not noticed yet.
		w.setCuts(half(1))
		begin := time.Now()
		_, err = all[0].Call(t.Context(), idOf(3), "echo", nil)
		if took := time.Since(begin); !errors.Is(err, ErrUnreachable) || took != callTimeout {
			t.Errorf("call across a cut: %v after %v", err, took)
		}
		stopAll(t, all...)
	})
}
