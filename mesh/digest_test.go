package mesh

import (
	"bytes"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

var drawDigest = rapid.Custom(func(t *rapid.T) Digest {
	d := Digest{
		Seq: rapid.Uint32().Draw(t, "seq"), ValidFor: time.Duration(rapid.IntRange(0, 3600).Draw(t, "valid")) * time.Second,
		Pressure: rapid.Byte().Draw(t, "pressure"), Incoming: rapid.Byte().Draw(t, "incoming"), Flags: rapid.Byte().Draw(t, "flags"),
	}
	copy(d.Free[:], rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "free"))
	return d
})

func TestDigestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := HostID(rapid.StringMatching(`[a-z0-9][a-z0-9-]{0,39}`).Draw(t, "id"))
		d := drawDigest.Draw(t, "digest")
		b, err := encodeDigest(id, d)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > maxDigest {
			t.Fatalf("%d bytes", len(b))
		}
		// A later minor version adds bytes.
		b = append(b, rapid.SliceOfN(rapid.Byte(), 0, maxDigest-len(b)).Draw(t, "more")...)
		gotID, got, err := decodeDigest(b)
		if err != nil || gotID != id || got != d {
			t.Fatalf("got %s %+v %v, want %s %+v", gotID, got, err, id, d)
		}
	})
}

// TestDigestBytes pins the layout: hosts of different versions meet.
func TestDigestBytes(t *testing.T) {
	b, err := encodeDigest("ab", Digest{Seq: 0x01020304, ValidFor: 300 * time.Second, Free: [4]uint8{9, 5, 2, 1}, Pressure: 90, Incoming: 1, Flags: 128})
	want := []byte{1, 2, 'a', 'b', 1, 2, 3, 4, 1, 44, 9, 5, 2, 1, 90, 1, 128}
	if err != nil || !bytes.Equal(b, want) {
		t.Errorf("%v %v, want %v", b, err, want)
	}
}

func TestDigestRefusals(t *testing.T) {
	good, _ := encodeDigest("ab", Digest{ValidFor: time.Minute})
	edit := func(i int, v byte) []byte { b := bytes.Clone(good); b[i] = v; return b }
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"empty": {nil, errDigest}, "short": {good[:16], errDigest}, "long": {make([]byte, 65), errDigest},
		"no id": {edit(1, 0), errDigest}, "id beyond the end": {edit(1, 40), errDigest}, "valid for a day": {edit(8, 255), errDigest},
		"version 0": {edit(0, 0), errDigestVersion}, "version 2": {edit(0, 2), errDigestVersion},
	} {
		if _, _, err := decodeDigest(c.b); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := encodeDigest("", Digest{}); err == nil {
		t.Error("a digest of nobody was encoded")
	}
}

func TestDiffers(t *testing.T) {
	base := Digest{Free: [4]uint8{40, 8, 1, 0}, Pressure: 50}
	for _, c := range []struct {
		what string
		edit func(*Digest)
		want bool
	}{
		{"nothing", func(*Digest) {}, false},
		{"one slot of forty", func(d *Digest) { d.Free[0] = 39 }, false},
		{"six slots of forty", func(d *Digest) { d.Free[0] = 34 }, true},
		{"one slot of eight", func(d *Digest) { d.Free[1] = 7 }, false},
		{"two slots of eight", func(d *Digest) { d.Free[1] = 6 }, true},
		{"the last slot", func(d *Digest) { d.Free[2] = 0 }, true},
		{"the first slot", func(d *Digest) { d.Free[3] = 1 }, true},
		{"a breath of pressure", func(d *Digest) { d.Pressure = 54 }, false},
		{"pressure", func(d *Digest) { d.Pressure = 45 }, true},
		{"an arrival", func(d *Digest) { d.Incoming = 1 }, true},
		{"a flag", func(d *Digest) { d.Flags = 1 }, true},
		{"sequence and validity alone", func(d *Digest) { d.Seq, d.ValidFor = 9, time.Hour }, false},
	} {
		next := base
		c.edit(&next)
		if base.differs(next) != c.want || next.differs(base) != c.want {
			t.Errorf("%s: differs=%v, want %v, both ways", c.what, !c.want, c.want)
		}
	}
}

// TestBudget holds the formula to the table that was measured with real Serf.
func TestBudget(t *testing.T) {
	want := map[[2]int]float64{{64, 50}: 26.25, {64, 500}: 17.5, {64, 2000}: 13.125, {400, 50}: 5.625, {400, 500}: 3.75, {477, 500}: 2.5}
	for k, v := range want {
		if got := Budget(k[0], k[1]); math.Abs(got-v) > 1e-9 {
			t.Errorf("Budget(%d, %d) = %v, want %v", k[0], k[1], got, v)
		}
	}
	got := map[int]time.Duration{}
	for _, n := range []int{0, 1, 2, 10, 50, 200, 1000} {
		got[n] = minInterval(n).Round(time.Second)
	}
	wantEvery := map[int]time.Duration{0: time.Second, 1: time.Second, 2: time.Second, 10: 2 * time.Second, 50: 8 * time.Second, 200: 46 * time.Second, 1000: 305 * time.Second}
	if diff := cmp.Diff(wantEvery, got); diff != "" {
		t.Errorf("interval by hosts (-want +got):\n%s", diff)
	}
}

