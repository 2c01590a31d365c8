package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	File string // "" when the value did not come from a file
	Line int    // 1-based; 0 when unknown, as for a default
	Key  string // dotted: "sampling.window", "slots.classes[1].name"
	What string // what is wrong
	Do   string // what to do
}

// Error returns "file:line: key: what is wrong; what to do".
func (p *Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File + ":")
		if p.Line > 0 {
			b.WriteString(strconv.Itoa(p.Line) + ":")
		}
		b.WriteByte(' ')
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.What)
	if p.Do != "" {
		b.WriteString("; " + p.Do)
	}
	return b.String()
}

// Check examines every value and the files that hold secrets, and returns all
// problems at once, joined; each is a *Problem. It returns nil when the agent may
// start with this configuration.
func (c *Config) Check() error {
	k := &checker{origin: c.origin}
	k.agent(c.Agent)
	k.libvirt(c.Libvirt)
	k.sampling(c.Sampling, c.Forecast)
	k.history(c.History)
	k.slots(c.Slots)
	k.planner(c.Planner)
	k.probe(c.Forecast, c.Planner)
	k.handover(c.Handover)
	k.mesh(c.Mesh)
	k.listen("metrics.listen", c.Metrics.Listen)
	k.events(c.Events)
	return errors.Join(k.problems...)
}

// checker collects problems in the order of the file's sections.
type checker struct {
	origin   *origin
	problems []error
}

func (k *checker) bad(key, what, do string) {
	if k.origin != nil && k.origin.isBroken(key) {
		return // its value did not decode, which was reported already
	}
	p := &Problem{Key: key, What: what, Do: do}
	if k.origin != nil {
		p.File, p.Line = k.origin.file, k.origin.line(key)
	}
	k.problems = append(k.problems, p)
}

func (k *checker) oneOf(key, got string, want ...string) {
	if !slices.Contains(want, got) {
		k.bad(key, fmt.Sprintf("%q is not known", got), "give one of "+strings.Join(want, ", "))
	}
}

func (k *checker) duration(key string, got Duration, low, high time.Duration) {
	if got.Duration < low || got.Duration > high {
		k.bad(key, fmt.Sprintf("%q is out of range", got),
			fmt.Sprintf("give %q to %q", Of(low), Of(high)))
	}
}

// number is written so that NaN, which TOML can express, is out of every range.
func number[T int | float64](k *checker, key string, got, low, high T) {
	if !(got >= low && got <= high) {
		k.bad(key, fmt.Sprintf("%v is out of range", got), fmt.Sprintf("give %v to %v", low, high))
	}
}

func (k *checker) absolute(key, path string) {
	if !filepath.IsAbs(path) {
		k.bad(key, fmt.Sprintf("%q is not an absolute path", path), "give a path that begins with /")
	}
}

// name is what may stand in a class or cluster name: it goes into certificates,
// metric labels and tables, so nothing that would need quoting there.
var name = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)

func (k *checker) name(key, got string, most int) {
	if len(got) > most || !name.MatchString(got) {
		k.bad(key, fmt.Sprintf("%q is not a name", got),
			fmt.Sprintf("use a-z, 0-9, '-' and '.', at most %d characters", most))
	}
}

func (k *checker) agent(a Agent) {
	k.absolute("agent.data_dir", a.DataDir)
	k.absolute("agent.socket", a.Socket)
	// sun_path is 108 bytes with its terminating zero.
	if len(a.Socket) > 107 {
		k.bad("agent.socket", "the path is longer than 107 bytes", "give a shorter path")
	}
	k.oneOf("agent.mode", a.Mode, "advise", "approve", "auto")
	k.oneOf("agent.log_level", a.LogLevel, "debug", "info", "warn", "error")
	k.oneOf("agent.log_format", a.LogFormat, "text", "json")
}

