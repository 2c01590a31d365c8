package planner

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Mode is how far the agent may go on its own.
type Mode string

// The modes.
const (
	ModeAdvise  Mode = "advise"  // shows what it would do (default)
	ModeApprove Mode = "approve" // waits for the operator
	ModeAuto    Mode = "auto"    // moves
)

// MinBand is the least distance between High and Low, as shares of capacity: a
// destination filled up to Low must not be a source at once.
const MinBand = 0.15

// Policy holds every threshold. DefaultPolicy documents the defaults; shares
// are of usable capacity (capacity less reserve).
type Policy struct {
	Mode Mode `json:"mode"`

	// High is the forecast p90 of the host's peak above which a round can count
	// as pressure, if at least MinGain is expected to wait; Low is what a
	// destination may reach after the add.
	High float64 `json:"high"`
	Low  float64 `json:"low"`
	// Hold of Window rounds must show pressure before anything moves.
	Hold   int `json:"hold_rounds"`
	Window int `json:"window_rounds"`
	// GainFactor is how many times the cost a gain must reach. The least gain
	// worth a move at all, and the least demand expected to wait that is worth a
	// look, is MinGain, or MinGainShare of what the source's usable cores can do
	// within the horizon, whichever is more.
	GainFactor   float64     `json:"gain_factor"`
	MinGain      CoreSeconds `json:"min_gain_core_s"`
	MinGainShare float64     `json:"min_gain_share"`
	// ResidualShare is the part of the expected contention that may remain for
	// a VM's leaving to count as removing it.
	ResidualShare float64 `json:"residual_share"`
	// ContentionProbability is the probability of demand above capacity from
	// which a step counts as the predicted start of contention.
	ContentionProbability float64 `json:"contention_probability"`
	// SlotProbability is the confidence with which slots are published.
	SlotProbability float64 `json:"slot_probability"`
	Classes         []Class `json:"classes"`

	// Cooldown after a VM's first move doubles per move in 24 h up to
	// CooldownCap; ReturnAfter is how long it may not return to its last host.
	// Neither binds when its leaving gains at least UrgentFactor times the least
	// gain, doubled for each further move in 24 h; 0: they always bind.
	Cooldown     time.Duration `json:"cooldown_ns"`
	CooldownCap  time.Duration `json:"cooldown_cap_ns"`
	ReturnAfter  time.Duration `json:"return_after_ns"`
	UrgentFactor float64       `json:"urgent_factor"`
	// MaxOutgoing and MaxIncoming bound the moves under way per host; leases
	// count as incoming.
	MaxOutgoing int `json:"max_outgoing"`
	MaxIncoming int `json:"max_incoming"`
	// MaxJitter bounds the random delay before negotiating.
	MaxJitter time.Duration `json:"max_jitter_ns"`
	// RefusalBackoff is how long a refused or failed pair of VM and host rests.
	RefusalBackoff time.Duration `json:"refusal_backoff_ns"`
	// FreezeFailedShare of the last hour's moves failing freezes the host, from
	// FreezeMinFailed failures on: one failure is no share of anything.
	FreezeFailedShare float64 `json:"freeze_failed_share"`
	FreezeMinFailed   int     `json:"freeze_min_failed"`
	// MaxDigestAge and MaxOfferAge are the ages beyond which gossip and offers
	// are not used; MaxRTT is the round trip beyond which a peer is too far (0: any).
	MaxDigestAge time.Duration `json:"max_digest_age_ns"`
	MaxOfferAge  time.Duration `json:"max_offer_age_ns"`
	MaxRTT       time.Duration `json:"max_rtt_ns"`

	// Quiet are the times in which no move begins by itself; a drain goes on.
	Quiet []QuietHours `json:"-"`
	// WishCores prices one broken wish (should, should not) about where a VM runs.
	WishCores Cores `json:"wish_cores"`

	// Bandwidth is assumed for a link on which nothing was learned yet.
	Bandwidth BytesPerSecond `json:"bandwidth_bytes_per_s"`
	// DirtyShare of its memory per second is assumed of a VM without a
	// measured dirty rate.
	DirtyShare float64 `json:"dirty_share_per_s"`
	// MaxDirtyRatio of dirty rate to bandwidth, MaxRounds of pre-copy and
	// MaxCopyTime decide whether a copy converges.
	MaxDirtyRatio float64       `json:"max_dirty_ratio"`
	MaxRounds     int           `json:"max_rounds"`
	MaxCopyTime   time.Duration `json:"max_copy_time_ns"`
	// TargetDowntime is the pause the hypervisor is told to aim at;
	// BlackoutBase is what a switch costs beside sending the last pages;
	// MaxBlackout is the longest acceptable predicted pause.
	TargetDowntime time.Duration `json:"target_downtime_ns"`
	BlackoutBase   time.Duration `json:"blackout_base_ns"`
	MaxBlackout    time.Duration `json:"max_blackout_ns"`
	// MigrationCores is what a copy burns at both ends together; LinkCores
	// prices a fully used link; PartnerCores prices one latency class between
	// traffic partners.
	MigrationCores Cores `json:"migration_cores"`
	LinkCores      Cores `json:"link_cores"`
	PartnerCores   Cores `json:"partner_cores"`
	// Risk weights: relative spread of the VM's forecast (0..1), age of the
	// offer as a share of MaxOfferAge, each past failure of the same move in
	// 24 h, and an assumed dirty rate. Cost is scaled by 1 + their sum.
	RiskSpread  float64 `json:"risk_spread"`
	RiskAge     float64 `json:"risk_age"`
	RiskFailure float64 `json:"risk_failure"`
	RiskUnknown float64 `json:"risk_unknown"`

	// MaxConsidered VMs and MaxRefused destinations are kept in a record; the
	// rest is counted.
	MaxConsidered int `json:"max_considered"`
	MaxRefused    int `json:"max_refused"`
}

