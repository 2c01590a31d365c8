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

func TestMetadataThatXMLCannotHoldIsRefused(t *testing.T) {
	for name, m := range map[string]Metadata{
		"control character": {Lease: "a\x00b"},
		"broken UTF-8":      {Pin: "\xff"},
		"far future":        {MovedAt: time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)},
		"mode":              {Mode: "fast"},
		"too big":           {Pin: strings.Repeat("x", maxMetadata)},
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
