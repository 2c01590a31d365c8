package negotiate_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"headroom/planner/negotiate"
)

func TestDecodeMessageRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want error
	}{
		"another version, other shape": {`{"version":2,"kind":7}`, negotiate.ErrMessageVersion},
		"no version":                   {`{"kind":"ack","vm":"v","attempt":1}`, negotiate.ErrMessageVersion},
		"not JSON":                     {`{`, negotiate.ErrMessage},
		"unknown kind":                 {`{"version":1,"kind":"bid","vm":"v","attempt":1}`, negotiate.ErrMessage},
		"no attempt":                   {`{"version":1,"kind":"ack","vm":"v"}`, negotiate.ErrMessage},
		"commit without lease":         {`{"version":1,"kind":"commit","vm":"v","attempt":1}`, negotiate.ErrMessage},
		"reserve without need":         {`{"version":1,"kind":"reserve","vm":"v","attempt":1,"guard":"lock"}`, negotiate.ErrMessage},
		"reserve with negative need":   {`{"version":1,"kind":"reserve","vm":"v","attempt":1,"guard":"lock","need":{"cores":-1}}`, negotiate.ErrMessage},
		"refusal of no known kind":     {`{"version":1,"kind":"refused","vm":"v","attempt":1,"refusal":{"kind":"mood"}}`, negotiate.ErrMessage},
		"grant without time":           {`{"version":1,"kind":"granted","vm":"v","attempt":1,"lease":"l"}`, negotiate.ErrMessage},
		"reply without copy":           {`{"version":1,"kind":"status_reply","vm":"v","attempt":1,"lease":"l"}`, negotiate.ErrMessage},
		"too long":                     {`{"version":1,"vm":"` + strings.Repeat("v", negotiate.MaxMessage) + `"}`, negotiate.ErrMessage},
	} {
		t.Run(name, func(t *testing.T) {
			if m, err := negotiate.DecodeMessage([]byte(c.in)); !errors.Is(err, c.want) {
				t.Errorf("got %+v, %v; want %v", m, err, c.want)
			}
		})
	}
	// A later agent may add fields.
	if _, err := negotiate.DecodeMessage([]byte(`{"version":1,"kind":"ack","vm":"v","attempt":1,"mood":"good"}`)); err != nil {
		t.Errorf("an unknown field: %v", err)
	}
}

func TestDecodeRecordRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		in           string
		source, dest error
	}{
		"another version, other shape": {`{"version":9,"state":4}`, negotiate.ErrRecordVersion, negotiate.ErrRecordVersion},
		"not JSON":                     {`x`, negotiate.ErrRecord, negotiate.ErrRecord},
		"empty":                        {`{"version":1}`, negotiate.ErrRecord, negotiate.ErrRecord},
		"unknown state": {`{"version":1,"vm":"v","attempt":1,"from":"A","to":"B","source":"A","lease":"l","guard":"lock","state":"x"}`,
			negotiate.ErrRecord, negotiate.ErrRecord},
		"unknown guard": {`{"version":1,"vm":"v","attempt":1,"from":"A","to":"B","source":"A","lease":"l","guard":"x","state":"aborted"}`,
			negotiate.ErrRecord, negotiate.ErrRecord},
		"migrating without lease": {`{"version":1,"vm":"v","attempt":1,"from":"A","to":"B","guard":"lock","state":"migrating"}`,
			negotiate.ErrRecord, negotiate.ErrRecord},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := negotiate.DecodeSourceRecord([]byte(c.in)); !errors.Is(err, c.source) {
				t.Errorf("source: got %v, want %v", err, c.source)
			}
			if _, err := negotiate.DecodeDestRecord([]byte(c.in)); !errors.Is(err, c.dest) {
				t.Errorf("destination: got %v, want %v", err, c.dest)
			}
		})
	}
}

