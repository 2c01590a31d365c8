package config

import (
	"strings"
	"testing"
)

func TestQuietHoursAreRead(t *testing.T) {
	daily := [7]bool{true, true, true, true, true, true, true}
	for text, want := range map[string]Quiet{
		"22:00-06:00":         {daily, 22 * 60, 6 * 60},
		"mon-fri 08:00-18:30": {[7]bool{1: true, 2: true, 3: true, 4: true, 5: true}, 8 * 60, 18*60 + 30},
		"Fri-Mon 00:00-24:00": {[7]bool{0: true, 1: true, 5: true, 6: true}, 0, 24 * 60},
		"sat,sun 23:00-01:00": {[7]bool{0: true, 6: true}, 23 * 60, 60},
	} {
		if got, err := ParseQuiet(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "night", "22:00", "22:00-22:00", "24:00-06:00", "25:00-06:00", "8:00-9:00", "mo 08:00-09:00", "mon- 08:00-09:00", "a b 08:00-09:00"} {
		if q, err := ParseQuiet(text); err == nil || !strings.Contains(err.Error(), "mon-fri") {
			t.Errorf("%q is understood as %+v (%v)", text, q, err)
		}
	}
}
