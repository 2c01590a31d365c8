package agent

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"headroom/agent/api"
)

// metrics serves Prometheus from the same answers as the local socket: there is
// one truth, and a scrape costs no call to libvirt.
func (a *Agent) metrics() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(&collector{a: a}, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("headroom_"+name, help, labels, nil)
}

var (
	descInfo       = desc("info", "1; what this agent is.", "version", "host", "mode", "driver", "tier", "simulated")
	descReady      = desc("ready", "1 when the agent may plan.")
	descConnected  = desc("hypervisor_connected", "1 when libvirt answers.")
	descCapacity   = desc("host_cpu_capacity_cores", "CPU capacity of the host in cores.")
	descDemand     = desc("host_cpu_demand_cores", "CPU used and waited for by all VMs, in cores.")
	descWait       = desc("host_run_queue_wait_core_seconds_total", "Run-queue wait of all VMs since the agent's start.")
	descPressure   = desc("host_contention_probability", "Probability that demand exceeds capacity within the horizon.")
	descMembers    = desc("members", "Hosts of the cluster by status.", "status")
	descSlots      = desc("slots_free", "Shadow slots: how many more VMs of the class fit.", "class")
	descUsed       = desc("vm_cpu_used_cores", "CPU used by the VM.", "vm", "name")
	descWaited     = desc("vm_run_queue_wait_cores", "CPU the VM waited for.", "vm", "name")
	descVMWait     = desc("vm_run_queue_wait_core_seconds_total", "Run-queue wait of the VM since the agent saw it.", "vm", "name")
	descPeak       = desc("vm_forecast_peak_cores", "Forecast peak demand within the horizon.", "vm", "name", "quantile")
	descBlockOps   = desc("vm_block_operations_per_second", "Block requests of the VM in the last window.", "vm", "name", "direction")
	descBlockP99   = desc("vm_block_latency_p99_seconds", "99th percentile of their latency, to a power of 2.", "vm", "name", "direction")
	descLongest    = desc("vm_run_queue_wait_longest_seconds", "Longest single run-queue wait of the VM's vCPUs since they have been measured.", "vm", "name")
	descExits      = desc("vm_kvm_exits_per_second", "Exits of the VM from KVM in the last window.", "vm", "name")
	descRefused    = desc("mesh_refused_total", "What the mesh refused, by reason.", "reason")
	descDigests    = desc("mesh_digests_total", "Digests sent, and held back by the gossip budget.", "what")
	descPass       = desc("sampler_pass_seconds", "Mean CPU time of one sampling pass.")
	descTaps       = desc("sampler_taps_seconds", "Mean CPU time of one reading of the taps.")
	descTapPackets = desc("vm_network_packets_per_second", "Packets to and from the VM in the last window.", "vm", "name", "direction")
	descTapDrops   = desc("vm_network_drops_per_second", "Packets lost on the way to and from the VM in the last window.", "vm", "name", "direction")
	descSamples    = desc("history_samples", "Samples in the history.")
	descCorrupt    = desc("history_corrupt_total", "Corrupt values skipped.")
	descMigrations = desc("migrations", "Latest migrations by role and outcome; running ones have the outcome of their phase.", "role", "outcome")
	descEventsLost = desc("events_dropped_total", "Events that a slow follower of the event stream lost.")
)

// collector turns the agent's answers into metrics.
type collector struct{ a *Agent }

// Describe leaves the collector unchecked: series come and go with the VMs.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect writes every metric.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	s := c.a.Status()
	simulated := "false"
	if s.Simulated {
		simulated = "true"
	}
	gauge(descInfo, 1, s.Version, s.HostName, s.Mode, s.Hypervisor.Driver, s.Sampler.Tier, simulated)
	gauge(descReady, number(s.Ready))
	gauge(descConnected, number(s.Hypervisor.Connected))
	gauge(descCapacity, s.Host.CPUCores)
	gauge(descDemand, s.Host.DemandCores)
	counter(descWait, s.Host.WaitSeconds)
	gauge(descPressure, s.Host.PressureProbability)
	gauge(descPass, s.Sampler.PassUS/1e6)
	if s.Sampler.Taps != "" {
		gauge(descTaps, s.Sampler.TapsUS/1e6)
	}
	gauge(descSamples, float64(s.History.Samples))
	counter(descCorrupt, float64(s.History.Corrupt))
	counter(descEventsLost, float64(c.a.hub.lost()))
	counter(descDigests, float64(s.Mesh.DigestsSent), "sent")
	counter(descDigests, float64(s.Mesh.DigestsHeld), "held")
	for reason, n := range s.Mesh.Refused {
		counter(descRefused, float64(n), reason)
	}
	c.cluster(gauge)
	for _, v := range c.a.VMs() {
		collectVM(&v, gauge, counter)
	}
}

type emit func(d *prometheus.Desc, v float64, labels ...string)

// cluster writes members, slots and migrations.
func (c *collector) cluster(gauge emit) {
	members := map[string]float64{}
	for _, m := range c.a.Members() {
		members[m.Status]++
	}
	for status, n := range members {
		gauge(descMembers, n, status)
	}
	for _, s := range c.a.Slots() {
		gauge(descSlots, float64(s.Free), s.Class)
	}
	count := map[[2]string]float64{}
	for _, m := range c.a.moves.latest(api.Query{Limit: maxMoves}) {
		outcome := m.Outcome
		if outcome == "" {
			outcome = m.Phase
		}
		count[[2]string{m.Role, outcome}]++
	}
	for k, n := range count {
		gauge(descMigrations, n, k[0], k[1])
	}
}

func collectVM(v *api.VM, gauge, counter emit) {
	counter(descVMWait, v.WaitSeconds, v.ID, v.Name)
	if v.Measured {
		gauge(descUsed, v.UsedCores, v.ID, v.Name)
		gauge(descWaited, v.WaitCores, v.ID, v.Name)
	}
	if b := v.BlockIO; b != nil {
		gauge(descBlockOps, b.ReadOpsPerS, v.ID, v.Name, "read")
		gauge(descBlockOps, b.WriteOpsPerS, v.ID, v.Name, "write")
		for direction, p99 := range map[string]*float64{"read": b.ReadP99US, "write": b.WriteP99US} {
			if p99 != nil {
				gauge(descBlockP99, *p99/1e6, v.ID, v.Name, direction)
			}
		}
	}
	for d, rates := range map[*prometheus.Desc]map[string]*float64{
		descTapPackets: {"rx": v.NetRxPps, "tx": v.NetTxPps},
		descTapDrops:   {"rx": v.NetRxDropsPerS, "tx": v.NetTxDropsPerS},
	} {
		for direction, rate := range rates {
			if rate != nil {
				gauge(d, *rate, v.ID, v.Name, direction)
			}
		}
	}
	if v.WaitTail != nil {
		gauge(descLongest, v.WaitTail.LongestUS/1e6, v.ID, v.Name)
	}
	if v.KVM != nil {
		gauge(descExits, v.KVM.ExitsPerS, v.ID, v.Name)
	}
	if v.PeakP50Cores != nil {
		gauge(descPeak, *v.PeakP50Cores, v.ID, v.Name, "0.5")
		gauge(descPeak, *v.PeakP90Cores, v.ID, v.Name, "0.9")
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
