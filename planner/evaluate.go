package planner

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Term is one visible part of a cost. Group is the sum it enters.
type Term struct {
	Name  string      `json:"name"`
	Group string      `json:"group"` // resource, network, overhead, risk
	Value CoreSeconds `json:"core_s"`
	Text  string      `json:"text"`
}

// Cost is what a move costs within the horizon. Total is the sum of the four
// groups; Risk is the part by which risk scales the other three.
type Cost struct {
	Resource CoreSeconds `json:"resource_core_s"`
	Network  CoreSeconds `json:"network_core_s"`
	Overhead CoreSeconds `json:"overhead_core_s"`
	Risk     CoreSeconds `json:"risk_core_s"`
	Total    CoreSeconds `json:"total_core_s"`
	Terms    []Term      `json:"terms"`
	// CopyTime, Blackout and Bytes are predictions, corrected by what earlier
	// migrations taught; Converges says whether pre-copy would finish.
	CopyTime  time.Duration `json:"copy_time_ns"`
	Blackout  time.Duration `json:"blackout_ns"`
	Bytes     uint64        `json:"bytes"`
	Converges bool          `json:"converges"`
}

// Pair is an expected unserved demand without and with the move.
type Pair struct {
	Without CoreSeconds `json:"without_core_s"`
	With    CoreSeconds `json:"with_core_s"`
}

// Evaluation weighs one move. Gain is the contention that it avoids: what the
// source is spared less what the destination falls short of in its place (before
// a destination is known: what the source is spared). Net is Gain less
// Cost.Total. The move is allowed if Refusals is empty.
type Evaluation struct {
	VM          VMID        `json:"vm"`
	To          HostID      `json:"to,omitempty"`
	Gain        CoreSeconds `json:"gain_core_s"`
	Cost        Cost        `json:"cost"`
	Net         CoreSeconds `json:"net_core_s"`
	Source      Pair        `json:"source"`
	Destination Pair        `json:"destination"`
	Refusals    []Refusal   `json:"refusals,omitempty"`
	// DestP90 is the destination's forecast p90 peak after the add, as a share
	// of its usable cores; MemoryAfter is what stays free there.
	DestP90     float64 `json:"dest_p90_after"`
	MemoryAfter MiB     `json:"memory_after_mib"`
	// Room is the part of Gain that another VM's move is worth for which this one
	// makes room.
	Room CoreSeconds `json:"gain_room_core_s,omitempty"`
	// Shared is the part of Gain that is not of cores, but of memory, disk or
	// network.
	Shared CoreSeconds `json:"gain_shared_core_s,omitempty"`
	// ContentionAt is when the source's demand for cores is predicted to exceed its
	// capacity if nothing moves, from now; -1 when it is not.
	ContentionAt time.Duration `json:"contention_at_ns"`
	Horizon      time.Duration `json:"horizon_ns"`
	// Residual is the expected unserved demand at the source after the VM has
	// left, over a whole horizon: what its leaving does not cure.
	Residual CoreSeconds `json:"residual_core_s"`
}

// Allowed says whether nothing stands against the move.
func (e *Evaluation) Allowed() bool { return len(e.Refusals) == 0 }

// EvaluateMigration weighs moving vm from src to the host that made the offer:
// gain and every cost term in core-seconds over the VM's forecast horizon, and
// every reason against. It checks constraints again that the offer may not
// know of. A draining source needs no gain.
func EvaluateMigration(vm VM, src Host, dst Offer, p Policy) Evaluation {
	p = p.scaled(&src)
	s := newSource(&src, &p)
	e := s.leaving(&vm, dst.Host)
	d := s.need(&vm)
	e.To = dst.Host
	e.Refusals = append(e.Refusals, dst.Refusals...)
	e.Refusals = append(e.Refusals, offerRefusals(&vm, &src, &dst, &p)...)
	if hasKind(dst.Refusals, RefuseMissingData) {
		return e
	}
	if why := dst.malformed(); why != "" {
		e.Refusals = append(e.Refusals, refuse(RefuseMissingData, "the offer is malformed: %s", why))
		return e
	}
	s.arriving(&e, &vm, &d, &dst)
	e.DestP90 = shareAfter(&dst, &d.CPU)
	e.MemoryAfter = dst.MemoryFree - d.Memory
	fitted := dst
	fitted.P90After = e.DestP90
	for _, r := range fits(&fitted, &d, p, levelAfter(&fitted, &d.CPU)) {
		if !hasKind(e.Refusals, r.Kind) {
			e.Refusals = append(e.Refusals, r)
		}
	}
	e.finish(&p, src.Draining)
	return e
}