// DefaultPolicy returns the production defaults: advise, 85/70 %, 3 of 5
// rounds, gain 3 x cost, cool-down 30 min doubling to 6 h, 2 h without return, both
// over at once for 5 times the least gain.
func DefaultPolicy() Policy {
	return Policy{
		Mode: ModeAdvise,
		High: 0.85, Low: 0.70,
		Hold: 3, Window: 5,
		GainFactor: 3, MinGain: 10, MinGainShare: 0.01, ResidualShare: 0.1,
		ContentionProbability: 0.5, SlotProbability: 0.95, Classes: DefaultClasses(),
		Cooldown: 30 * time.Minute, CooldownCap: 6 * time.Hour, ReturnAfter: 2 * time.Hour, UrgentFactor: 5,
		MaxOutgoing: 1, MaxIncoming: 1,
		MaxJitter: 10 * time.Second, RefusalBackoff: time.Minute,
		FreezeFailedShare: 0.05, FreezeMinFailed: 2,
		MaxDigestAge: 5 * time.Minute, MaxOfferAge: 10 * time.Second, MaxRTT: 20 * time.Millisecond,
		Bandwidth: 500e6, DirtyShare: 0.02,
		MaxDirtyRatio: 0.8, MaxRounds: 30, MaxCopyTime: 30 * time.Minute,
		TargetDowntime: 300 * time.Millisecond, BlackoutBase: 100 * time.Millisecond, MaxBlackout: time.Second,
		MigrationCores: 0.5, LinkCores: 0.2, PartnerCores: 0.02, WishCores: 0.05,
		RiskSpread: 0.5, RiskAge: 0.5, RiskFailure: 1, RiskUnknown: 0.25,
		MaxConsidered: 16, MaxRefused: 32,
	}
}

// LabPolicy returns the settings for hosts of about half a core, VMs of
// 128 MiB, 60 s horizons and rounds every 2 s: automatic, 5 of 6 rounds, cool-down
// 60 s to 10 min, 3 min without return, always binding, and classes of 0.1, 0.2 and 0.4 cores.
func LabPolicy() Policy {
	p := DefaultPolicy()
	p.Mode = ModeAuto
	// 3 of 5 rounds would be 6 s; the forecast takes a lone spike of 4 s for
	// the start of a ramp for up to 8 s.
	p.Hold, p.Window = 5, 6
	p.MinGain = 0.5
	p.Classes = []Class{
		{Name: "small", VCPU: 0.1, Memory: 128},
		{Name: "medium", VCPU: 0.2, Memory: 128},
		{Name: "large", VCPU: 0.4, Memory: 256},
	}
	p.Cooldown, p.CooldownCap, p.ReturnAfter = time.Minute, 10*time.Minute, 3*time.Minute
	p.UrgentFactor = 0 // a rest of one horizon is not worth breaking
	p.MaxJitter, p.RefusalBackoff = 0, 6*time.Second
	p.MaxDigestAge = 30 * time.Second
	p.Bandwidth = 150e6
	p.BlackoutBase = 200 * time.Millisecond
	// The lab's links are memory copies on one machine: a busy one slows nobody
	// beyond the copying itself.
	p.MigrationCores, p.LinkCores = 0.2, 0.02
	return p
}

// scaled is the policy with the least gain of a source in MinGain.
func (p Policy) scaled(h *Host) Policy {
	share := p.MinGainShare * float64(h.usable().CPU) * h.horizon(h.grid()).Seconds()
	if share > float64(p.MinGain) { // not for a host whose capacity is nonsense
		p.MinGain = CoreSeconds(share)
	}
	return p
}

