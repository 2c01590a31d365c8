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
	netRx, netTx        float64 // bytes/s, as the guest sees them
}

func unknownRates() rates {
	n := math.NaN()
	return rates{used: n, waited: n, diskRead: n, diskWrite: n, netRx: n, netTx: n}
}

// Between these shares of what there is, a wait turns from latency into demand.
const (
	idleShare = 0.85
	fullShare = 0.95
)

// full says how far a thing used so is used up: 0 up to idleShare, 1 from
// fullShare on.
func full(used, of float64) float64 {
	if !(of > 0) {
		return 0
	}
	return min(1, max(0, (used/of-idleShare)/(fullShare-idleShare)))
}

// demand is what the VM would have used if nothing had held it back. Waiting is
// demand only as far as there was nothing left to serve it: on a host with idle
// capacity (hostFull 0) a wait of a few milliseconds is latency, the work is done
// within the same window all the same, and counting the wait would ask for a core
// that nobody wants. It counts fully when the host is used up, or when the VM's
// own virtual CPUs never rest.
func (r rates) demand(vcpus int, hostFull float64) float64 {
	return r.used + r.waited*max(hostFull, full(r.used+r.waited, float64(vcpus)))
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
	if dt <= 0 || next.RxBytes < prev.RxBytes || next.TxBytes < prev.TxBytes {
		return // the tap is a new one
	}
	r.netTx = float64(next.RxBytes-prev.RxBytes) / dt.Seconds()
	r.netRx = float64(next.TxBytes-prev.TxBytes) / dt.Seconds()
}

// known returns v as a pointer, or nil when it is not known.
func known(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}
