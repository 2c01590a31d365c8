package simulate

// entry is one state of a VM or host, valid until the next.
type entry struct {
	allocated, requested float64 // MIPS
	active               bool    // of a host: in use; of a VM: being copied
	unserved             float64 // MIPS
	starved              float64 // the part of it that is traffic
}

// follow turns a sequence of entries into spans: those of the same moment
// replace each other.
type follow struct {
	last    entry
	at      float64
	started bool
}

// enter notes e from t on, and returns the span that it ends.
func (f *follow) enter(t float64, e entry) (span float64, was entry) {
	span, was = t-f.at, f.last
	if !f.started {
		span = 0
	}
	f.last, f.at, f.started = e, t, true
	return span, was
}

// hostLedger adds up what SLATAH and contention need of one host.
type hostLedger struct {
	follow
	active, violated float64 // s
	unserved         float64 // MIPS * s
	starved          float64 // the part of it that is traffic
}

func (l *hostLedger) enter(t float64, e entry) {
	span, was := l.follow.enter(t, e)
	l.unserved += was.unserved * span
	l.starved += was.starved * span
	if span > 0 && was.active {
		l.active += span
		if was.allocated < was.requested {
			l.violated += span
		}
	}
}

// vmLedger adds up what PDM needs of one VM, in MIPS * s.
type vmLedger struct {
	follow
	requested, allocated, degraded float64
}

func (l *vmLedger) enter(t float64, e entry) {
	span, was := l.follow.enter(t, e)
	l.requested += was.requested * span
	l.allocated += was.allocated * span
	if was.active && was.allocated < was.requested {
		l.degraded += (was.requested - was.allocated) * span
	}
}

// reset forgets what was counted until now, and keeps the state.
func (st *stage) reset() {
	st.log = tally{faults: st.log.faults, rng: st.log.rng}
	for i := range st.hosts {
		l := &st.hosts[i].sla
		l.active, l.violated, l.unserved, l.starved = 0, 0, 0, 0
	}
	for i := range st.guests {
		l := &st.guests[i].sla
		l.requested, l.allocated, l.degraded = 0, 0, 0
	}
}
