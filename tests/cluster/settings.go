package cluster

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// settings are the node's configuration, by «section.key»; values are TOML.
func (n *Node) settings(mode, join string) map[string]string {
	q := func(s string) string { return fmt.Sprintf("%q", s) }
	file := func(name string) string { return q(filepath.Join(n.dir, name)) }
	return map[string]string{
		"agent.data_dir":     file("data"),
		"agent.socket":       file("s"),
		"agent.socket_group": `""`,
		"agent.mode":         q(mode),

		"libvirt.migrate_uri":    q("qemu+tcp://{host}/system"),
		"libvirt.machine_cgroup": q(cgroupPath(n.Host.MachineCgroup())),

		"sampling.block_io":  "true",
		"sampling.wait_tail": `"on"`,

		"forecast.step":    `"5s"`,
		"forecast.horizon": "12",
		"forecast.warmup":  "30",
		"forecast.settle":  `"8s"`,

		"planner.round":              `"1s"`,
		"planner.hold_rounds":        "4",
		"planner.window_rounds":      "6",
		"planner.high":               "0.90",
		"planner.low":                "0.75",
		"planner.reserve_memory_mib": "0",
		"planner.min_gain_core_s":    "0.5",
		// A move's lead counts from when the p90 exceeds capacity: the planner acts
		// on it, and often before contention is more likely than not.
		"planner.contention_probability": "0.1",
		"planner.cooldown":               `"1m"`,
		"planner.cooldown_cap":           `"10m"`,
		"planner.return_after":           `"3m"`,
		"planner.urgent_factor":          `0`,
		"planner.max_jitter":             `"0s"`,
		"planner.refusal_backoff":        `"6s"`,
		"planner.max_digest_age":         `"30s"`,
		"planner.bandwidth_bytes_per_s":  "150e6",
		"planner.blackout_base":          `"200ms"`,
		"planner.migration_cores":        "0.3",
		"planner.verdict_after":          `"10s"`,

		"slots.classes": `[{name = "small", vcpu = 0.1, memory_mib = 128}, {name = "medium", vcpu = 0.2, memory_mib = 128}, {name = "large", vcpu = 0.4, memory_mib = 128}, {name = "xlarge", vcpu = 0.6, memory_mib = 256}]`,

		"mesh.cluster":      q(Name),
		"mesh.name":         q(n.Host.Name()),
		"mesh.bind":         q(n.Host.Addr() + ":7946"),
		"mesh.join":         "[" + join + "]",
		"mesh.key_file":     file("gossip.key"),
		"mesh.ca_file":      file("ca.pem"),
		"mesh.cert_file":    file("host.pem"),
		"mesh.tls_key_file": file("host.key"),
		"mesh.view_stable":  `"3s"`,
	}
}

// cgroupPath is the cgroup's path below its root, whatever controller its
// folder belongs to.
func cgroupPath(folder string) string {
	if i := strings.Index(folder, "/headroom-lab/"); i >= 0 {
		return folder[i:]
	}
	return folder
}

// render writes settings as TOML, extra ones replacing their like.
func render(settings, extra map[string]string) string {
	all := maps.Clone(settings)
	maps.Copy(all, extra)
	sections := map[string][]string{}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		section, name, _ := strings.Cut(key, ".")
		sections[section] = append(sections[section], name+" = "+all[key])
	}
	var b strings.Builder
	for _, section := range slices.Sorted(maps.Keys(sections)) {
		fmt.Fprintf(&b, "[%s]\n%s\n\n", section, strings.Join(sections[section], "\n"))
	}
	return b.String()
}
