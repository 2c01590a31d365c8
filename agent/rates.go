package agent

import (
	"math"
	"time"

	"headroom/bpf"
)

// rates is what one VM did in the last window. A value that is not known is
// NaN.
type rates struct {
	used, waited        float64 // cores
	diskRead, diskWrite float64 // bytes/s
	network             linkRates
	majorFaults         float64 // 1/s
	switches            float64 // 1/s
}

// linkRates is what went through a VM's taps, as the guest sees it.
type linkRates struct {
	rx, tx               float64 // bytes/s
	rxPackets, txPackets float64 // 1/s
	rxDrops, txDrops     float64 // 1/s, lost on the way to the guest, and from it
}

func unknownRates() rates {
	n := math.NaN()
	return rates{used: n, waited: n, diskRead: n, diskWrite: n, majorFaults: n, switches: n,
		network: linkRates{n, n, n, n, n, n}}
}

// Between these shares of what there is, it counts as used up more and more.
const (
	idleShare = 0.85
	fullShare = 0.95
)

// Between these shares of its runnable time spent waiting, a VM on a full host
// counts as starved more and more.
const (
	servedShare  = 0.5
	starvedShare = 0.75
)

// ramp is 0 up to from, 1 from to on, and linear between.
func ramp(v, from, to float64) float64 { return min(1, max(0, (v-from)/(to-from))) }

// full says how far a thing used so is used up.
func full(used, of float64) float64 {
	if !(of > 0) {
		return 0
	}
	return ramp(used/of, idleShare, fullShare)
}

// demand is what the VM would have used if nothing had held it back. Not every
// wait is demand: work that waits for some milliseconds and is done within the
// same window was late, not unserved, and counting its wait would ask for a core
// that nobody wants. A wait counts as far as the VM's virtual CPUs never rest, so
// that work piles up; or as far as the host (hostFull, 0..1) is used up and the
// VM waits more than it runs, which shows a VM with idle virtual CPUs starved too.
func (r rates) demand(vcpus int, hostFull float64) float64 {
	runnable := r.used + r.waited
	if !(runnable > 0) {
		return runnable // 0, or not known
	}
	starved := hostFull * ramp(r.waited/runnable, servedShare, starvedShare)
	return r.used + r.waited*max(full(runnable, float64(vcpus)), starved)
}

// between derives rates from two samples of the same process; ok is false when
// they cannot be compared.
func between(prev, next *bpf.Sample) (r rates, ok bool) {
	r = unknownRates()
	dt := next.At - prev.At
	if !prev.Valid || !next.Valid || prev.Since != next.Since || dt <= 0 {
		return r, false
	}
	r.used = perSecond(next.CPU()-prev.CPU(), dt)
	if next.Has(bpf.SignalWait) {
		r.waited = perSecond(waitOf(next)-waitOf(prev), dt)
	}
	if next.Has(bpf.SignalIO) {
		r.diskRead = float64(next.ReadBytes-prev.ReadBytes) / dt.Seconds()
		r.diskWrite = float64(next.WriteBytes-prev.WriteBytes) / dt.Seconds()
	}
	r.majorFaults = float64(next.MajorFaults-prev.MajorFaults) / dt.Seconds()
	if next.Has(bpf.SignalSwitches) {
		r.switches = float64(next.VoluntarySwitches-prev.VoluntarySwitches+next.InvoluntarySwitches-prev.InvoluntarySwitches) / dt.Seconds()
	}
	// Without the waited part the demand is censored: it must not pass for a
	// small one.
	return r, next.Has(bpf.SignalWait)
}

// waitOf is the run-queue wait that counts as demand: that of the vCPU threads,
// which the guest sees as steal. The emulator's threads wake for moments and wait
// with them whenever a quota throttles the VM: counting them too would ask for the
// same core twice. Where roles cannot be told, all threads count.
func waitOf(s *bpf.Sample) time.Duration {
	if s.Has(bpf.SignalRoles) {
		return s.VCPUWait
	}
	return s.Wait
}

func perSecond(d, dt time.Duration) float64 { return max(0, d.Seconds()/dt.Seconds()) }

// linkRates adds the network rates from two readings of the VM's taps. The
// host receives what the guest sends, so the directions are exchanged.
func (r *rates) addLinks(prev, next bpf.LinkStats, dt time.Duration) {
	if dt <= 0 || next.RxBytes < prev.RxBytes || next.TxBytes < prev.TxBytes ||
		next.RxPackets < prev.RxPackets || next.TxPackets < prev.TxPackets ||
		next.RxDropped < prev.RxDropped || next.TxDropped < prev.TxDropped {
		return // the tap is a new one
	}
	per := func(next, prev uint64) float64 { return float64(next-prev) / dt.Seconds() }
	r.network = linkRates{
		rx: per(next.TxBytes, prev.TxBytes), tx: per(next.RxBytes, prev.RxBytes),
		rxPackets: per(next.TxPackets, prev.TxPackets), txPackets: per(next.RxPackets, prev.RxPackets),
		rxDrops: per(next.TxDropped, prev.TxDropped), txDrops: per(next.RxDropped, prev.RxDropped),
	}
}

// known returns v as a pointer, or nil when it is not known.
func known(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}