func (k *checker) libvirt(l Libvirt) {
	if l.URI != "sim" && !strings.Contains(l.URI, ":/") {
		k.bad("libvirt.uri", fmt.Sprintf("%q is not a libvirt URI", l.URI), `give one such as "qemu:///system", or "sim"`)
	}
	k.duration("libvirt.timeout", l.Timeout, 100*time.Millisecond, time.Minute)
	if !strings.Contains(l.MigrateURI, "{host}") || !strings.Contains(l.MigrateURI, "://") {
		k.bad("libvirt.migrate_uri", fmt.Sprintf("%q names no peer", l.MigrateURI),
			`give a URI with {host} in it, such as "qemu+tls://{host}/system"`)
	}
	for i, path := range l.SharedPaths {
		if !filepath.IsAbs(path) {
			k.bad(fmt.Sprintf("libvirt.shared_paths[%d]", i), fmt.Sprintf("%q is not an absolute path", path), "give the folder as disks name it")
		}
	}
	if l.MachineCgroup == "" || strings.HasPrefix(l.MachineCgroup, "/sys/") || slices.Contains(strings.Split(l.MachineCgroup, "/"), "..") {
		k.bad("libvirt.machine_cgroup", fmt.Sprintf("%q is not a cgroup below the cgroup root", l.MachineCgroup),
			`give it as in /proc/PID/cgroup, such as "machine.slice"`)
	}
}

func (k *checker) sampling(s Sampling, f Forecast) {
	k.duration("sampling.window", s.Window, 50*time.Millisecond, 10*time.Second)
	if len(s.Tiers) == 0 {
		k.bad("sampling.tiers", "no tier is left", "name at least one of syscall, iter, procfs")
	}
	for i, t := range s.Tiers {
		k.oneOf(fmt.Sprintf("sampling.tiers[%d]", i), t, "syscall", "iter", "procfs")
		if slices.Contains(s.Tiers[:i], t) {
			k.bad(fmt.Sprintf("sampling.tiers[%d]", i), fmt.Sprintf("%q stands twice", t), "name each tier once")
		}
	}
	number(k, "sampling.max_vms", s.MaxVMs, 1, 4096)
	k.oneOf("sampling.wait_tail", s.WaitTail, "off", "contention", "on")
	number(k, "sampling.tail_budget", s.TailBudget, 0.01, 100)
	number(k, "forecast.horizon", f.Horizon, 1, 288)
	number(k, "forecast.warmup", f.Warmup, 3, 10000)
	k.duration("forecast.settle", f.Settle, 0, time.Hour)
	window, step := s.Window.Duration, f.Step.Duration
	if window <= 0 || step <= 0 || step%window != 0 || step/window > 120 {
		k.bad("forecast.step", fmt.Sprintf("%q is not 1 to 120 times sampling.window %q", f.Step, s.Window),
			"give a whole multiple of the window, at most 120 times")
	} else if f.Horizon*int(step/window) > 4096 {
		k.bad("forecast.horizon", fmt.Sprintf("%d steps of %q are %d windows", f.Horizon, f.Step, f.Horizon*int(step/window)),
			"give fewer steps, or a longer sampling.window: at most 4096 windows")
	}
}

// maxProbeSteps is how many steps of all forecast demands together a probe carries: in
// JSON they come to 58 of the 64 KiB of a message between agents.
const maxProbeSteps = 576

// probe checks that a VM's demands fit into what a peer is asked.
func (k *checker) probe(f Forecast, p Planner) {
	demands := 1
	for _, limited := range []bool{p.MemoryOvercommit > 1, p.DiskBandwidth > 0, p.NetworkBandwidth > 0} {
		if limited {
			demands++
		}
	}
	if f.Horizon <= 288 && f.Horizon*demands > maxProbeSteps {
		k.bad("forecast.horizon", fmt.Sprintf("%d steps of %d demands are more than a probe carries", f.Horizon, demands),
			fmt.Sprintf("give at most %d steps, or fewer limits of memory, disk and network", maxProbeSteps/demands))
	}
}

