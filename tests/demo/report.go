package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// verdict is the JSON line at the end.
type verdict struct {
	LostWorkRatio   *float64 `json:"lost_work_ratio"`
	ContentionRatio *float64 `json:"contention_ratio"`
	LeadS           *float64 `json:"lead_s"`
	Migrations      int      `json:"migrations"`
	BlackoutMS      float64  `json:"blackout_ms"`
	Simulated       bool     `json:"simulated"`
}

// ratio is a/b, nil when b is nothing.
func ratio(a, b float64) *float64 {
	if b <= 0 {
		return nil
	}
	r := math.Round(1000*a/b) / 1000
	return &r
}

func verdictOf(without, with figures, simulated bool) verdict {
	v := verdict{LostWorkRatio: ratio(with.lost, without.lost), ContentionRatio: ratio(with.contention, without.contention),
		Migrations: with.migrations, BlackoutMS: math.Round(with.blackoutMS), Simulated: simulated}
	if with.leadS != nil {
		lead := math.Round(10**with.leadS) / 10
		v.LeadS = &lead
	}
	return v
}

// failure is why the demo did not show what it is to show; nil when it did.
func failure(without, with figures) error {
	switch dead := slices.Concat(without.dead, with.dead); {
	case len(dead) > 0:
		return fmt.Errorf("the story failed: %s", strings.Join(dead, "; "))
	case without.lost <= 0:
		return fmt.Errorf("the story failed: without headroom no work was lost, so there was no contention to avoid")
	case with.migrations == 0:
		return fmt.Errorf("the story failed: no VM was moved")
	case with.leadS == nil:
		return fmt.Errorf("the story failed: a VM moved without a predicted contention")
	case *with.leadS <= 0:
		return fmt.Errorf("the story failed: the move ended %.1f s after the contention that it was to avoid", -*with.leadS)
	}
	return nil
}

// table writes the comparison.
func table(out io.Writer, without, with figures, simulated bool) error {
	if simulated {
		fmt.Fprintln(out, "SIMULATED: no hypervisor ran; see above for what is missing")
	}
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	row := func(name, a, b string) { fmt.Fprintf(w, "%s\t%s\t%s\t\n", name, a, b) }
	n := func(v float64, unit string) string { return fmt.Sprintf("%.2f %s", v, unit) }
	row("", "without", "with headroom")
	row("work demanded by the guests", n(without.demanded, "core-s"), n(with.demanded, "core-s"))
	row("work lost, by the guests' own account", n(without.lost, "core-s"), n(with.lost, "core-s"))
	row("contention (run-queue wait, eBPF)", n(without.contention, "core-s"), n(with.contention, "core-s"))
	row("migrations", fmt.Sprint(without.migrations), fmt.Sprintf("%d (%s)", with.migrations, with.moved))
	row("copy time", "-", n(with.copyS, "s"))
	row("blackout", "-", fmt.Sprintf("%.0f ms", with.blackoutMS))
	lead := "-"
	if with.leadS != nil {
		lead = n(*with.leadS, "s")
	}
	row("first move over before predicted contention by", "-", lead)
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}

func writeVerdict(out io.Writer, v verdict) error {
	if err := json.NewEncoder(out).Encode(v); err != nil {
		return fmt.Errorf("write the figures: %w", err)
	}
	return nil
}
