package simulate

import "math"

// Power is the electrical power of a host in W at 0, 10 .. 100 % of its CPU, as
// SPECpower_ssj2008 publishes it.
type Power [11]float64

// The hosts of the CloudSim benchmark, and a server of 12 cores.
var (
	PowerML110G4    = Power{86, 89.4, 92.6, 96, 99.5, 102, 106, 108, 112, 114, 117}
	PowerML110G5    = Power{93.7, 97, 101, 105, 110, 116, 121, 125, 129, 133, 135}
	PowerX3550X5675 = Power{58.4, 98, 109, 118, 128, 140, 153, 170, 189, 205, 222}
)

// At is the power at utilisation u, 0..1, linear between the published points.
// Hosts of one type in the same tenth differ by rounding alone in what another
// VM would add, and the smallest decides who gets it: so the order of operations
// is CloudSim's.
func (p *Power) At(u float64) float64 {
	u = math.Min(1, math.Max(0, u))
	tenths := u * 10
	low, high := int(math.Floor(tenths)), int(math.Ceil(tenths))
	// The remainder is slow to compute and can be zero at whole tenths alone.
	if off := tenths - float64(low); (off < 1e-9 || off > 1-1e-9) && math.Mod(u, 0.1) == 0 {
		return p[int(tenths)]
	}
	delta := (p[high] - p[low]) / 10
	return p[low] + delta*(u-float64(low)/10)*100
}

// energy is what a host draws in dt seconds, in J: the mean of the power before
// and now, nothing for a host that was off (CloudSim's rule).
func (p *Power) energy(before, now, dt float64) float64 {
	if before == 0 {
		return 0
	}
	from, to := p.At(before), p.At(now)
	return (from + (to-from)/2) * dt
}
