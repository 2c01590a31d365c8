package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"headroom/agent/api"
)

func lead(s float64) *float64 { return &s }

// TestFailure: the demo says why it did not show what it is to show.
func TestFailure(t *testing.T) {
	lost := figures{lost: 7}
	moved := figures{lost: 0.2, migrations: 1, leadS: lead(3)}
	for name, c := range map[string]struct {
		without, with figures
		want          string
	}{
		"as told":               {lost, moved, ""},
		"nothing to avoid":      {figures{}, moved, "no contention to avoid"},
		"no move":               {lost, figures{}, "no VM was moved"},
		"move without a reason": {lost, figures{migrations: 1}, "without a predicted contention"},
		"too late":              {lost, figures{migrations: 1, leadS: lead(-1.8)}, "1.8 s after the contention"},
		"a guest broke down":    {lost, figures{migrations: 1, leadS: lead(3), dead: []string{"db works no more: h1 says crashed"}}, "db works no more"},
	} {
		err := failure(c.without, c.with)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestCountingMoves: of several moves the longest copy and blackout count, and the
// lead of the first one that has one.
func TestCountingMoves(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var f figures
	for _, m := range []api.Migration{
		{VMName: "b", To: "h2", Outcome: "moved", Started: at.Add(20 * time.Second), LeadS: lead(8), CopyS: lead(1), BlackoutMS: lead(600)},
		{VMName: "a", To: "h1", Outcome: "moved", Started: at, CopyS: lead(2), BlackoutMS: lead(500)},
		{VMName: "c", To: "h1", Outcome: "moved", Started: at.Add(10 * time.Second), LeadS: lead(5)},
		{VMName: "d", Outcome: "refused", LeadS: lead(99)},
		{VMName: "e", Outcome: "aborted", LeadS: lead(99)},
	} {
		f.add(m)
	}
	if f.migrations != 3 || f.failed != 1 || f.copyS != 2 || f.blackoutMS != 600 || f.leadS == nil || *f.leadS != 5 {
		t.Errorf("%+v", f)
	}
}

// TestVerdictNames holds the JSON line's names, which programs read.
func TestVerdictNames(t *testing.T) {
	b, err := json.Marshal(verdictOf(figures{lost: 8, contention: 100}, figures{lost: 2, contention: 25, leadS: lead(3.14), migrations: 2, blackoutMS: 600.4}, true))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"lost_work_ratio":0.25,"contention_ratio":0.25,"lead_s":3.1,"migrations":2,"blackout_ms":600,"simulated":true}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
}
