package simulate

// Result is what one run came to. Percentages are of the definitions of
// Beloglazov and Buyya: SLATAH is the share of active host time in which a host
// could not serve all requests, PDM the share of requested work lost to
// migrations, SLAV their product.
type Result struct {
	Setup  string `json:"setup"`
	Policy string `json:"policy"`
	Seed   uint64 `json:"seed"`
	Hosts  int    `json:"hosts"`
	VMs    int    `json:"vms"`
	Steps  int    `json:"steps"`

	EnergyKWh   float64 `json:"energy_kwh"`
	Migrations  int     `json:"migrations"`
	MigratedGiB float64 `json:"migrated_gib"`
	BlackoutS   float64 `json:"blackout_s"`
	// Contention is the demand that hosts could not serve, Starved the part of it that
	// is traffic to disks and over networks.
	Contention    float64 `json:"contention_core_seconds"`
	Starved       float64 `json:"starved_core_seconds"`
	SLATAHPercent float64 `json:"slatah_percent"`
	PDMPercent    float64 `json:"pdm_percent"`
	SLAVPercent   float64 `json:"slav_percent"`
	// UnhelpfulMoves avoided no contention in the hour after them, with the
	// other VMs where they were; HarmfulMoves, among them, caused some.
	UnhelpfulMoves int `json:"unhelpful_moves"`
	HarmfulMoves   int `json:"harmful_moves"`
	// PingPongs are returns within two hours to the host just left.
	PingPongs        int `json:"ping_pongs"`
	FailedMigrations int `json:"failed_migrations"`
	// RefusedMoves are moves that a policy wanted and that could not begin.
	RefusedMoves int `json:"refused_moves"`
	// Demand is all demand there was, to compare Contention with.
	Demand    float64 `json:"demand_core_seconds"`
	VMsAtEnd  int     `json:"vms_at_end"`
	OverallPc float64 `json:"overall_sla_percent"`
}

func (st *stage) result(o Options) Result {
	t := &st.log
	r := Result{
		Setup: st.setup.Name, Policy: o.Policy, Seed: o.Seed, Hosts: len(st.hosts), VMs: len(st.guests), Steps: st.setup.Steps,
		EnergyKWh: t.energy / 3.6e6, Migrations: t.migrations, MigratedGiB: t.bytes / 1024, BlackoutS: t.blackout,
		UnhelpfulMoves: t.unhelpful, HarmfulMoves: t.harmful, PingPongs: t.pingPongs, FailedMigrations: t.failed, RefusedMoves: t.impossible,
	}
	var active, violated, unserved, starved, requested, allocated, degraded float64
	for i := range st.hosts {
		l := &st.hosts[i].sla
		active += l.active
		violated += l.violated
		unserved += l.unserved
		starved += l.starved
	}
	for i := range st.guests {
		l := &st.guests[i].sla
		requested += l.requested
		allocated += l.allocated
		degraded += l.degraded
		if !st.guests[i].gone {
			r.VMsAtEnd++
		}
	}
	r.Contention = unserved / st.setup.CoreMIPS
	r.Starved = starved / st.setup.CoreMIPS
	r.Demand = requested / st.setup.CoreMIPS
	if active > 0 && requested > 0 {
		r.SLATAHPercent = 100 * violated / active
		r.PDMPercent = 100 * degraded / requested
		r.SLAVPercent = r.SLATAHPercent * r.PDMPercent / 100
		r.OverallPc = 100 * (requested - allocated) / requested
	}
	return r
}