func (k *checker) history(h History) {
	if n := len(h.Tiers); n < 1 || n > 4 {
		k.bad("history.tiers", fmt.Sprintf("%d tiers", n), "give 1 to 4 tiers, the finest first")
	}
	for i, t := range h.Tiers {
		key := fmt.Sprintf("history.tiers[%d]", i)
		k.duration(key+".step", t.Step, time.Second, 24*time.Hour)
		k.duration(key+".keep", t.Keep, t.Step.Duration, 3650*day)
		if i == 0 {
			continue
		}
		finer := h.Tiers[i-1]
		if fine, step := finer.Step.Duration, t.Step.Duration; fine <= 0 || step <= fine || step%fine != 0 {
			k.bad(key+".step", fmt.Sprintf("%q is not a multiple of the finer tier's %q", t.Step, finer.Step),
				"order tiers from fine to coarse, each step a whole multiple of the one before")
		}
		if t.Keep.Duration < finer.Keep.Duration {
			k.bad(key+".keep", fmt.Sprintf("%q is shorter than the finer tier's %q", t.Keep, finer.Keep),
				"keep coarse tiers at least as long as fine ones")
		}
	}
	if n := len(h.Tiers); n > 0 && h.Tiers[0].Keep.Duration < h.Tiers[n-1].Step.Duration {
		k.bad("history.tiers[0].keep", fmt.Sprintf("%q is shorter than the coarsest step %q", h.Tiers[0].Keep, h.Tiers[n-1].Step),
			"keep the finest tier at least one step of the coarsest")
	}
	k.duration("history.keep_records", h.KeepRecords, time.Hour, 3650*day)
	number(k, "history.max_records", h.MaxRecords, 100, 1000000)
	number(k, "history.min_free_mib", h.MinFree, 16, 65536)
}

func (k *checker) slots(s Slots) {
	if n := len(s.Classes); n < 1 || n > 4 {
		k.bad("slots.classes", fmt.Sprintf("%d classes", n), "give 1 to 4: a digest has room for four")
	}
	seen := map[string]bool{}
	for i, c := range s.Classes {
		key := fmt.Sprintf("slots.classes[%d]", i)
		k.name(key+".name", c.Name, 16)
		if seen[c.Name] {
			k.bad(key+".name", fmt.Sprintf("%q stands twice", c.Name), "give each class its own name")
		}
		seen[c.Name] = true
		number(k, key+".vcpu", c.VCPU, 0.01, 1024)
		number(k, key+".memory_mib", c.MemoryMiB, 1, 64<<20)
	}
	number(k, "slots.probability", s.Probability, 0.5, 0.99)
}

func (k *checker) planner(p Planner) {
	k.duration("planner.round", p.Round, time.Second, 10*time.Minute)
	number(k, "planner.high", p.High, 0.3, 1)
	// The gap is what keeps a VM from bouncing: a destination that would itself be
	// near HIGH after the move would soon push it out again.
	if !(p.Low > 0 && p.Low <= p.High-0.15+1e-9) {
		k.bad("planner.low", fmt.Sprintf("%v is not at least 0.15 below high %v", p.Low, p.High),
			fmt.Sprintf("give at most %.2f", p.High-0.15))
	}
	number(k, "planner.window_rounds", p.Window, 1, 64)
	number(k, "planner.hold_rounds", p.Hold, 1, max(1, p.Window))
	number(k, "planner.reserve_cores", p.ReserveCores, 0, 1024)
	number(k, "planner.reserve_memory_mib", p.ReserveMemoryMiB, 0, 1<<20)
	number(k, "planner.memory_overcommit", p.MemoryOvercommit, 1, 8)
	number(k, "planner.disk_bytes_per_s", p.DiskBandwidth, 0, 1e12)
	number(k, "planner.network_bytes_per_s", p.NetworkBandwidth, 0, 1e12)
	k.gain(p)
	k.pace(p)
	k.copying(p)
	k.duration("planner.approval_expires", p.ApprovalExpires, 10*time.Second, 7*day)
	k.duration("planner.rejection_holds", p.RejectionHolds, 10*time.Second, 30*day)
	k.duration("planner.verdict_after", p.VerdictAfter, 10*time.Second, day)
	number(k, "planner.max_considered", p.MaxConsidered, 1, 1024)
	number(k, "planner.max_refused", p.MaxRefused, 1, 1024)
}

