package planner

import (
	"cmp"
	"slices"
	"time"
)

// Choose evaluates every offer and returns the allowed one of greatest net
// gain (ties: the emptier host, then the smaller id) with its evaluation, and
// the others with their reasons, in order of id. The host is empty when the VM
// fits nowhere.
func Choose(vm VM, src Host, offers []Offer, p Policy) (HostID, Evaluation, []RefusedDestination) {
	var best *Evaluation
	var refused []RefusedDestination
	names := map[HostID]string{}
	lost := func(e *Evaluation, rs []Refusal) {
		refused = append(refused, RefusedDestination{Host: e.To, Name: names[e.To], Refusals: rs, Gain: e.Gain, Cost: e.Cost.Total})
	}
	for i := range offers {
		e := EvaluateMigration(vm, src, offers[i], p)
		names[e.To] = offers[i].Name
		switch {
		case !e.Allowed():
			lost(&e, e.Refusals)
		case best == nil || better(&e, best):
			if best != nil {
				lost(best, []Refusal{beaten(best, &e)})
			}
			best = &e
		default:
			lost(&e, []Refusal{beaten(&e, best)})
		}
	}
	slices.SortFunc(refused, func(a, b RefusedDestination) int { return cmp.Compare(a.Host, b.Host) })
	if best == nil {
		return "", Evaluation{VM: vm.ID, ContentionAt: -1}, refused
	}
	return best.To, *best, refused
}

func better(a, b *Evaluation) bool {
	return cmp.Or(cmp.Compare(b.Net, a.Net), cmp.Compare(a.DestP90, b.DestP90), cmp.Compare(a.To, b.To)) < 0
}

func beaten(e, by *Evaluation) Refusal {
	return refuse(RefuseGain, "net gain %.2f core-seconds at p90 %.0f %% after the add; %s gives %.2f at %.0f %%",
		e.Net, 100*e.DestP90, by.To, by.Net, 100*by.DestP90)
}

// FindBestTargetHost is Choose over whole hosts instead of offers: for
// simulations and «what if» questions, where every host's state is known.
func FindBestTargetHost(now time.Time, vm VM, src Host, hosts []Host, p Policy) (HostID, Evaluation, []RefusedDestination) {
	need := newSource(&src, &p).need(&vm)
	offers := make([]Offer, 0, len(hosts))
	for _, h := range hosts {
		offers = append(offers, MakeOffer(now, h, need, p))
	}
	return Choose(vm, src, offers, p)
}