// Validate returns every inconsistency of the policy, joined, or nil.
func (p Policy) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(p.Mode == ModeAdvise || p.Mode == ModeApprove || p.Mode == ModeAuto,
		"mode %q: use advise, approve or auto", p.Mode)
	check(p.Low > 0 && p.High <= 1, "low %v and high %v: must lie in (0, 1]", p.Low, p.High)
	check(p.High-p.Low >= MinBand-1e-9, "high %v - low %v: must be at least %v", p.High, p.Low, MinBand)
	check(p.Hold >= 1 && p.Hold <= p.Window, "hold_rounds %d: must be 1..window_rounds", p.Hold)
	check(p.Window <= 64, "window_rounds %d: at most 64", p.Window)
	check(p.Cooldown > 0 && p.CooldownCap >= p.Cooldown, "cooldown %v, cap %v: need 0 < cooldown <= cap", p.Cooldown, p.CooldownCap)
	check(p.MaxOutgoing >= 1 && p.MaxIncoming >= 1, "max_outgoing %d, max_incoming %d: at least 1", p.MaxOutgoing, p.MaxIncoming)
	check(p.MaxRounds >= 1 && p.MaxRounds <= 1000, "max_rounds %d: must be 1..1000", p.MaxRounds)
	check(p.MaxConsidered >= 1 && p.MaxRefused >= 1, "max_considered %d, max_refused %d: at least 1", p.MaxConsidered, p.MaxRefused)
	check(p.FreezeMinFailed >= 1, "freeze_min_failed %d: at least 1", p.FreezeMinFailed)
	errs = append(errs, p.validateNumbers()...)
	errs = append(errs, validateClasses(p.Classes)...)
	return errors.Join(errs...)
}

// namedNumber is one field of Policy with the name it has in configuration.
type namedNumber struct {
	name  string
	value float64
}

func (p Policy) validateNumbers() []error {
	var errs []error
	for _, f := range []namedNumber{
		{"gain_factor", p.GainFactor}, {"bandwidth", float64(p.Bandwidth)},
		{"max_copy_time", float64(p.MaxCopyTime)}, {"target_downtime", float64(p.TargetDowntime)},
		{"max_blackout", float64(p.MaxBlackout)}, {"max_digest_age", float64(p.MaxDigestAge)},
		{"max_offer_age", float64(p.MaxOfferAge)},
	} {
		if !(f.value > 0) || math.IsInf(f.value, 0) {
			errs = append(errs, fmt.Errorf("%s %v: must be positive", f.name, f.value))
		}
	}
	for _, f := range []namedNumber{
		{"min_gain", float64(p.MinGain)}, {"min_gain_share", p.MinGainShare}, {"return_after", float64(p.ReturnAfter)}, {"urgent_factor", p.UrgentFactor}, {"max_jitter", float64(p.MaxJitter)},
		{"refusal_backoff", float64(p.RefusalBackoff)}, {"max_rtt", float64(p.MaxRTT)}, {"dirty_share", p.DirtyShare},
		{"blackout_base", float64(p.BlackoutBase)}, {"migration_cores", float64(p.MigrationCores)},
		{"link_cores", float64(p.LinkCores)}, {"partner_cores", float64(p.PartnerCores)}, {"wish_cores", float64(p.WishCores)},
		{"risk_spread", p.RiskSpread}, {"risk_age", p.RiskAge}, {"risk_failure", p.RiskFailure}, {"risk_unknown", p.RiskUnknown},
	} {
		if !(f.value >= 0) || math.IsInf(f.value, 0) {
			errs = append(errs, fmt.Errorf("%s %v: must not be negative", f.name, f.value))
		}
	}
	for _, f := range []namedNumber{
		{"max_dirty_ratio", p.MaxDirtyRatio}, {"contention_probability", p.ContentionProbability},
		{"slot_probability", p.SlotProbability}, {"freeze_failed_share", p.FreezeFailedShare},
	} {
		if !(f.value > 0 && f.value < 1) {
			errs = append(errs, fmt.Errorf("%s %v: must lie between 0 and 1", f.name, f.value))
		}
	}
	if !(p.ResidualShare >= 0 && p.ResidualShare < 1) {
		errs = append(errs, fmt.Errorf("residual_share %v: must be 0 or more and below 1", p.ResidualShare))
	}
	return errs
}

// MaxClasses is how many classes a digest has room for.
const MaxClasses = 4

func validateClasses(classes []Class) []error {
	var errs []error
	if len(classes) == 0 || len(classes) > MaxClasses {
		errs = append(errs, fmt.Errorf("%d classes: need 1..%d", len(classes), MaxClasses))
	}
	seen := map[string]bool{}
	for _, c := range classes {
		if c.Name == "" || seen[c.Name] {
			errs = append(errs, fmt.Errorf("class name %q: must be set and unique", c.Name))
		}
		seen[c.Name] = true
		if !(c.VCPU > 0) || !(c.Memory > 0) || math.IsInf(float64(c.VCPU), 0) || math.IsInf(float64(c.Memory), 0) {
			errs = append(errs, fmt.Errorf("class %q: %v cores and %v MiB must be positive", c.Name, c.VCPU, c.Memory))
		}
	}
	return errs
}
