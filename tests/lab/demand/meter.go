package demand

import "time"

// Meter adds up a script's work, forward in time, at a cost that does not
// grow with the time gone by. One goroutine owns it.
type Meter struct {
	script Script
	step   int64   // the grid point reached
	left   float64 // cores there
	right  float64 // cores at the next one
	work   float64 // core-seconds up to the grid point reached
}

// NewMeter starts at the script's start.
func NewMeter(s Script) *Meter {
	return &Meter{script: s, left: s.At(0), right: s.At(Grid)}
}

// advance goes on to the next point of the grid.
func (m *Meter) advance() {
	m.work += m.area()
	m.step++
	m.left, m.right = m.right, m.script.At(time.Duration(m.step+1)*Grid)
}

// area is the work between the point reached and the next, in core-seconds.
func (m *Meter) area() float64 { return (m.left + m.right) / 2 * Grid.Seconds() }

// Work is the work asked for from the start until t, in core-seconds. Calls
// must not go back by more than one step of the grid; earlier times answer
// with the work at the point reached.
func (m *Meter) Work(t time.Duration) float64 {
	for time.Duration(m.step+1)*Grid <= t {
		m.advance()
	}
	f := float64(t-time.Duration(m.step)*Grid) / float64(Grid)
	if f <= 0 {
		return m.work
	}
	return m.work + f*(m.left+f*(m.right-m.left)/2)*Grid.Seconds()
}

// Reach is the time at which the work asked for reaches w core-seconds; ok is
// false when that is not before the limit. Calls must not decrease w.
func (m *Meter) Reach(w float64, limit time.Duration) (t time.Duration, ok bool) {
	for m.work+m.area() < w {
		if time.Duration(m.step+1)*Grid >= limit {
			return 0, false
		}
		m.advance()
	}
	at := time.Duration(m.step) * Grid
	if a := m.area(); a > 0 && w > m.work {
		// Linear in the step: at most a few ms from the exact root, the same
		// few ms for everyone who asks.
		at += time.Duration((w - m.work) / a * float64(Grid))
	}
	return at, at < limit
}

// Work is the script's work from its start until t, in core-seconds. It costs
// one evaluation a grid step; use a Meter for a running sum.
func (s Script) Work(t time.Duration) float64 {
	if t <= 0 {
		return 0
	}
	return NewMeter(s).Work(t)
}