// gain checks what a move must bring, and what it is said to cost.
func (k *checker) gain(p Planner) {
	number(k, "planner.gain_factor", p.GainFactor, 1, 100)
	number(k, "planner.min_gain_core_s", p.MinGain, 0, 1e6)
	number(k, "planner.min_gain_share", p.MinGainShare, 0, 1)
	number(k, "planner.residual_share", p.ResidualShare, 0, 0.99)
	number(k, "planner.contention_probability", p.ContentionProbability, 0.01, 0.99)
	number(k, "planner.migration_cores", p.MigrationCores, 0, 64)
	number(k, "planner.link_cores", p.LinkCores, 0, 64)
	number(k, "planner.partner_cores", p.PartnerCores, 0, 64)
	number(k, "planner.wish_cores", p.WishCores, 0, 64)
	number(k, "planner.risk_spread", p.RiskSpread, 0, 10)
	number(k, "planner.risk_age", p.RiskAge, 0, 10)
	number(k, "planner.risk_failure", p.RiskFailure, 0, 10)
	number(k, "planner.risk_unknown", p.RiskUnknown, 0, 10)
}

// pace checks what keeps hosts from flapping.
func (k *checker) pace(p Planner) {
	k.duration("planner.cooldown", p.Cooldown, time.Second, day)
	k.duration("planner.cooldown_cap", p.CooldownCap, p.Cooldown.Duration, 7*day)
	k.duration("planner.return_after", p.ReturnAfter, 0, 7*day)
	number(k, "planner.urgent_factor", p.UrgentFactor, 0, 1000)
	number(k, "planner.max_outgoing", p.MaxOutgoing, 1, 16)
	number(k, "planner.max_incoming", p.MaxIncoming, 1, 16)
	k.duration("planner.max_jitter", p.MaxJitter, 0, 5*time.Minute)
	k.duration("planner.refusal_backoff", p.RefusalBackoff, 0, day)
	number(k, "planner.freeze_failed_share", p.FreezeFailedShare, 0.001, 0.99)
	number(k, "planner.freeze_min_failed", p.FreezeMinFailed, 1, 100)
	k.duration("planner.max_digest_age", p.MaxDigestAge, time.Second, time.Hour)
	k.duration("planner.max_offer_age", p.MaxOfferAge, time.Second, 5*time.Minute)
	k.duration("planner.max_rtt", p.MaxRTT, 0, 10*time.Second)
	if len(p.QuietHours) > 16 {
		k.bad("planner.quiet_hours", fmt.Sprintf("%d times", len(p.QuietHours)), "give at most 16")
	}
	for i, text := range p.QuietHours {
		if _, err := ParseQuiet(text); err != nil {
			k.bad(fmt.Sprintf("planner.quiet_hours[%d]", i), err.Error(), "correct it")
		}
	}
}

// copying checks what is assumed of a migration and tolerated.
func (k *checker) copying(p Planner) {
	number(k, "planner.bandwidth_bytes_per_s", p.Bandwidth, 1e5, 1e12)
	number(k, "planner.dirty_share_per_s", p.DirtyShare, 0, 1)
	number(k, "planner.max_dirty_ratio", p.MaxDirtyRatio, 0.01, 0.99)
	number(k, "planner.max_rounds", p.MaxRounds, 1, 1000)
	k.duration("planner.max_copy_time", p.MaxCopyTime, time.Second, 6*time.Hour)
	k.duration("planner.blackout_base", p.BlackoutBase, 0, time.Minute)
	k.duration("planner.max_blackout", p.MaxBlackout, time.Millisecond, time.Minute)
}

func (k *checker) handover(h Handover) {
	k.oneOf("handover.guard", h.Guard, "paused", "lock", "plain")
	number(k, "handover.bandwidth_mibs", h.BandwidthMiBs, 0, 100000)
	k.duration("handover.max_downtime", h.MaxDowntime, time.Millisecond, time.Minute)
	k.duration("handover.lease", h.Lease, 5*time.Second, 5*time.Minute)
	k.duration("handover.no_progress", h.NoProgress, 0, time.Hour)
	number(k, "handover.parallel", h.Parallel, 0, 64)
	k.oneOf("handover.tls", h.TLS, "auto", "on", "off")
	k.absolute("handover.tls_dir", h.TLSDir)
	k.oneOf("handover.by_hand", h.ByHand, "allow", "refuse")
}

