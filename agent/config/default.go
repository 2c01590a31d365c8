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
			SharedPaths:   []string{},
			MachineCgroup: "machine.slice",
		},
		Sampling: Sampling{Window: Of(time.Second), Tiers: []string{"syscall", "iter", "procfs"}, MaxVMs: 512,
			KVMExits: true, WaitTail: "off", TailBudget: 1},
		Forecast: Forecast{Step: Of(10 * time.Second), Horizon: 12, Warmup: 60, Settle: Of(time.Minute)},
		History:  defaultHistory(),
		Slots: Slots{
			Classes: []Class{
				{Name: "small", VCPU: 1, MemoryMiB: 1024},
				{Name: "medium", VCPU: 2, MemoryMiB: 4096},
				{Name: "large", VCPU: 4, MemoryMiB: 8192},
				{Name: "xlarge", VCPU: 8, MemoryMiB: 16384},
			},
			Probability: 0.95,
		},
		Planner: defaultPlanner(),
		Handover: Handover{
			Guard:       "paused",
			MaxDowntime: Of(300 * time.Millisecond),
			NoProgress:  Of(time.Minute),
			TLS:         "auto",
			TLSDir:      "/etc/pki/qemu",
			Lease:       Of(30 * time.Second),
			ByHand:      "allow",
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
		Round: Of(10 * time.Second), High: 0.85, Low: 0.7, Hold: 3, Window: 5,
		ReserveMemoryMiB: 1024, MemoryOvercommit: 1,
		GainFactor: 3, MinGain: 10, MinGainShare: 0.01, ResidualShare: 0.1, ContentionProbability: 0.5,
		Cooldown: Of(30 * time.Minute), CooldownCap: Of(6 * time.Hour), ReturnAfter: Of(2 * time.Hour), UrgentFactor: 5,
		MaxOutgoing: 1, MaxIncoming: 1, MaxJitter: Of(10 * time.Second),
		RefusalBackoff: Of(time.Minute), FreezeFailedShare: 0.05, FreezeMinFailed: 2,
		MaxDigestAge: Of(5 * time.Minute), MaxOfferAge: Of(10 * time.Second), MaxRTT: Of(20 * time.Millisecond),
		Bandwidth: 5e8, DirtyShare: 0.02, MaxDirtyRatio: 0.8, MaxRounds: 30,
		MaxCopyTime: Of(30 * time.Minute), BlackoutBase: Of(100 * time.Millisecond), MaxBlackout: Of(time.Second),
		MigrationCores: 0.5, LinkCores: 0.2, PartnerCores: 0.02, WishCores: 0.05, QuietHours: []string{},
		RiskSpread: 0.5, RiskAge: 0.5, RiskFailure: 1, RiskUnknown: 0.25,
		ApprovalExpires: Of(15 * time.Minute), RejectionHolds: Of(time.Hour),
		VerdictAfter: Of(10 * time.Minute), MaxConsidered: 16, MaxRefused: 32,
	}
}
