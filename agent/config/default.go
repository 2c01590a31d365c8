package config

import "time"

// DefaultPath is where the agent looks when it is not told otherwise.
const DefaultPath = "/etc/headroom/headroom.toml"

// Default returns the configuration of an agent whose file is empty: it advises,
// stands alone and moves nothing.
func Default() Config {
	return Config{
		Agent: Agent{
			DataDir:     "/var/lib/headroom",
			Socket:      "/run/headroom/headroom.sock",
			SocketGroup: "headroom",
			Mode:        "advise",
			LogLevel:    "info",
			LogFormat:   "text",
		},
		Libvirt: Libvirt{
			URI:           "qemu:///system",
			Timeout:       Of(5 * time.Second),
			MigrateURI:    "qemu+tls://{host}/system",
			MachineCgroup: "machine.slice",
		},
		Sampling: Sampling{Window: Of(time.Second), Tiers: []string{"syscall", "iter", "procfs"}, MaxVMs: 512},
		Forecast: Forecast{Step: Of(10 * time.Second), Horizon: 12, Warmup: 60},
		History:  defaultHistory(),
		Slots: Slots{
			Classes: []Class{
				{Name: "small", VCPU: 1, MemoryMiB: 1024},
				{Name: "medium", VCPU: 2, MemoryMiB: 4096},
				{Name: "large", VCPU: 4, MemoryMiB: 8192},
				{Name: "xlarge", VCPU: 8, MemoryMiB: 16384},
			},
			Probability: 0.9,
		},
		Planner: defaultPlanner(),
		Handover: Handover{
			Guard:       "paused",
			MaxDowntime: Of(300 * time.Millisecond),
			Lease:       Of(30 * time.Second),
		},
		Mesh: Mesh{
			Cluster:    "headroom",
			Join:       []string{},
			KeyFile:    "/etc/headroom/gossip.key",
			CAFile:     "/etc/headroom/ca.pem",
			CertFile:   "/etc/headroom/host.pem",
			TLSKeyFile: "/etc/headroom/host.key",
			ViewStable: Of(time.Minute),
		},
		Events: Events{Handlers: []Handler{}},
	}
}

func defaultHistory() History {
	return History{
		Tiers: []Tier{
			{Step: Of(time.Second), Keep: Of(time.Hour)},
			{Step: Of(10 * time.Second), Keep: Of(day)},
			{Step: Of(5 * time.Minute), Keep: Of(90 * day)},
		},
		KeepRecords: Of(90 * day),
		MaxRecords:  20000,
		MinFree:     64,
	}
}

func defaultPlanner() Planner {
	return Planner{
		High:         0.9,
		Low:          0.75,
		PressureK:    3,
		PressureN:    5,
		Round:        Of(10 * time.Second),
		GainFactor:   3,
		Cooldown:     Of(30 * time.Minute),
		CooldownMax:  Of(6 * time.Hour),
		NoReturn:     Of(2 * time.Hour),
		MaxOut:       1,
		MaxIn:        1,
		CopyBudget:   Of(10 * time.Minute),
		MaxBlackout:  Of(time.Second),
		OfferMaxAge:  Of(10 * time.Second),
		VerdictAfter: Of(10 * time.Minute),
	}
}