// TestStartAllowed is rule (d): a host never restarts a VM that may be elsewhere.
func TestStartAllowed(t *testing.T) {
	for state, want := range map[negotiate.SourceState]bool{
		negotiate.SourceReserving: true, negotiate.SourceAborted: true,
		negotiate.SourceMigrating: false, negotiate.SourceCommitted: false,
	} {
		if got, why := (negotiate.SourceRecord{State: state, To: "B", Attempt: 3}).StartAllowed(); got != want || got == (why != "") {
			t.Errorf("%s: got %t %q, want %t", state, got, why, want)
		}
	}
}

// FuzzDecodeMessage: what decodes encodes to the same, and no message whatever
// makes a source or a destination panic.
func FuzzDecodeMessage(f *testing.F) {
	need := &negotiate.Need{Cores: 1}
	for _, m := range []negotiate.Message{
		{Kind: negotiate.Reserve, Guard: negotiate.GuardPaused, Need: need},
		{Kind: negotiate.Granted, Lease: "l", TTLMS: 5},
		{Kind: negotiate.Refused, Refusal: &negotiate.Refusal{Kind: negotiate.RefusedBusy}},
		{Kind: negotiate.Commit, Lease: "l"}, {Kind: negotiate.Abort}, {Kind: negotiate.Status, Lease: "l"},
		{Kind: negotiate.StatusReply, Lease: "l", Copy: negotiate.CopyPaused, Record: negotiate.DestIncoming},
		{Kind: negotiate.Ack},
	} {
		m.VM, m.Attempt = "vm", 1
		b, err := m.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := negotiate.DecodeMessage(b)
		if err != nil {
			if !errors.Is(err, negotiate.ErrMessage) && !errors.Is(err, negotiate.ErrMessageVersion) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatalf("decoded and cannot be encoded: %v", err)
		}
		back, err := negotiate.DecodeMessage(again)
		if err != nil || !cmp.Equal(m, back) {
			t.Fatalf("%+v came back as %+v: %v", m, back, err)
		}
		rec := negotiate.SourceRecord{VM: m.VM, Attempt: m.Attempt, From: "A", To: "B", Lease: m.Lease, Guard: negotiate.GuardLock}
		for _, state := range []negotiate.SourceState{negotiate.SourceMigrating, negotiate.SourceCommitted, negotiate.SourceAborted} {
			rec.State = state
			s, _ := negotiate.RecoverSource("A", negotiate.Timing{}, rec)
			s.Step(negotiate.Moment{}, negotiate.Received{From: "B", Message: m})
		}
		d, _ := negotiate.RecoverDestination("B", negotiate.Limits{}, []negotiate.DestRecord{{VM: m.VM, Attempt: m.Attempt,
			Lease: m.Lease, Source: "A", Guard: negotiate.GuardPaused, State: negotiate.DestIncoming}}, negotiate.Moment{})
		d.Step(negotiate.Moment{}, negotiate.Received{From: "A", Message: m})
	})
}

// FuzzDecodeRecord: a journal may hold anything.
func FuzzDecodeRecord(f *testing.F) {
	f.Add([]byte(`{"version":1,"vm":"v","attempt":1,"from":"A","to":"B","lease":"l","guard":"lock","state":"migrating"}`))
	f.Add([]byte(`{"version":1,"vm":"v","attempt":1,"source":"A","lease":"l","guard":"paused","state":"held","need":{"cores":1,"memory_mib":2},"counter":3}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := negotiate.DecodeSourceRecord(b); err == nil {
			again, err := r.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if back, err := negotiate.DecodeSourceRecord(again); err != nil || back != r {
				t.Fatalf("%+v came back as %+v: %v", r, back, err)
			}
			negotiate.RecoverSource("A", negotiate.Timing{}, r)
		}
		if r, err := negotiate.DecodeDestRecord(b); err == nil {
			again, err := r.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if back, err := negotiate.DecodeDestRecord(again); err != nil || back != r {
				t.Fatalf("%+v came back as %+v: %v", r, back, err)
			}
			negotiate.RecoverDestination("B", negotiate.Limits{}, []negotiate.DestRecord{r}, negotiate.Moment{})
		}
	})
}
