package faults

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCompleted(t *testing.T) {
	const first, last = "2026-11-23 10:09:40.612+0000: shutting down, reason=migrated\n", "2026-11-23 11:09:40.700+0000: shutting down, reason=migrated\n"
	for _, c := range []struct{ name, log, want string }{
		{"the last of two", "2026-11-23 10:09:37.625+0000: initiating migration\n" + first + "char device\n" + last + "2026-11-23 12:00:00.000+0000: starting up\n", "2026-11-23T11:09:40.7Z"},
		{"the only line", last, "2026-11-23T11:09:40.7Z"},
		{"crashed", strings.ReplaceAll(first, "migrated", "crashed"), ""},
		{"no time", ": shutting down, reason=migrated\n", ""},
	} {
		got, err := completed(c.log)
		if c.want == "" {
			if err == nil {
				t.Errorf("%s: got %v, want an error", c.name, got)
			}
			continue
		}
		if err != nil || got.UTC().Format(time.RFC3339Nano) != c.want {
			t.Errorf("%s: got %v, %v; want %s", c.name, got, err, c.want)
		}
	}
}

func TestBlackoutTable(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	parts := parts(at(0), at(100), at(320), at(325), at(333), at(350))
	if diff := cmp.Diff(Blackout{FinishMS: 100, EndMS: 220, RecordMS: 5, TellMS: 8, ResumeMS: 17}, parts); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
	var out strings.Builder
	BlackoutTable(&out, []Timing{{Bare: true}, {Parts: parts}})
	if got := out.String(); !strings.Contains(got, "median of 1") || !strings.Contains(got, "| libvirt ends the source's QEMU | 220.0 |") {
		t.Errorf("table %s", got)
	}
	out.Reset()
	if BlackoutTable(&out, []Timing{{Bare: true}}); out.Len() > 0 {
		t.Errorf("table of nothing: %s", out.String())
	}
}
