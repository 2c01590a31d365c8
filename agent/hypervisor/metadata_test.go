package hypervisor

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func genMetadata(t *rapid.T) Metadata {
	word := rapid.String()
	words := rapid.SliceOfN(word, 0, 5)
	at := rapid.Custom(func(t *rapid.T) time.Time {
		return time.Unix(rapid.Int64Range(-1e9, 1e11).Draw(t, "s"), rapid.Int64Range(0, 999999999).Draw(t, "ns"))
	})
	return Metadata{
		Attempt: rapid.Uint64().Draw(t, "attempt"), Lease: word.Draw(t, "lease"), From: word.Draw(t, "from"), To: word.Draw(t, "to"),
		LastFrom: word.Draw(t, "last"), MovedAt: at.Draw(t, "at"), Moves: rapid.SliceOfN(at, 0, 6).Draw(t, "moves"),
		Mode: rapid.SampledFrom([]string{"", "advise", "approve", "auto"}).Draw(t, "mode"), Pin: word.Draw(t, "pin"),
		Affinity: words.Draw(t, "affinity"), AntiAffinity: words.Draw(t, "anti"),
		Near: words.Draw(t, "near"), Apart: words.Draw(t, "apart"), Partners: words.Draw(t, "partners"),
		Hosts: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) HostRule {
			return HostRule{Host: word.Draw(t, "host"), Word: rapid.SampledFrom([]string{levelMust, levelShould, levelShouldNot, levelMustNot}).Draw(t, "word")}
		}), 0, 4).Draw(t, "hosts"),
	}
}

// foreign is another program's part of the metadata; what it quotes is not ours.
const foreign = `<other xmlns="urn:x"><vm/><vm xmlns="urn:headroom:1"><move attempt="99"/></vm></other>`

// TestMetadataIsReadAsWrittenOrRefused: a value that XML cannot hold is an error
// and never another value.
func TestMetadataIsReadAsWrittenOrRefused(t *testing.T) {
	written := 0
	rapid.Check(t, func(t *rapid.T) {
		m := genMetadata(t)
		text, err := m.Encode()
		if err != nil {
			if !errors.Is(err, ErrMetadata) {
				t.Fatalf("refused by %v", err)
			}
			return
		}
		written++
		d, err := parseDomain("<domain><metadata>" + foreign + text + "</metadata></domain>")
		if err != nil || !d.Metadata.equal(m) {
			t.Fatalf("%+v was read back as %+v (%v) from %s", m, d.Metadata, err, text)
		}
	})
	if written == 0 {
		t.Error("nothing was ever written")
	}
}

// ruled is what docs/RULES.md shows.
const ruled = `<headroom:vm xmlns:headroom="urn:headroom:1"><headroom:policy mode="approve" pin="">
  <headroom:affinity>db1</headroom:affinity>
  <headroom:affinity level="should">cache1</headroom:affinity>
  <headroom:anti-affinity>group:web</headroom:anti-affinity>
  <headroom:anti-affinity level="should">batch1</headroom:anti-affinity>
  <headroom:host>hv1</headroom:host>
  <headroom:host rule="must">hv2</headroom:host>
  <headroom:host rule="should-not">hv3</headroom:host>
  <headroom:partner>db1</headroom:partner>
</headroom:policy></headroom:vm>`

func TestOwnersRulesAreRead(t *testing.T) {
	got, err := DecodeMetadata(ruled)
	want := Metadata{Mode: "approve", Affinity: []string{"db1"}, Near: []string{"cache1"}, AntiAffinity: []string{"group:web"}, Apart: []string{"batch1"},
		Hosts: []HostRule{{"hv1", "must"}, {"hv2", "must"}, {"hv3", "should-not"}}, Partners: []string{"db1"}}
	if err != nil || !got.equal(want) {
		t.Errorf("%+v (%v), want %+v", got, err, want)
	}
	for _, wrong := range []string{`<affinity level="maybe">a</affinity>`, `<anti-affinity level="must-not">a</anti-affinity>`, `<host rule="never">a</host>`} {
		if m, err := DecodeMetadata(`<vm xmlns="urn:headroom:1"><policy>` + wrong + `</policy></vm>`); !errors.Is(err, ErrMetadata) {
			t.Errorf("%s is read as %+v, %v", wrong, m, err)
		}
	}
}

func TestMetadataThatXMLCannotHoldIsRefused(t *testing.T) {
	for name, m := range map[string]Metadata{
		"control character": {Lease: "a\x00b"},
		"broken UTF-8":      {Pin: "\xff"},
		"far future":        {MovedAt: time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)},
		"mode":              {Mode: "fast"},
		"too big":           {Pin: strings.Repeat("x", maxMetadata)},
		"host rule":         {Hosts: []HostRule{{Host: "hv1", Word: "maybe"}}},
		"too many hosts":    {Hosts: make([]HostRule, maxListed+1)},
		"too many":          {Affinity: make([]string, maxListed+1)},
		"too many moves":    {Moves: make([]time.Time, maxListed+1)},
	} {
		if text, err := m.Encode(); !errors.Is(err, ErrMetadata) {
			t.Errorf("%s: written as %.80q, %v", name, text, err)
		}
	}
}

// TestAttemptZeroLosesNothing: the lease of a first attempt is kept.
func TestAttemptZeroLosesNothing(t *testing.T) {
	m := Metadata{Lease: "l", To: "h1"}
	text, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if back, err := DecodeMetadata(text); err != nil || !back.equal(m) {
		t.Errorf("read back as %+v, %v", back, err)
	}
}

func FuzzMetadata(f *testing.F) {
	f.Add("")
	f.Add(`<vm xmlns="urn:headroom:1"><move attempt="3" lease="l" from="a" to="b" last-from="c" moved-at="2026-01-02T03:04:05.5Z"/><past><moved at="2026-01-02T03:04:05Z"/></past><policy mode="auto" pin="x"><affinity>a</affinity></policy></vm>`)
	f.Add(ruled)
	f.Add(`<vm xmlns="urn:other"/>`)
	f.Fuzz(func(t *testing.T, text string) {
		m, err := DecodeMetadata(text)
		if err != nil {
			if !errors.Is(err, ErrMetadata) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		again, err := m.Encode()
		if err != nil {
			if !errors.Is(err, ErrMetadata) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if back, err := DecodeMetadata(again); err != nil || !back.equal(m) {
			t.Fatalf("%+v became %+v (%v)", m, back, err)
		}
	})
}