// TestDigestLife: as configured, and longer in large clusters, so that a host is
// seen all the time also when one of its digests is lost.
func TestDigestLife(t *testing.T) {
	for _, c := range []struct {
		configured time.Duration
		hosts      int
		want       time.Duration
	}{
		{5 * time.Minute, 10, 5 * time.Minute},
		{5 * time.Minute, 200, 5 * time.Minute},
		{5 * time.Minute, 1000, 914 * time.Second},
		{time.Minute, 200, 137 * time.Second},
		{30 * time.Minute, 1000, 30 * time.Minute},
		{5 * time.Minute, maxPeers, maxValid}, // what a digest can say
	} {
		if got := DigestLife(c.configured, c.hosts).Round(time.Second); got != c.want {
			t.Errorf("%v among %d hosts: %v, want %v", c.configured, c.hosts, got, c.want)
		}
	}
}

func TestTagsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[ -~]{0,80}`)
		want := Tags{Version: rapid.IntRange(0, 9).Draw(t, "v"), Name: word.Draw(t, "n"), RPCAddr: word.Draw(t, "rpc"),
			CPUModel: word.Draw(t, "cpu"), Pools: word.Draw(t, "p"), Zone: word.Draw(t, "z"), Draining: rapid.Bool().Draw(t, "d"),
			PauseVersion: rapid.Uint64().Draw(t, "order")}
		want.Paused = want.PauseVersion > 0 && rapid.Bool().Draw(t, "paused")
		m, err := want.encode()
		if err != nil {
			return // too long: TestTagsFitSerf
		}
		if diff := cmp.Diff(want, decodeTags(m), cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestTagsFitSerf: what encode lets pass, Serf takes.
func TestTagsFitSerf(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		m := w.start(1, func(c *Config) { c.Join = nil })
		longest := 0
		for n := 1; n < 400; n++ {
			tags := Tags{Zone: string(bytes.Repeat([]byte("z"), n)), Pools: "p", CPUModel: "c", Draining: true}
			if _, err := m.identify(tags).encode(); err != nil {
				break
			}
			longest = n
			if n%10 != 0 {
				continue
			}
			if err := m.SetTags(tags); err != nil {
				t.Fatalf("zone of %d bytes: %v", n, err)
			}
			if got := member(t, m, m.Self()).Tags.Zone; len(got) != n {
				t.Fatalf("zone of %d bytes arrives with %d", n, len(got))
			}
		}
		if longest < 300 || longest > 399 {
			t.Errorf("zones of up to %d bytes pass", longest)
		}
		if err := m.SetTags(Tags{Zone: string(bytes.Repeat([]byte("z"), 400))}); err == nil {
			t.Error("tags that do not fit were set")
		}
		stopAll(t, m)
	})
}

func FuzzDecodeDigest(f *testing.F) {
	good, _ := encodeDigest("0123456789abcdef0123456789abcdef", Digest{Seq: 9, ValidFor: time.Minute, Free: [4]uint8{1, 2, 3, 4}})
	f.Add(good)
	f.Add([]byte{1, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		id, d, err := decodeDigest(b)
		if err != nil {
			return
		}
		again, err := encodeDigest(id, d)
		if err != nil || !bytes.HasPrefix(b, again) {
			t.Fatalf("%v decodes to what encodes as %v (%v)", b, again, err)
		}
	})
}

func FuzzDecodeNews(f *testing.F) {
	f.Add([]byte(`{"kind":"drain","host":"a","attempt":3}`))
	f.Add([]byte(`{"kind":"\u001b[2J","host":"` + "\xff" + `"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := decodeNews(b)
		if err != nil {
			return
		}
		for _, s := range []string{n.Kind, n.VM, n.From, n.To, n.Detail, string(n.Host)} {
			if s != printable(s) {
				t.Fatalf("%q would command a terminal", s)
			}
		}
		if n.Kind == "" || n.Host == "" {
			t.Fatalf("accepted %+v", n)
		}
	})
}

func FuzzDecodeTags(f *testing.F) {
	f.Add("1", "name", "10.0.0.1:1", "1")
	f.Add("-5", "\x1b]0;x", "::", "")
	f.Fuzz(func(t *testing.T, v, name, rpc, drain string) {
		got := decodeTags(map[string]string{"v": v, "n": name, "rpc": rpc, "drain": drain})
		if got.Version < 0 || got.Name != printable(got.Name) || got.RPCAddr != printable(got.RPCAddr) {
			t.Fatalf("%+v", got)
		}
	})
}

func FuzzDecodeError(f *testing.F) {
	f.Add(422, []byte(`{"code":200,"text":"no"}`))
	f.Add(500, []byte(`<html>`))
	f.Fuzz(func(t *testing.T, code int, b []byte) {
		if e := decodeError(code, b); e.Code != code || e.Text == "" || e.Text != printable(e.Text) {
			t.Fatalf("%+v", e)
		}
	})
}
