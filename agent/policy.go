package agent

import (
	"fmt"
	"os"
	"path/filepath"

	"headroom/agent/config"
	"headroom/planner"
)

// memoryTLS says whether copied memory is encrypted: by word, or because this host
// has what QEMU needs for both ends of a migration.
func memoryTLS(h config.Handover) bool {
	if h.TLS != "auto" {
		return h.TLS == "on"
	}
	for _, file := range []string{"ca-cert.pem", "server-cert.pem", "client-cert.pem"} {
		if _, err := os.Stat(filepath.Join(h.TLSDir, file)); err != nil {
			return false
		}
	}
	return true
}

// policyOf is the planner's policy that a configuration asks for.
func policyOf(c config.Config) (planner.Policy, error) {
	pl := c.Planner
	p := planner.Policy{
		Mode: planner.Mode(c.Agent.Mode), High: pl.High, Low: pl.Low, Hold: pl.Hold, Window: pl.Window,
		GainFactor: pl.GainFactor, MinGain: planner.CoreSeconds(pl.MinGain), MinGainShare: pl.MinGainShare, ResidualShare: pl.ResidualShare,
		ContentionProbability: pl.ContentionProbability, SlotProbability: c.Slots.Probability,

		Cooldown: pl.Cooldown.Duration, CooldownCap: pl.CooldownCap.Duration, ReturnAfter: pl.ReturnAfter.Duration, UrgentFactor: pl.UrgentFactor,
		MaxOutgoing: pl.MaxOutgoing, MaxIncoming: pl.MaxIncoming, MaxJitter: pl.MaxJitter.Duration,
		RefusalBackoff: pl.RefusalBackoff.Duration, FreezeFailedShare: pl.FreezeFailedShare, FreezeMinFailed: pl.FreezeMinFailed,
		MaxDigestAge: pl.MaxDigestAge.Duration, MaxOfferAge: pl.MaxOfferAge.Duration, MaxRTT: pl.MaxRTT.Duration,

		Bandwidth: planner.BytesPerSecond(pl.Bandwidth), DirtyShare: pl.DirtyShare, MaxDirtyRatio: pl.MaxDirtyRatio,
		MaxRounds: pl.MaxRounds, MaxCopyTime: pl.MaxCopyTime.Duration, TargetDowntime: c.Handover.MaxDowntime.Duration,
		BlackoutBase: pl.BlackoutBase.Duration, MaxBlackout: pl.MaxBlackout.Duration,
		MigrationCores: planner.Cores(pl.MigrationCores), LinkCores: planner.Cores(pl.LinkCores), PartnerCores: planner.Cores(pl.PartnerCores),
		WishCores:  planner.Cores(pl.WishCores),
		RiskSpread: pl.RiskSpread, RiskAge: pl.RiskAge, RiskFailure: pl.RiskFailure, RiskUnknown: pl.RiskUnknown,
		MaxConsidered: pl.MaxConsidered, MaxRefused: pl.MaxRefused,
	}
	for _, s := range c.Slots.Classes {
		p.Classes = append(p.Classes, planner.Class{Name: s.Name, VCPU: planner.Cores(s.VCPU), Memory: planner.MiB(s.MemoryMiB)})
	}
	for _, text := range pl.QuietHours {
		q, err := config.ParseQuiet(text)
		if err != nil {
			return p, fmt.Errorf("planner settings: %w", err)
		}
		p.Quiet = append(p.Quiet, planner.QuietHours(q))
	}
	if err := p.Validate(); err != nil {
		return p, fmt.Errorf("planner settings: %w", err)
	}
	return p, nil
}
