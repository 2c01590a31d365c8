package faults

import (
	"fmt"
	"io"
	"math"
	"slices"
)

// Summary is the figures of all trials and timings. A figure that was not measured
// is NaN.
type Summary struct {
	Faults, Missed, DoubleRuns, LostVMs, Died, LeakedLeases, Unsettled int
	SettleSMax                                                         float64
	BareFaults, BareDoubleRuns, BareLostVMs, BareUnsettled             int
	Finish, BareFinish                                                 Breaches // of the trials above
	MigrateTimeRatio, PausedBlackoutMS, PlainBlackoutMS, NegotiateMS   float64
}

// Breaches are what trials did in which the reply to Finish was lost.
type Breaches struct{ Trials, DoubleRuns, LostVMs, Unsettled int }

func (b *Breaches) add(r *Result) {
	if r.Phase != Finish || !r.Hit {
		return
	}
	b.Trials++
	b.DoubleRuns += one(r.Double())
	b.LostVMs += one(r.Lost)
	b.Unsettled += one(!r.Settled)
}

// figures writes them under names that begin alike.
func (b *Breaches) figures(prefix string, out map[string]float64) {
	out[prefix+"trials"], out[prefix+"double_runs"] = float64(b.Trials), float64(b.DoubleRuns)
	out[prefix+"lost_vms"], out[prefix+"unsettled"] = float64(b.LostVMs), float64(b.Unsettled)
}

// Sum adds trials and timings up. Times are medians; the ratio is that of the
// medians of all timings, ours to virsh's.
func Sum(trials []Result, timings []Timing) Summary {
	var s Summary
	for i := range trials {
		s.add(&trials[i])
	}
	ours, bare := split(timings)
	s.MigrateTimeRatio = median(ours, func(t Timing) float64 { return t.TotalMS }) / median(bare, func(t Timing) float64 { return t.TotalMS })
	s.PausedBlackoutMS = median(ours, func(t Timing) float64 { return t.BlackoutMS })
	s.PlainBlackoutMS = median(bare, func(t Timing) float64 { return t.BlackoutMS })
	s.NegotiateMS = median(ours, func(t Timing) float64 { return t.NegotiateMS })
	return s
}

func (s *Summary) add(r *Result) {
	if r.Bare {
		s.BareFinish.add(r)
		s.BareFaults++
		s.BareDoubleRuns += one(r.Double())
		s.BareLostVMs += one(r.Lost)
		s.BareUnsettled += one(!r.Settled)
		return
	}
	s.Finish.add(r)
	s.Faults++
	s.Missed += one(!r.Hit)
	s.DoubleRuns += one(r.Double())
	s.LostVMs += one(r.Lost)
	s.Died += one(r.Died)
	s.LeakedLeases += r.Leaked
	s.Unsettled += one(!r.Settled)
	s.SettleSMax = max(s.SettleSMax, r.SettleS)
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

func split(timings []Timing) (ours, bare []Timing) {
	for _, t := range timings {
		if t.Bare {
			bare = append(bare, t)
		} else {
			ours = append(ours, t)
		}
	}
	return ours, bare
}

func median(list []Timing, figure func(Timing) float64) float64 {
	var values []float64
	for _, t := range list {
		values = append(values, figure(t))
	}
	if len(values) == 0 {
		return math.NaN()
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// Figures are the summary by the names of the benchmarks; what was not measured is
// left out.
func (s Summary) Figures() map[string]float64 {
	out := map[string]float64{
		"lab_faults": float64(s.Faults), "lab_double_runs": float64(s.DoubleRuns), "lab_lost_vms": float64(s.LostVMs),
		"lab_leaked_leases": float64(s.LeakedLeases), "lab_unsettled": float64(s.Unsettled), "settle_s_max": s.SettleSMax,
		"bare_faults": float64(s.BareFaults), "bare_double_runs": float64(s.BareDoubleRuns),
		"bare_lost_vms": float64(s.BareLostVMs), "bare_unsettled": float64(s.BareUnsettled),
		"migrate_time_ratio": s.MigrateTimeRatio, "paused_blackout_ms": s.PausedBlackoutMS,
		"plain_blackout_ms": s.PlainBlackoutMS, "negotiate_ms": s.NegotiateMS,
	}
	s.Finish.figures("finish_lost_", out)
	s.BareFinish.figures("finish_lost_bare_", out)
	for name, v := range out {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			delete(out, name)
		}
	}
	return out
}

// Table writes one line for each fault and phase, in Markdown.
func Table(w io.Writer, trials []Result) {
	fmt.Fprintln(w, "| with | fault | phase | trials | moved | stayed | died with it | ran twice | lost | leaked | settled after, worst |")
	fmt.Fprintln(w, "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, bare := range []bool{false, true} {
		for _, f := range append(Faults(), FinishFaults(bare)...) {
			for _, p := range append(Phases(), Finish) {
				var group []Result
				for _, r := range trials {
					if r.Bare == bare && r.Fault == f && r.Phase == p {
						group = append(group, r)
					}
				}
				if len(group) > 0 {
					line(w, group)
				}
			}
		}
	}
}

func line(w io.Writer, group []Result) {
	var moved, stayed, died, twice, lost, leaked, unsettled int
	worst := 0.0
	for i := range group {
		r := &group[i]
		over := r.Outcome == "moved" || r.Bare && r.Outcome == "ok"
		moved += one(over && !r.Died && !r.Lost)
		stayed += one(!over && !r.Died && !r.Lost)
		died += one(r.Died)
		twice += one(r.Double())
		lost += one(r.Lost)
		leaked += r.Leaked
		unsettled += one(!r.Settled)
		worst = max(worst, r.SettleS)
	}
	with, settle := "headroom", fmt.Sprintf("%.1f s", worst)
	if group[0].Bare {
		with = "virsh"
	}
	if unsettled > 0 {
		settle = fmt.Sprintf("%d never", unsettled)
	}
	fmt.Fprintf(w, "| %s | %s | %s | %d | %d | %d | %d | %d | %d | %d | %s |\n", with, group[0].Fault, group[0].Phase,
		len(group), moved, stayed, died, twice, lost, leaked, settle)
}