// offerRefusals are the reasons against an offer that its maker cannot know.
func offerRefusals(vm *VM, src *Host, dst *Offer, p *Policy) []Refusal {
	out := vm.immovable()
	if missing := src.missing(); len(missing) > 0 && !src.Draining {
		out = append(out, refuse(RefuseMissingData, "at the source: %s", missing[0]))
	}
	if dst.Host == src.ID && !hasKind(dst.Refusals, RefuseSameHost) {
		out = append(out, refuse(RefuseSameHost, "%s runs there already", vm.label()))
	}
	if dst.Age > p.MaxOfferAge {
		out = append(out, refuse(RefuseStale, "the offer is %s old, at most %s is used", round(dst.Age), p.MaxOfferAge))
	}
	if r := pinRefusal(vm.Policy.Pin, dst.Host, dst.Name); r != nil && !hasKind(dst.Refusals, RefusePinned) {
		out = append(out, *r)
	}
	if r := hostRefusal(vm.Policy.Hosts, dst.Host, dst.Name); r != nil && !hasKind(dst.Refusals, r.Kind) {
		out = append(out, *r)
	}
	return out
}

// finish sums up the cost and applies the rule of gain.
func (e *Evaluation) finish(p *Policy, drain bool) {
	e.Cost.sum()
	e.Net = e.Gain - e.Cost.Total
	if drain {
		return
	}
	need := max(p.MinGain, CoreSeconds(p.GainFactor)*e.Cost.Total)
	// The negation refuses a NaN too.
	if !(e.Gain >= need) || !(e.Gain > 0) {
		e.Refusals = append(e.Refusals, refuse(RefuseGain,
			"gain %.2f core-seconds is below %.2f (the larger of %.3g x cost %.2f and %.3g)",
			e.Gain, need, p.GainFactor, e.Cost.Total, p.MinGain))
	}
}

func (c *Cost) add(group, name string, v CoreSeconds, format string, args ...any) {
	c.Terms = append(c.Terms, Term{Name: name, Group: group, Value: v, Text: fmt.Sprintf(format, args...)})
}

// The groups of cost terms. A risk term's value is a factor's share of the
// other groups' sum.
const (
	groupResource = "resource"
	groupNetwork  = "network"
	groupOverhead = "overhead"
	groupRisk     = "risk"
)

// sum fills the group sums from the terms. Risk terms hold factors until now.
func (c *Cost) sum() {
	c.Resource, c.Network, c.Overhead, c.Risk = 0, 0, 0, 0
	for _, t := range c.Terms {
		switch t.Group {
		case groupResource:
			c.Resource += t.Value
		case groupNetwork:
			c.Network += t.Value
		case groupOverhead:
			c.Overhead += t.Value
		}
	}
	// Bringing traffic partners together may pay for other network cost, but
	// is no reason to move: contention is.
	c.Network = max(0, c.Network)
	base := c.Resource + c.Network + c.Overhead
	for i := range c.Terms {
		if c.Terms[i].Group == groupRisk {
			c.Terms[i].Value *= base
			c.Risk += c.Terms[i].Value
		}
	}
	c.Total = base + c.Risk
}

// source holds what is the same for every VM that might leave a host.
type source struct {
	h        *Host
	p        *Policy
	grid     grid
	load     *load
	scratch  *load
	shares   shares
	spare    shares // scratch, as scratch is
	usable   Cores
	without  []float64 // expected unserved core-seconds per step, of all resources
	starved  []float64 // those of them that are not of cores
	total    float64
	contends time.Duration
	peak     float64 // p90 of the peak, cores
	fill     float64 // highest mean of any step, as a share of usable
	free     MiB     // memory that is not allocated; only where room is wanted
}

func newSource(h *Host, p *Policy) *source {
	g := h.grid()
	s := &source{h: h, p: p, grid: g, load: h.planned(g), scratch: newLoad(g, h.correlation()), usable: h.usable().CPU}
	s.shares = h.plannedShares(g)
	s.spare = newShares(g, s.usable, h.correlation(), s.shares.limit)
	s.without, s.starved = s.load.unserved(s.usable, nil), make([]float64, g.n)
	s.shares.unserved(s.starved)
	for i, v := range s.starved {
		s.without[i] += v
	}
	s.total = total(s.without)
	s.contends = s.load.contention(s.usable, p.ContentionProbability)
	s.fill = s.load.level() / float64(s.usable)
	s.peak = p90(s.load.peakQuantiles())
	if len(h.Wanted) > 0 {
		s.free = h.memoryFree(p.SlotProbability)
	}
	return s
}

// need is NeedOf with what the destinations have to know of the source.
func (s *source) need(vm *VM) Need {
	n := NeedOf(*vm, *s.h)
	n.Fill = s.fill
	if room, _ := s.roomFor(vm); room != nil {
		n.For = room.VM
	}
	n.FillDisk, n.FillNetwork = s.shares.level(sharedDisk), s.shares.level(sharedNetwork)
	return n
}

