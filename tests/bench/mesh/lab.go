package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
)

// labFigures come from the lab of real hypervisors, and are left out without it.
var labFigures = []string{"lab_faults", "lab_double_runs", "lab_lost_vms", "lab_leaked_leases",
	"settle_s_max", "negotiate_ms", "migrate_time_ratio", "paused_blackout_ms", "plain_blackout_ms",
	"finish_lost_trials", "finish_lost_double_runs", "finish_lost_lost_vms", "finish_lost_unsettled",
	"finish_lost_bare_trials", "finish_lost_bare_double_runs", "finish_lost_bare_lost_vms", "finish_lost_bare_unsettled"}

// runLab runs the command that breaks hand-overs between real hypervisors, and
// takes over the figures of its last line. Without the command, root or libvirt
// it says why they are missing.
func runLab(o options, out figures) error {
	if why := labMissing(o.lab); why != "" {
		fmt.Printf("lab_*, negotiate_ms, migrate_time_ratio and *_blackout_ms are not measured: %s\n\n", why)
		return nil
	}
	cmd := exec.Command("bash", "-c", o.lab)
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", o.lab, err, last(text, 600))
	}
	os.Stdout.Write(text)
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	var got figures
	if err := json.Unmarshal(lines[len(lines)-1], &got); err != nil {
		return fmt.Errorf("%s: its last line is no JSON object of numbers: %w", o.lab, err)
	}
	for name, v := range got {
		switch {
		case name == "settle_s_max":
			out[name] = max(out[name], v)
		case slices.Contains(labFigures, name):
			out[name] = v
		}
	}
	return nil
}

func labMissing(command string) string {
	switch _, err := exec.LookPath("libvirtd"); {
	case command == "":
		return "no -lab command was given"
	case os.Geteuid() != 0:
		return "the lab needs root"
	case err != nil:
		return "the lab needs libvirt: " + err.Error()
	}
	return ""
}