// listen accepts "" and ip:port.
func (k *checker) listen(key, addr string) (netip.AddrPort, bool) {
	if addr == "" {
		return netip.AddrPort{}, false
	}
	ap, err := netip.ParseAddrPort(addr)
	if err != nil || ap.Port() == 0 {
		k.bad(key, fmt.Sprintf("%q is not an IP address with a port", addr), `give one such as "10.0.0.1:7946"`)
		return netip.AddrPort{}, false
	}
	return ap, true
}

func (k *checker) mesh(m Mesh) {
	k.name("mesh.cluster", m.Cluster, 64)
	k.duration("mesh.view_stable", m.ViewStable, 0, time.Hour)
	bind, bound := k.listen("mesh.bind", m.Bind)
	_, advertised := k.listen("mesh.advertise", m.Advertise)
	k.listen("mesh.rpc_bind", m.RPCBind)
	if bound && bind.Addr().IsUnspecified() && !advertised {
		k.bad("mesh.bind", fmt.Sprintf("%q is every address, so peers would not know which to use", m.Bind),
			"give one address, or set mesh.advertise")
	}
	if len(m.Join) > 64 {
		k.bad("mesh.join", fmt.Sprintf("%d addresses", len(m.Join)), "give at most 64: any one member is enough to join")
	}
	for i, j := range m.Join {
		if host, port, err := net.SplitHostPort(j); err != nil || host == "" || port == "" {
			k.bad(fmt.Sprintf("mesh.join[%d]", i), fmt.Sprintf("%q has no host and port", j), `give one such as "10.0.0.2:7946"`)
		}
	}
	if len(m.Name) > 64 || len(m.Zone) > 64 {
		k.bad("mesh.name", "name or zone is longer than 64 bytes", "shorten it: both travel in gossip tags")
	}
	if m.Bind == "" {
		return // the files are needed only in a cluster
	}
	k.secret("mesh.key_file", m.KeyFile)
	k.secret("mesh.tls_key_file", m.TLSKeyFile)
	k.readable("mesh.ca_file", m.CAFile)
	k.readable("mesh.cert_file", m.CertFile)
}

// readable reports a file that is missing or is not a regular file.
func (k *checker) readable(key, path string) (os.FileInfo, bool) {
	if !filepath.IsAbs(path) {
		k.absolute(key, path)
		return nil, false
	}
	fi, err := os.Stat(path)
	if err != nil {
		k.bad(key, err.Error(), "create it, or correct the path")
		return nil, false
	}
	if !fi.Mode().IsRegular() {
		k.bad(key, path+" is not a regular file", "correct the path")
		return nil, false
	}
	return fi, true
}

// secret is a file that only its owner, and at most a group, may read.
func (k *checker) secret(key, path string) {
	fi, ok := k.readable(key, path)
	if ok && fi.Mode().Perm()&0o027 != 0 {
		k.bad(key, fmt.Sprintf("%s has mode %04o: others can read or change it", path, fi.Mode().Perm()),
			"run: chmod 0600 "+path+" (and replace the secret if others had access)")
	}
}

func (k *checker) events(e Events) {
	if len(e.Handlers) > 16 {
		k.bad("events.handlers", fmt.Sprintf("%d handlers", len(e.Handlers)), "give at most 16")
	}
	for i, h := range e.Handlers {
		key := fmt.Sprintf("events.handlers[%d]", i)
		if len(h.On) == 0 {
			k.bad(key+".on", "no event is named", `name event kinds, or "*" for all`)
		}
		if len(h.Command) == 0 || !filepath.IsAbs(h.Command[0]) {
			k.bad(key+".command", "does not begin with an absolute path", `give a list such as ["/usr/local/bin/page", "--now"]`)
		}
		k.duration(key+".timeout", h.Timeout, 0, 10*time.Minute)
	}
}