// planned is the CPU load that stays once the moves under way are over.
func (h *Host) planned(g grid) *load {
	l := h.cpuLoad(g)
	for i := range h.VMs {
		vm := &h.VMs[i]
		if slices.Contains(h.Outgoing, vm.ID) && !h.isTransient(vm.ID) && vm.unmeasured() == "" {
			d := vm.demand()
			l.remove(&d)
		}
	}
	return l
}

// contention is when demand first exceeds capacity with probability p; -1 if
// not within the horizon.
func (l *load) contention(capacity Cores, p float64) time.Duration {
	for h := range l.steps {
		if exceedProbability(l.steps[h].quantiles(l.rho), float64(capacity)) >= p {
			return time.Duration(h) * l.grid.step
		}
	}
	return -1
}

func total(xs []float64) float64 {
	sum := 0.0
	for _, x := range xs {
		sum += x
	}
	return sum
}

// leaving weighs what is known before a destination is: the gain at the
// source and the cost of the copy.
func (s *source) leaving(vm *VM, to HostID) Evaluation {
	e := Evaluation{VM: vm.ID, ContentionAt: s.contends, Horizon: s.grid.step * time.Duration(s.grid.n)}
	plan := planCopy(vm, s.h.Learned.Link(to, *s.p), &s.h.Learned, s.p)
	e.Cost.CopyTime, e.Cost.Blackout = plan.time, plan.blackout
	e.Cost.Bytes, e.Cost.Converges = uint64(plan.bytes), plan.convergent
	e.Refusals = append(e.Refusals, plan.refusals...)

	d, measured := vm.need()
	e.Source.Without = CoreSeconds(s.total)
	e.Source.With = e.Source.Without
	if measured {
		s.scratch.set(s.load)
		s.scratch.remove(&d)
		after := s.scratch.unserved(s.usable, make([]float64, 0, s.grid.n))
		lead := s.lead(plan.time)
		if s.shares.any() {
			s.spare.set(&s.shares)
			s.spare.drop(vm.shared())
			starved := make([]float64, s.grid.n)
			s.spare.unserved(starved)
			e.Shared = CoreSeconds(total(s.starved) - s.blend(s.starved, starved, lead))
			for i, v := range starved {
				after[i] += v
			}
		}
		e.Residual = CoreSeconds(total(after))
		e.Source.With = CoreSeconds(s.blend(s.without, after, lead))
	}
	e.Gain = e.Source.Without - e.Source.With
	_, e.Room = s.roomFor(vm)
	e.Gain += e.Room
	s.copyTerms(&e.Cost, &plan, &d)
	e.Cost.add(groupResource, "copy", displaced(s.load, s.usable, s.p, plan.time),
		"copying for %s at %.2g cores: demand that it displaces here", round(plan.time), s.p.MigrationCores/2)
	if measured {
		s.spreadTerm(&e.Cost, &d)
	}
	s.riskTerms(&e.Cost, vm, &plan, to)
	return e
}

// lead is how long the VM still burdens the source: mean jitter, then the copy.
func (s *source) lead(copyTime time.Duration) time.Duration { return s.p.MaxJitter/2 + copyTime }

// blend sums before up to lead and after from then on.
func (s *source) blend(before, after []float64, lead time.Duration) float64 {
	sum := 0.0
	for h := range before {
		share := before01(lead, time.Duration(h)*s.grid.step, s.grid.step)
		sum += share*before[h] + (1-share)*after[h]
	}
	return sum
}

// before01 is the share of the step from start that lies before t.
func before01(t, start, step time.Duration) float64 {
	return math.Min(1, math.Max(0, float64(t-start)/float64(step)))
}

func (s *source) copyTerms(c *Cost, plan *copyPlan, d *Demand) {
	p := s.p
	c.add(groupNetwork, "transfer", CoreSeconds(float64(p.LinkCores)*plan.bytes/float64(max(minBandwidth, plan.link.Bandwidth))),
		"%.0f MiB at %.1f MiB/s (%d samples)", plan.bytes/mib, float64(plan.link.Bandwidth)/mib, plan.link.Samples)
	peak := p90(d.Peak)
	c.add(groupOverhead, "blackout", CoreSeconds(peak*plan.blackout.Seconds()),
		"paused for %s with a demand of up to %.2f cores", round(plan.blackout), peak)
}

