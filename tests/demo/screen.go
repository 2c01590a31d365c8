package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"

	"headroom/agent/api"
)

var (
	titleStyle = lipgloss.NewStyle().Bold(true)
	dimStyle   = lipgloss.NewStyle().Faint(true)
	hotStyle   = lipgloss.NewStyle().Foreground(lipgloss.Color("9"))
	goodStyle  = lipgloss.NewStyle().Foreground(lipgloss.Color("10"))
	warnStyle  = lipgloss.NewStyle().Foreground(lipgloss.Color("11"))
	boxStyle   = lipgloss.NewStyle().Border(lipgloss.RoundedBorder()).Padding(0, 1)
)

// screen is the live display.
type screen struct {
	scene scene
	width int
	stop  func() // asks the story to end
}

func (s screen) Init() tea.Cmd { return nil }

func (s screen) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case scene:
		s.scene = msg
	case tea.WindowSizeMsg:
		s.width = msg.Width
	case tea.KeyMsg:
		if k := msg.String(); k == "ctrl+c" || k == "q" {
			s.stop()
		}
	}
	return s, nil
}

func (s screen) View() string { return render(s.scene) }

// render draws one scene.
func render(s scene) string {
	var b strings.Builder
	head := "headroom demo: " + s.title
	if s.simulated {
		head += "   " + warnStyle.Render("SIMULATED hypervisors")
	}
	b.WriteString(titleStyle.Render(head) + "\n")
	if s.saying != "" {
		b.WriteString(dimStyle.Render(s.saying+" ...") + "\n")
	}
	if s.elapsed > 0 {
		b.WriteString(fmt.Sprintf("%s %s   work lost by the guests so far: %s\n", bar(s.elapsed.Seconds()/runTime.Seconds(), 1, 30),
			s.elapsed.Round(time.Second), lossText(s.lost)))
	}
	boxes := make([]string, len(s.hosts))
	for i, h := range s.hosts {
		boxes[i] = boxStyle.Width(38).Render(hostBox(h))
	}
	b.WriteString(lipgloss.JoinHorizontal(lipgloss.Top, boxes...) + "\n")
	for _, m := range s.migrations {
		b.WriteString(migrationLine(m) + "\n")
	}
	for _, e := range s.events {
		b.WriteString(dimStyle.Render(clip(e, 118)) + "\n")
	}
	return b.String()
}

func lossText(lost float64) string {
	text := fmt.Sprintf("%.2f core-seconds", lost)
	if lost > 1 {
		return hotStyle.Render(text)
	}
	return goodStyle.Render(text)
}

func hostBox(h hostScene) string {
	if h.silent != "" {
		return hotStyle.Render(clip("agent: "+h.silent, 36))
	}
	var b strings.Builder
	c := h.host.CPUCores
	fmt.Fprintf(&b, "%s  %s %.2f/%.2f cores\n", titleStyle.Render(h.name), bar(h.host.DemandCores, c, 12), h.host.DemandCores, c)
	f := h.host.Forecast
	switch {
	case !f.Ready:
		b.WriteString(dimStyle.Render(clip("forecast: "+f.Why, 36)) + "\n")
	case h.host.ContentionInS != nil:
		b.WriteString(hotStyle.Render(fmt.Sprintf("contention p=%.2f from %.0f s on", h.host.PressureProbability, *h.host.ContentionInS)) + "\n")
	default:
		fmt.Fprintf(&b, "peak p90 %.2f, contention p=%.2f\n", f.Peak[2], h.host.PressureProbability)
	}
	b.WriteString(dimStyle.Render("slots: "+slotText(h.slots)) + "\n")
	for _, v := range h.vms {
		line := fmt.Sprintf("%-6s %s", v.Name, v.State)
		if v.Measured {
			line = fmt.Sprintf("%-6s used %.2f waits %.2f p90 %s", v.Name, v.UsedCores, v.WaitCores, p90(v.PeakP90Cores))
		}
		b.WriteString(line + "\n")
	}
	b.WriteString(dimStyle.Render(clip(h.thinks, 72)))
	return strings.TrimRight(b.String(), "\n")
}

func p90(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f", *v)
}

func slotText(slots []api.Slot) string {
	parts := make([]string, len(slots))
	for i, s := range slots {
		parts[i] = fmt.Sprintf("%s %d", s.Class, s.Free)
	}
	return strings.Join(parts, ", ")
}

func migrationLine(m api.Migration) string {
	text := fmt.Sprintf("move %s: %s -> %s  %s", m.VMName, m.From, m.To, m.Phase)
	if m.Outcome != "" {
		text = fmt.Sprintf("move %s: %s -> %s  %s", m.VMName, m.From, m.To, m.Outcome)
	}
	if m.LeadS != nil && m.CopyS != nil && m.BlackoutMS != nil {
		text += fmt.Sprintf("  copy %.1f s, blackout %.0f ms, %.1f s before the predicted contention", *m.CopyS, *m.BlackoutMS, *m.LeadS)
		return goodStyle.Render(text)
	}
	return warnStyle.Render(text)
}

// bar draws v of whole in width characters.
func bar(v, whole float64, width int) string {
	share := 0.0
	if whole > 0 {
		share = v / whole
	}
	n := int(math.Round(min(1, max(0, share)) * float64(width)))
	text := "[" + strings.Repeat("#", n) + strings.Repeat(".", width-n) + "]"
	if share > 0.95 {
		return hotStyle.Render(text)
	}
	return text
}

func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
