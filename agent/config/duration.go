package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration that reads and writes as text: "250ms", "30s",
// "1h30m", and "90d" for whole days, which time.ParseDuration does not know. It is
// a struct so that a bare number in the file, which has no unit, does not decode.
type Duration struct{ time.Duration }

// Of wraps a time.Duration.
func Of(d time.Duration) Duration { return Duration{d} }

// errDuration is the advice that goes with each text that is not a duration.
var errDuration = errors.New(`want a duration such as "250ms", "30s", "2h" or "90d"`)

const day = 24 * time.Hour

// ParseDuration reads the text form of a Duration. Days are whole and stand first
// ("2d12h"); a day is 24 hours.
func ParseDuration(text string) (Duration, error) {
	rest := text
	var days time.Duration
	if head, tail, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.ParseUint(head, 10, 32)
		if err != nil || time.Duration(n) > math.MaxInt64/day {
			return Duration{}, fmt.Errorf("%q is not a duration: %w", text, errDuration)
		}
		if days, rest = time.Duration(n)*day, tail; rest == "" {
			return Duration{days}, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || (days > 0 && (d < 0 || d > math.MaxInt64-days)) {
		return Duration{}, fmt.Errorf("%q is not a duration: %w", text, errDuration)
	}
	return Duration{days + d}, nil
}

// String returns the shortest text that ParseDuration reads back: "90d", "1h30m",
// "30s", never "1h0m0s".
func (d Duration) String() string {
	if d.Duration >= 2*day && d.Duration%day == 0 {
		return strconv.FormatInt(int64(d.Duration/day), 10) + "d"
	}
	s := d.Duration.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := ParseDuration(string(text))
	if err == nil {
		*d = v
	}
	return err
}
