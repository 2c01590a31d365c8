package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"headroom/agent/config"
	"headroom/agent/host"
	"headroom/agent/hypervisor"
	"headroom/bpf"
	"headroom/mesh"
)

// doctorCmd checks what the agent needs on this host, and says how to mend what
// is missing.
type doctorCmd struct {
	*env
	config string
}

// Grades of a finding.
const (
	gradeOK   = "ok"
	gradeWarn = "warn"
	gradeFail = "fail"
)

// finding is the outcome of one check.
type finding struct {
	Check string `json:"check"`
	Grade string `json:"grade"`
	What  string `json:"what"`
	Fix   string `json:"fix,omitempty"`
}

func (c *doctorCmd) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check this host's prerequisites and say how to mend what is missing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			findings := c.examine(cmd.Context())
			if err := c.print(findings, func(w *tabwriter.Writer) { findingsTable(w, findings) }); err != nil {
				return err
			}
			for _, f := range findings {
				if f.Grade == gradeFail {
					return errChecksFailed
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&c.config, "config", config.DefaultPath, "the agent's configuration file")
	return cmd
}

func findingsTable(w *tabwriter.Writer, findings []finding) {
	row(w, "CHECK", "", "FOUND")
	for _, f := range findings {
		row(w, f.Check, f.Grade, f.What)
		if f.Fix != "" {
			row(w, "", "", "-> "+f.Fix)
		}
	}
}

func (c *doctorCmd) examine(ctx context.Context) []finding {
	cfg, findings := c.checkConfig()
	findings = append(findings, checkMachineID(), checkSampler(cfg), checkNetwork(cfg))
	findings = append(findings, checkCapacity(cfg)...)
	findings = append(findings, checkLibvirt(ctx, cfg), checkLogs(hypervisor.DefaultLogDir), checkHook(cfg), checkMesh(cfg), c.checkAgent(ctx))
	return findings
}

func (c *doctorCmd) checkConfig() (config.Config, []finding) {
	f := finding{Check: "configuration", Grade: gradeOK, What: c.config}
	cfg, err := config.Load(c.config)
	if errors.Is(err, os.ErrNotExist) {
		return config.Default(), []finding{{Check: f.Check, Grade: gradeFail, What: err.Error(),
			Fix: "`make install` puts an annotated example there; the defaults are examined below"}}
	}
	if err == nil {
		err = cfg.Check()
	}
	if err != nil {
		return config.Default(), []finding{{Check: f.Check, Grade: gradeFail, What: err.Error(), Fix: "the defaults are examined below"}}
	}
	return cfg, []finding{f}
}

func checkMachineID() finding {
	b, err := os.ReadFile("/etc/machine-id")
	if err != nil || len(b) < 32 {
		return finding{"machine id", gradeFail, "no machine id in /etc/machine-id", "run systemd-machine-id-setup; cloned hosts need one each"}
	}
	return finding{Check: "machine id", Grade: gradeOK, What: string(b[:32])}
}

// checkSampler loads the sampler as the agent would, and measures a pass.
func checkSampler(cfg config.Config) finding {
	s, err := bpf.Open(samplerOptions(cfg))
	if err != nil {
		return finding{"sampler", gradeFail, err.Error(), "give the agent CAP_BPF and CAP_PERFMON, or allow the tier procfs"}
	}
	defer s.Close()
	return warnOf(s.Refused(), finding{Check: "sampler", Grade: gradeOK, What: "tier " + string(s.Tier())})
}

func samplerOptions(cfg config.Config) bpf.Options {
	o := bpf.Options{}
	for _, t := range cfg.Sampling.Tiers {
		o.Tiers = append(o.Tiers, bpf.Tier(t))
	}
	return o
}

// warnOf makes a warning of a finding for which a better tier was refused.
func warnOf(refused []bpf.Refusal, f finding) finding {
	var why []string
	for _, r := range refused {
		why = append(why, fmt.Sprintf("tier %s: %v", r.Tier, r.Err))
	}
	if len(why) > 0 {
		f.Grade, f.Fix = gradeWarn, strings.Join(why, "; ")
	}
	return f
}

func checkNetwork(cfg config.Config) finding {
	l, err := bpf.OpenLinks(samplerOptions(cfg))
	if err != nil {
		return finding{"network counters", gradeWarn, err.Error(), "network rates will be absent"}
	}
	defer l.Close()
	if err := l.Read(); err != nil {
		return finding{"network counters", gradeWarn, err.Error(), "network rates will be absent"}
	}
	return warnOf(l.Refused(), finding{Check: "network counters", Grade: gradeOK,
		What: fmt.Sprintf("%d interfaces, taps by tier %s", l.Len(), l.Tier())})
}

