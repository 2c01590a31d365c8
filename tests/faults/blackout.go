package faults

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"headroom/planner/negotiate"
	"headroom/tests/model"
)

// Blackout says where the time of a paused hand-over's blackout goes: its parts, one
// after the other, in milliseconds.
type Blackout struct {
	FinishMS float64 `json:"finish_ms"` // the CPUs stop .. libvirt's word that the copy is complete: last pages, Finish
	EndMS    float64 `json:"end_ms"`    // .. the source's QEMU is gone, which libvirt looks at every 200 ms
	RecordMS float64 `json:"record_ms"` // .. the source's agent has it from libvirt and on disk
	TellMS   float64 `json:"tell_ms"`   // .. the message is at the destination and on disk
	ResumeMS float64 `json:"resume_ms"` // .. libvirt's word that the copy runs
}

// parts are the parts between these moments.
func parts(suspended, complete, stopped, recorded, told, resumed time.Time) Blackout {
	return Blackout{FinishMS: milliseconds(complete.Sub(suspended)), EndMS: milliseconds(stopped.Sub(complete)),
		RecordMS: milliseconds(recorded.Sub(stopped)), TellMS: milliseconds(told.Sub(recorded)), ResumeMS: milliseconds(resumed.Sub(told))}
}

// blackout takes the blackout of the newest move apart, by libvirt's events, its log of
// the VM at the source, and the agents' logs.
func (r *Rig) blackout(m *move, suspended, stopped, resumed time.Time) (Blackout, error) {
	log, err := os.ReadFile(m.from.host.Outside("/var/log/libvirt/qemu/" + guestName + ".log"))
	if err != nil {
		return Blackout{}, fmt.Errorf("libvirt's log of the guest: %w", err)
	}
	complete, err := completed(string(log))
	if err != nil {
		return Blackout{}, err
	}
	var logs [][]byte
	for _, s := range r.sides {
		b, err := os.ReadFile(s.node.Log())
		if err != nil {
			return Blackout{}, fmt.Errorf("steps of the agents: %w", err)
		}
		logs = append(logs, b)
	}
	steps, err := model.Steps(logs...)
	if err != nil {
		return Blackout{}, err
	}
	var recorded, told time.Time
	for _, l := range steps {
		switch {
		case string(l.Step.VM) != r.uuid:
		case l.Step.Side == negotiate.SideSource && l.Step.Event == "migrated":
			recorded = l.Time
		case l.Step.Side == negotiate.SideDestination && l.Step.Event == "commit" && l.Step.From != l.Step.To:
			told = l.Time
		}
	}
	if recorded.Before(suspended) || told.Before(recorded) {
		return Blackout{}, errors.New("the agents' logs tell no Commit of this move")
	}
	return parts(suspended, complete, stopped, recorded, told, resumed), nil
}

// completed is when libvirt noted last in a VM's log that it migrated away; libvirt
// writes that before it ends QEMU.
func completed(log string) (time.Time, error) {
	const mark = ": shutting down, reason=migrated"
	end := strings.LastIndex(log, mark)
	if end < 0 {
		return time.Time{}, errors.New("libvirt's log of the guest tells of no migration")
	}
	at := log[strings.LastIndex(log[:end], "\n")+1 : end]
	t, err := time.Parse("2006-01-02 15:04:05.000-0700", at)
	if err != nil {
		return t, fmt.Errorf("libvirt's log of the guest: %w", err)
	}
	return t, nil
}

// BlackoutTable writes the medians of the parts of the blackouts, in Markdown.
func BlackoutTable(w io.Writer, timings []Timing) {
	var list []Timing
	for _, t := range timings {
		if t.Parts != (Blackout{}) {
			list = append(list, t)
		}
	}
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(w, "\n| part of the paused blackout, median of %d | ms |\n| --- | --- |\n", len(list))
	for _, p := range []struct {
		name   string
		figure func(Blackout) float64
	}{
		{"last pages, libvirt's Finish", func(b Blackout) float64 { return b.FinishMS }},
		{"libvirt ends the source's QEMU", func(b Blackout) float64 { return b.EndMS }},
		{"to the source's agent, its journal", func(b Blackout) float64 { return b.RecordMS }},
		{"message, the destination's journal", func(b Blackout) float64 { return b.TellMS }},
		{"libvirt resumes the copy", func(b Blackout) float64 { return b.ResumeMS }},
	} {
		fmt.Fprintf(w, "| %s | %.1f |\n", p.name, median(list, func(t Timing) float64 { return p.figure(t.Parts) }))
	}
}
