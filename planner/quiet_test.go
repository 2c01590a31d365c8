package planner

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func clock(from, to int) QuietHours { return QuietHours{From: from * 60, To: to * 60} }

func TestQuietHours(t *testing.T) {
	at := func(text string) time.Time { // 2026-09-07 is a Monday
		v, err := time.Parse("2006-01-02 15:04", "2026-09-"+text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	night, work := clock(22, 6), clock(8, 18)
	all := clock(0, 24)
	for _, c := range []struct {
		hours      QuietHours
		days       string
		now, until string
	}{
		{night, "0123456", "07 21:59", ""},
		{night, "0123456", "07 22:00", "08 06:00"},
		{night, "0123456", "08 05:59", "08 06:00"},
		{night, "0123456", "08 06:00", ""},
		{work, "12345", "07 08:00", "07 18:00"},
		{work, "12345", "07 18:00", ""},
		{work, "12345", "12 12:00", ""}, // a Saturday
		{all, "5601", "06 12:00", "07 00:00"},
		{all, "5601", "08 12:00", ""},
		{all, "60", "12 23:59", "13 00:00"},
		{clock(23, 1), "0", "07 00:30", "07 01:00"}, // of the day before
		{clock(23, 1), "0", "06 00:30", ""},
		{clock(23, 1), "0", "06 23:00", "07 01:00"},
	} {
		q := c.hours
		for _, d := range c.days {
			q.Days[d-'0'] = true
		}
		until, quiet := q.Until(at(c.now))
		if quiet != (c.until != "") || quiet && !until.Equal(at(c.until)) {
			t.Errorf("%+v at %s: %v until %v, want %q", q, c.now, quiet, until, c.until)
		}
	}
}

// TestQuietHoursEndWhenTheySay: a second before the end is quiet, the end is not,
// unless another day's hours follow at once.
func TestQuietHoursEndWhenTheySay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := QuietHours{From: rapid.IntRange(0, 24*60-1).Draw(t, "from"), To: rapid.IntRange(0, 24*60).Draw(t, "to")}
		if q.From == q.To || q.From%(24*60) == q.To%(24*60) {
			return
		}
		for i := range q.Days {
			q.Days[i] = rapid.Bool().Draw(t, "day")
		}
		now := epoch.Add(time.Duration(rapid.Int64Range(0, 14*24*3600).Draw(t, "s")) * time.Second)
		until, quiet := q.Until(now)
		if !quiet {
			return
		}
		if !until.After(now) || until.Sub(now) > 24*time.Hour {
			t.Fatalf("quiet at %s until %s", now, until)
		}
		if _, before := q.Until(until.Add(-time.Second)); !before {
			t.Fatalf("not quiet a second before %s", until)
		}
		if _, after := q.Until(until); after {
			t.Fatalf("still quiet at %s", until)
		}
	})
}

// TestQuietHoursHoldMovesAndNotDrains: an operator who drains at night means it.
func TestQuietHoursHoldMovesAndNotDrains(t *testing.T) {
	h, peer, p := pressed()
	q := clock(11, 13)
	q.Days[epoch.Weekday()] = true
	p.Quiet = []QuietHours{q}
	if d := decide(h, peer, State{}, p); d.Action != ActionFrozen || !strings.Contains(d.Reason, "13:00") {
		t.Errorf("at %s: %s", epoch, d.Explain())
	}
	h.Draining = true
	if d := decide(h, peer, State{}, p); d.Action != ActionMove {
		t.Errorf("a drain waits for the end of the quiet hours: %s", d.Explain())
	}
}
