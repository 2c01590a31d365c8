package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"headroom/agent/api"
)

// forecastCmd shows the forecast of one VM.
type forecastCmd struct{ *env }

func (c *forecastCmd) command() *cobra.Command {
	return &cobra.Command{
		Use:   "forecast VM",
		Short: "Show the demand forecast of one VM: quantiles by step, the peak, the methods",
		Args:  exactArgs(1),

		ValidArgsFunction: c.complete(c.vmNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := c.client().Forecast(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.print(f, func(w *tabwriter.Writer) { forecastTable(w, f) })
		},
	}
}

func forecastTable(w *tabwriter.Writer, f api.VMForecast) {
	row(w, "VM:", f.Name)
	if !f.CPU.Ready {
		row(w, "CPU demand:", "no forecast yet: "+f.CPU.Why)
		sharedRows(w, f)
		return
	}
	row(w, "CPU demand:", fmt.Sprintf("%s; method %s, skill against naive %s, q95 coverage %s, %d samples, %d missing",
		f.CPU.Unit, f.CPU.Method, opt(f.CPU.Skill, "%.2f"), opt(f.CPU.Coverage, "%.2f"), f.CPU.Observed, f.CPU.Missing))
	for _, h := range f.HotSpots {
		row(w, "Hot spot:", h)
	}
	sharedRows(w, f)
	row(w)
	head := []string{"AHEAD"}
	for _, l := range f.CPU.Levels {
		head = append(head, fmt.Sprintf("P%.0f", l*100))
	}
	row(w, head...)
	for i, q := range f.CPU.Steps {
		row(w, append([]string{seconds(f.CPU.StepS * float64(i+1))}, quantiles(q)...)...)
	}
	row(w, append([]string{"peak"}, quantiles(f.CPU.Peak)...)...)
	row(w)
	row(w, "METHOD", "LOSS", "STATE")
	for _, m := range f.CPU.Members {
		state := "on"
		if m.Off {
			state = "off: " + m.Why
		}
		if m.Name == f.CPU.Method {
			state = "chosen"
		}
		row(w, m.Name, opt(m.Loss, "%.4f"), state)
	}
}

// sharedRows tell the peaks of what the host has limits for beside cores.
func sharedRows(w *tabwriter.Writer, f api.VMForecast) {
	for _, s := range []struct {
		name     string
		forecast *api.Forecast
		scale    float64
		unit     string
	}{{"Memory demand:", f.Memory, 1, "MiB"}, {"Disk traffic:", f.Disk, 1e-6, "MB/s"}, {"Network traffic:", f.Network, 1e-6, "MB/s"}} {
		switch {
		case s.forecast == nil:
		case !s.forecast.Ready || len(s.forecast.Peak) < 3:
			row(w, s.name, "no forecast yet: "+s.forecast.Why)
		default:
			p := s.forecast.Peak
			row(w, s.name, fmt.Sprintf("peak p50 %.1f, p90 %.1f %s; method %s, skill against naive %s",
				p[0]*s.scale, p[2]*s.scale, s.unit, s.forecast.Method, opt(s.forecast.Skill, "%.2f")))
		}
	}
}

func quantiles(q []float64) []string {
	out := make([]string, len(q))
	for i, v := range q {
		out[i] = cores(v)
	}
	return out
}