// displaced is the demand that goes unserved on a host because one end of a copy
// burns cores there for a time: nothing on a host with cores to spare, all of it
// on one that has none. That is why a move ahead of contention is cheaper than
// one in the midst of it.
func displaced(l *load, usable Cores, p *Policy, lasts time.Duration) CoreSeconds {
	burnt := float64(p.MigrationCores / 2)
	left := lasts.Seconds()
	if l.grid.n == 0 {
		return CoreSeconds(burnt * left)
	}
	sum := 0.0
	for h := 0; h < l.grid.n && left > 0; h++ {
		span := min(left, l.grid.step.Seconds())
		q := l.steps[h].quantiles(l.rho)
		sum += span * (expectedExcess(q, float64(usable)-burnt) - expectedExcess(q, float64(usable)))
		left -= span
	}
	return CoreSeconds(sum + left*burnt)
}

func (s *source) spreadTerm(c *Cost, d *Demand) {
	median, high := d.Peak[0], p90(d.Peak)
	if median <= 0 {
		return
	}
	spread := (high - median) / median
	c.add(groupRisk, "spread", CoreSeconds(s.p.RiskSpread*min(1, spread)), "p90 of the VM's peak is %.0f %% above its median", 100*spread)
}

func (s *source) riskTerms(c *Cost, vm *VM, plan *copyPlan, to HostID) {
	p := s.p
	if n := s.h.Learned.failures(vm.ID, to); n > 0 {
		c.add(groupRisk, "failures", CoreSeconds(p.RiskFailure*float64(n)), "%d failed in the last 24 h", n)
	}
	if plan.assumed {
		c.add(groupRisk, "dirty-rate", CoreSeconds(p.RiskUnknown), "no measured dirty rate, %.1f MiB/s assumed", float64(plan.dirty)/mib)
	}
}

// maxPassedOn is the share of what a source is spared that may come back at the
// destination. Each move then at least halves a shortage, so that no sequence of
// moves can hand it round.
const maxPassedOn = 0.5

// arriving adds what only the destination's offer shows.
func (s *source) arriving(e *Evaluation, vm *VM, need *Need, dst *Offer) {
	base := offerLoad(dst, &need.CPU)
	without := base.unserved(dst.Usable.CPU, nil)
	base.add(&need.CPU)
	with := base.unserved(dst.Usable.CPU, nil)
	dstSource := source{p: s.p, grid: base.grid}
	lead := s.lead(e.Cost.CopyTime)
	e.Destination.Without = CoreSeconds(total(without))
	e.Destination.With = CoreSeconds(dstSource.blend(without, with, lead))
	if more := dst.shares(base.grid); more.any() {
		without, with := make([]float64, base.grid.n), make([]float64, base.grid.n)
		more.unserved(without)
		more.take(need.shared())
		more.unserved(with)
		before, after := CoreSeconds(total(without)), CoreSeconds(dstSource.blend(without, with, lead))
		e.Destination.Without += before
		e.Destination.With += after
		e.Shared -= after - before
	}
	passed := e.Destination.With - e.Destination.Without
	if passed > maxPassedOn*e.Gain && !need.Drain {
		e.Refusals = append(e.Refusals, refuse(RefuseGain, "the destination would fall short by %.2f core-seconds more, above half of the %.2f that the source is spared", passed, e.Gain))
	}
	e.Gain -= passed
	e.Cost.add(groupResource, "copy-in", displaced(offerLoad(dst, &need.CPU), dst.Usable.CPU, s.p, e.Cost.CopyTime),
		"copying for %s at %.2g cores: demand that it displaces there", round(e.Cost.CopyTime), s.p.MigrationCores/2)
	s.partnerTerm(&e.Cost, vm, dst, e.Horizon)
	s.wishTerm(&e.Cost, vm, dst, e.Horizon)
	if s.p.MaxOfferAge > 0 {
		share := math.Min(1, float64(max(0, dst.Age))/float64(s.p.MaxOfferAge))
		e.Cost.add(groupRisk, "offer-age", CoreSeconds(s.p.RiskAge*share), "the offer is %s old", round(dst.Age))
	}
}

// partnerTerm prices the distance to declared traffic partners by latency
// class: coordinates are too coarse to rank hosts of one rack.
func (s *source) partnerTerm(c *Cost, vm *VM, dst *Offer, horizon time.Duration) {
	if len(vm.Policy.Partners) == 0 {
		return
	}
	class := latencyClass(dst.RTT, dst.RTTKnown)
	here, there := len(s.h.residents(vm.Policy.Partners)), len(dst.Partners)
	v := float64(s.p.PartnerCores) * float64(class) * float64(here-there) * horizon.Seconds()
	c.add(groupNetwork, "partners", CoreSeconds(v), "leaves %d traffic partners, joins %d, latency class %d", here, there, class)
}

// latencyClass is 1 within a rack or unknown, 2 up to 5 ms, 3 beyond.
func latencyClass(rtt time.Duration, known bool) int {
	switch {
	case !known || rtt < time.Millisecond:
		return 1
	case rtt < 5*time.Millisecond:
		return 2
	}
	return 3
}
