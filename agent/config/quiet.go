package config

import (
	"fmt"
	"strings"
	"time"
)

// Quiet is one of planner.quiet_hours, read: minutes of the day, and the days on
// which it begins, from Sunday on. To may be 24:00, and before From: the next day.
type Quiet struct {
	Days     [7]bool
	From, To int
}

var weekdays = [7]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// ParseQuiet reads «[DAYS] HH:MM-HH:MM»: "22:00-06:00", "mon-fri 08:00-18:00",
// "sat,sun 00:00-24:00". Without days it is every day.
func ParseQuiet(text string) (Quiet, error) {
	var q Quiet
	fields := strings.Fields(strings.ToLower(text))
	bad := func(what string) (Quiet, error) {
		return Quiet{}, fmt.Errorf("quiet hours %q: %s: give them as \"22:00-06:00\" or \"mon-fri 08:00-18:00\"", text, what)
	}
	switch len(fields) {
	case 1:
		q.Days = [7]bool{true, true, true, true, true, true, true}
	case 2:
		if !q.parseDays(fields[0]) {
			return bad("days not understood")
		}
	default:
		return bad("not understood")
	}
	from, to, ok := strings.Cut(fields[len(fields)-1], "-")
	var okFrom, okTo bool
	q.From, okFrom = minuteOf(from)
	q.To, okTo = minuteOf(to)
	if !ok || !okFrom || !okTo || q.From == 24*60 {
		return bad("times not understood")
	}
	if q.From == q.To {
		return bad("they begin when they end")
	}
	return q, nil
}

func (q *Quiet) parseDays(text string) bool {
	for part := range strings.SplitSeq(text, ",") {
		first, last, ranged := strings.Cut(part, "-")
		a := dayOf(first)
		b := a
		if ranged {
			b = dayOf(last)
		}
		if a < 0 || b < 0 {
			return false
		}
		for d := a; ; d = (d + 1) % 7 {
			q.Days[d] = true
			if d == b {
				break
			}
		}
	}
	return true
}

func dayOf(name string) int {
	for i, d := range weekdays {
		if d == name {
			return i
		}
	}
	return -1
}

func minuteOf(text string) (int, bool) {
	if text == "24:00" {
		return 24 * 60, true
	}
	t, err := time.Parse("15:04", text)
	return t.Hour()*60 + t.Minute(), err == nil && len(text) == 5
}
