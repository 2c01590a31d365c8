package planner

import "time"

// QuietHours is a time of the week in which no move begins by itself, by the
// clock of the host. A time that ends before it begins lasts into the next day.
type QuietHours struct {
	Days     [7]bool // on which it begins; index time.Weekday
	From, To int     // minutes of the day; To may be 24:00
}

// Until says whether now, in its own location, lies within the quiet hours, and
// when they end.
func (q QuietHours) Until(now time.Time) (time.Time, bool) {
	minute := now.Hour()*60 + now.Minute()
	today := int(now.Weekday())
	end := func(days int) time.Time {
		return time.Date(now.Year(), now.Month(), now.Day()+days, 0, q.To, 0, 0, now.Location())
	}
	if q.From < q.To {
		return end(0), q.Days[today] && minute >= q.From && minute < q.To
	}
	if q.Days[today] && minute >= q.From {
		return end(1), true
	}
	return end(0), q.Days[(today+6)%7] && minute < q.To
}

// quiet says until when the policy lets no move begin by itself.
func (p *Policy) quiet(now time.Time) (until time.Time, quiet bool) {
	for _, q := range p.Quiet {
		if t, in := q.Until(now); in && t.After(until) {
			until, quiet = t, true
		}
	}
	return until, quiet
}
