package mesh

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// TestReplayedPackets: whoever taped the wire can send everything again, to
// everybody, and again later. Membership stays, digests do not go back, and no
// news is told twice within the time that Serf remembers them.
func TestReplayedPackets(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := w.startAll(5)
		events, _ := all[2].Subscribe(256)
		digest := func(free uint8) {
			if _, err := all[1].PublishDigest(Digest{ValidFor: 20 * time.Minute, Free: [4]uint8{free}}); err != nil {
				t.Fatal(err)
			}
		}
		w.setTaping(true)
		digest(1)
		if err := all[0].Announce(News{Kind: "migration-started", VM: "vm"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(pushPull)
		w.setTaping(false)
		digest(9)
		time.Sleep(pushPull)
		for range 2 {
			for _, p := range w.tape {
				w.packet(p.from, p.to, p.bytes)
				w.packet(p.from, netip.MustParseAddrPort(gossipAt(3)), p.bytes)
			}
			time.Sleep(time.Minute)
		}
		told := 0
		for len(events) > 0 {
			switch e := <-events; {
			case e.News != nil:
				told++
			case e.Kind == "member-failed", e.Kind == "member-leave":
				t.Errorf("a replay made %s of %s", e.Kind, e.Host)
			}
		}
		if told != 1 {
			t.Errorf("the news was told %d times", told)
		}
		for _, m := range all {
			if x := member(t, m, idOf(2)); m.Self() != idOf(2) && x.Digest.Free[0] != 9 {
				t.Errorf("%s sees the old digest %+v again", m.Self(), x.Digest)
			}
		}
		if !everyoneSees(all, 5) {
			t.Error("membership changed")
		}
		t.Logf("%d packets replayed twice, to two hosts each; refused %v", len(w.tape), all[2].Stats().Refused)
		stopAll(t, all...)
	})
}

// TestFloodOfJunk: oversized, truncated and random packets, with and without the
// cluster's label, are counted, and the cluster goes on.
func TestFloodOfJunk(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := w.startAll(4)
		w.setTaping(true)
		time.Sleep(5 * time.Second)
		w.setTaping(false)
		rng := rand.New(rand.NewPCG(3, 4))
		junk := w.plug(netip.MustParseAddr("10.0.9.9"))
		label := append([]byte{244, 3}, "lab"...)
		const each = 300
		for i := range each {
			noise := make([]byte, 1+rng.IntN(65_000))
			for j := range noise {
				noise[j] = byte(rng.Uint32())
			}
			p := bytes.Clone(w.tape[rng.IntN(len(w.tape))].bytes)
			p[5+rng.IntN(len(p)-5)] ^= 1 << rng.IntN(8) // one bit of a good packet, behind its label
			for _, b := range [][]byte{noise, append(bytes.Clone(label), noise...), p, p[:5+rng.IntN(len(p)-5)]} {
				if _, err := junk.WriteTo(b, gossipAt(1+i%4)); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(30 * time.Second)
		refused := uint64(0)
		for _, m := range all {
			for _, n := range m.Stats().Refused {
				refused += n
			}
		}
		// Noise may by chance look like an empty message, and is then not refused.
		if refused < 4*each*95/100 {
			t.Errorf("%d of %d packets were counted", refused, 4*each)
		}
		if !everyoneSees(all, 4) {
			t.Error("membership changed")
		}
		t.Logf("%d of %d packets counted: %v", refused, 4*each, all[0].Stats().Refused)
		stopAll(t, all...)
	})
}
