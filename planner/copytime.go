package planner

import (
	"math"
	"time"
)

// copyPlan is the prediction of one pre-copy migration.
type copyPlan struct {
	bytes      float64
	time       time.Duration
	blackout   time.Duration
	ratio      float64 // dirty rate over bandwidth
	dirty      BytesPerSecond
	assumed    bool // the dirty rate was not measured
	link       LinkEstimate
	refusals   []Refusal
	convergent bool
}

const mib = 1 << 20

// planCopy predicts the copy of vm over link. Pre-copy sends all memory, then
// what was dirtied meanwhile, and so on: rounds shrink by the ratio of dirty
// rate to bandwidth, until the rest can be sent within the target downtime.
// What earlier migrations were off by scales both predictions.
func planCopy(vm *VM, link LinkEstimate, learned *Learned, p *Policy) copyPlan {
	c := copyPlan{link: link, dirty: vm.DirtyRate, assumed: !vm.HasDirtyRate}
	memory := vm.Resident
	if !(memory > 0) || memory > vm.Memory {
		memory = vm.Memory
	}
	size := float64(memory) * mib
	if c.assumed {
		c.dirty = BytesPerSecond(p.DirtyShare * size)
	}
	bandwidth := float64(max(minBandwidth, link.Bandwidth))
	c.ratio = float64(max(0, c.dirty)) / bandwidth

	last, rounds := size, 1
	c.bytes = size
	target := p.TargetDowntime.Seconds() * bandwidth
	for last*c.ratio > target && rounds < p.MaxRounds && c.ratio < 1 {
		last *= c.ratio
		c.bytes += last
		rounds++
	}
	rest := math.Min(size, last*c.ratio)
	c.time = seconds(c.bytes / bandwidth * factor(learned.CopyRatio))
	c.blackout = seconds((rest/bandwidth + p.BlackoutBase.Seconds()) * factor(learned.BlackoutRatio))
	c.convergent = c.ratio <= p.MaxDirtyRatio && rest <= target && c.time <= p.MaxCopyTime
	c.judge(p)
	return c
}

func (c *copyPlan) judge(p *Policy) {
	word := "measured"
	if c.assumed {
		word = "assumed"
	}
	if !c.convergent {
		c.refusals = append(c.refusals, refuse(RefuseNoConverge,
			"pre-copy would not finish: %s dirty rate %.1f MiB/s is %.0f %% of the bandwidth of %.1f MiB/s, predicted copy %s (limits %.0f %%, %s)",
			word, float64(c.dirty)/mib, 100*c.ratio, float64(c.link.Bandwidth)/mib, round(c.time), 100*p.MaxDirtyRatio, p.MaxCopyTime))
		return
	}
	if c.blackout > p.MaxBlackout {
		c.refusals = append(c.refusals, refuse(RefuseBlackout, "predicted pause %s is above %s", round(c.blackout), p.MaxBlackout))
	}
}

// seconds converts without overflowing: absurd inputs give a very long time.
func seconds(s float64) time.Duration {
	if !(s < 1e9) {
		s = 1e9
	}
	return time.Duration(s * float64(time.Second))
}

// round shortens a duration for people.
func round(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(time.Second)
}
