package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"headroom/agent/api"
)

// statusCmd shows whether the agent is well and what it does.
type statusCmd struct{ *env }

func (c *statusCmd) command() *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show whether the agent is well, and this host's demand and forecast",
		Example: "  headroom status\n  headroom status --json | jq .host.pressure_probability",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.client().Status(cmd.Context())
			if err != nil {
				return err
			}
			return c.print(s, func(w *tabwriter.Writer) { statusTable(w, s) })
		},
	}
}

func statusTable(w *tabwriter.Writer, s api.Status) {
	name := s.HostName
	if s.Simulated {
		name += " (SIMULATED hypervisor)"
	}
	row(w, "Host:", name)
	row(w, "Host id:", s.HostID)
	row(w, "Version:", s.Version)
	row(w, "Up:", seconds(s.UptimeS))
	row(w, "Mode:", s.Mode)
	if s.Ready {
		row(w, "Planning:", "ready")
	} else {
		row(w, "Planning:", "held: "+strings.Join(s.NotReady, "; "))
	}
	if s.Pause.Version > 0 {
		row(w, "Cluster:", pauseLine(s.Pause))
	}
	if s.Drain.Draining {
		row(w, "Drain:", join(drainLine(s.Drain), s.Drain.Reason))
	}
	if s.Hypervisor.Connected {
		row(w, "Hypervisor:", s.Hypervisor.Driver+" "+s.Hypervisor.URI+", connected")
	} else {
		row(w, "Hypervisor:", s.Hypervisor.Driver+" "+s.Hypervisor.URI+", NOT connected: "+s.Hypervisor.Error)
	}
	row(w, "Sampler:", fmt.Sprintf("%s, every %gs, %.0f us a pass", s.Sampler.Tier, s.Sampler.WindowS, s.Sampler.PassUS))
	if s.Sampler.Taps != "" {
		row(w, "Taps:", fmt.Sprintf("%s, %.0f us a reading", s.Sampler.Taps, s.Sampler.TapsUS))
	}
	for _, r := range s.Sampler.Refused {
		row(w, "", "refused: "+r)
	}
	mesh := fmt.Sprintf("%d of %d hosts alive, health score %d", s.Mesh.Alive, s.Mesh.Members, s.Mesh.HealthScore)
	if !s.Mesh.Stable {
		mesh += ", view not stable: " + s.Mesh.Why
	}
	row(w, "Mesh:", mesh)
	if s.Mesh.Members > 0 {
		row(w, "Gossip:", fmt.Sprintf("a digest each %.0f s at most, a quarter of the %.1f/s that %d hosts' gossip carries; %d sent, %d held back, %d waiting",
			s.Mesh.DigestIntervalS, s.Mesh.BudgetPerS, s.Mesh.Members, s.Mesh.DigestsSent, s.Mesh.DigestsHeld, s.Mesh.QueueDepthPeak))
	}
	for _, reason := range sortedKeys(s.Mesh.Refused) {
		if n := s.Mesh.Refused[reason]; n > 0 {
			row(w, "", fmt.Sprintf("refused: %d %s", n, reason))
		}
	}
	row(w, "History:", fmt.Sprintf("%d samples, %.1f bytes a sample, %d corrupt", s.History.Samples, s.History.BytesPerSample, s.History.Corrupt))
	if s.History.Error != "" {
		row(w, "", "error: "+s.History.Error)
	}
	row(w, "Agent:", fmt.Sprintf("%.2f %% of one CPU, %.0f MiB, %d goroutines", s.Self.CPUPercent, s.Self.RSSMiB, s.Self.Goroutines))
	hostTable(w, s.Host)
}

func hostTable(w *tabwriter.Writer, h api.Host) {
	row(w, "CPU:", fmt.Sprintf("%s of %s cores wanted now (%s waited for); plans moves above %s, takes VMs below %s",
		cores(h.DemandCores), cores(h.CPUCores), cores(h.WaitCores), cores(h.HighCores), cores(h.LowCores)))
	row(w, "Memory:", fmt.Sprintf("%s of %s MiB free", mib(h.MemoryFree), mib(h.MemoryMiB)))
	row(w, "VMs:", fmt.Sprintf("%d here, %d leaving, %d arriving, %d leases held", h.VMs, h.Outgoing, h.Incoming, h.Held))
	row(w, "Forecast:", forecastLine(h))
}

func forecastLine(h api.Host) string {
	if h.VMs == 0 {
		return "no VM is here"
	}
	if !h.Forecast.Ready {
		return "not ready: " + h.Forecast.Why
	}
	text := fmt.Sprintf("peak of the next %s: %s; contention with probability %.2f",
		seconds(h.Forecast.StepS*float64(len(h.Forecast.Steps))), quantileText(h.Forecast), h.PressureProbability)
	if h.ContentionInS != nil {
		text += fmt.Sprintf(", from %.0f s on", *h.ContentionInS)
	}
	return text
}

// quantileText is «p50 0.31, p90 0.44 cores» of the peak.
func quantileText(f api.Forecast) string {
	var parts []string
	for i, level := range f.Levels {
		if i < len(f.Peak) && (level == 0.5 || level == 0.9 || level == 0.99) {
			parts = append(parts, fmt.Sprintf("p%.0f %s", level*100, cores(f.Peak[i])))
		}
	}
	return strings.Join(parts, ", ") + " " + f.Unit
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