func checkCapacity(cfg config.Config) []finding {
	s, err := host.New(host.Options{MachineCgroup: cfg.Libvirt.MachineCgroup, DataDir: cfg.Agent.DataDir}).Status()
	if err != nil {
		return []finding{{"capacity", gradeFail, err.Error(), "the host neither moves nor accepts a VM without it"}}
	}
	text := fmt.Sprintf("%.2f cores, %.0f MiB", s.CPU.Cores, s.Memory.CapacityMiB)
	if s.CPU.Quota > 0 {
		text += fmt.Sprintf(" (CPU quota of %s)", s.CPU.QuotaAt)
	}
	out := []finding{{Check: "capacity", Grade: gradeOK, What: text}}
	if s.CPUPressure == nil {
		out = append(out, finding{"pressure", gradeWarn, s.Absent["cpu_pressure"], "boot with psi=1 to see pressure stall information"})
	}
	return out
}

// checkLibvirt connects as the agent would.
func checkLibvirt(ctx context.Context, cfg config.Config) finding {
	d, err := hypervisor.Open(ctx, hypervisor.Options{URI: cfg.Libvirt.URI, Timeout: cfg.Libvirt.Timeout.Duration})
	if err != nil {
		return finding{"libvirt", gradeFail, err.Error(), "apt install libvirt-daemon-system, or dnf install libvirt"}
	}
	defer d.Close()
	if ok, err := d.Connected(); !ok {
		return finding{"libvirt", gradeFail, err.Error(), "systemctl start libvirtd; the agent needs the libvirt group or root"}
	}
	info, err := d.HostInfo(ctx)
	if err != nil {
		return finding{"libvirt", gradeFail, err.Error(), "look at the journal of libvirtd"}
	}
	return finding{Check: "libvirt", Grade: gradeOK, What: fmt.Sprintf("%s, libvirt %s, %s", cfg.Libvirt.URI, info.Version, info.CPUModel)}
}

// checkLogs reads one of libvirt's logs of VMs as this user.
func checkLogs(dir string) finding {
	if err := hypervisor.CheckLogs(dir); err != nil {
		return finding{"libvirt's logs", gradeWarn, err.Error(), "give the agent CAP_DAC_READ_SEARCH, as its unit does: if libvirtd dies in the last moment of a move, " +
			"only its log tells that the VM has not crashed"}
	}
	return finding{Check: "libvirt's logs", Grade: gradeOK, What: dir}
}

// checkHook looks for the fence in libvirt's folder.
func checkHook(cfg config.Config) finding {
	p, err := hookPlace("", cfg)
	if err != nil {
		return finding{"libvirt's hook", gradeWarn, err.Error(), "install libvirt first"}
	}
	s, err := p.Status()
	switch {
	case err != nil:
		return finding{"libvirt's hook", gradeWarn, err.Error(), "run doctor as root"}
	case !s.Installed || !s.Current:
		return finding{"libvirt's hook", gradeWarn, s.Path + ": " + hookWords(s), "without it a copy is checked only when it has come"}
	}
	return finding{Check: "libvirt's hook", Grade: gradeOK, What: s.Path}
}

// expirySoon is when a certificate's end is worth a warning.
const expirySoon = 30 * 24 * time.Hour

func checkMesh(cfg config.Config) finding {
	m := cfg.Mesh
	if !m.Enabled() {
		return finding{"mesh", gradeWarn, "this host stands alone", "set mesh.bind and mesh.join to move VMs"}
	}
	key, err := mesh.LoadKey(m.KeyFile)
	if err != nil {
		return finding{"mesh", gradeFail, err.Error(), "copy the cluster's gossip key to " + m.KeyFile}
	}
	info, err := mesh.InspectHost(m.CAFile, m.CertFile)
	if err != nil {
		return finding{"mesh", gradeFail, err.Error(), "issue a certificate with `headroom cert host`"}
	}
	f := finding{Check: "mesh", Grade: gradeOK, What: fmt.Sprintf("gossip key of %d bytes; certificate of %s, cluster %s, until %s",
		len(key), info.Host, info.Cluster, info.NotAfter.Format("2006-01-02"))}
	switch {
	case info.Cluster != m.Cluster:
		f.Grade, f.Fix = gradeFail, fmt.Sprintf("mesh.cluster is %q: name the certificate's cluster, or issue another certificate", m.Cluster)
	case time.Until(info.NotAfter) < expirySoon:
		f.Grade, f.Fix = gradeWarn, "issue a new one with `headroom cert host`; it is taken up without a restart"
	}
	return f
}

func (c *doctorCmd) checkAgent(ctx context.Context) finding {
	s, err := c.client().Status(ctx)
	if err != nil {
		return finding{"agent", gradeWarn, err.Error(), "systemctl start headroom"}
	}
	if !s.Ready {
		return finding{Check: "agent", Grade: gradeWarn, What: "runs and plans nothing yet", Fix: s.NotReady[0]}
	}
	return finding{Check: "agent", Grade: gradeOK, What: fmt.Sprintf("runs, mode %s, %d of %d hosts alive", s.Mode, s.Mesh.Alive, s.Mesh.Members)}
}
