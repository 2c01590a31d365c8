package model

import (
	"hash/maphash"
	"slices"

	"headroom/planner/negotiate"
)

// fingerprintSeed is one for the process, so that equal states meet.
var fingerprintSeed = maphash.MakeSeed()

// Fingerprint is equal for two worlds that will behave alike. It leaves out what
// only paces or explains: counters of tries, texts, due times. Numbers of looks
// at libvirt count by their order alone. With 64 bits, two different states
// among a million meet with a chance of 3e-8.
func (w *World) Fingerprint() uint64 {
	e := encoder{buf: make([]byte, 0, 512)}
	b := w.Budget
	e.bytes(b.Attempts, b.Duplicates, b.Cuts, b.Cancels, b.AgentCrashes, b.LibvirtCrashes, b.HostCrashes, b.JournalFailures)
	e.bools(w.Crashed)
	for h := range w.Hosts {
		w.encodeHost(&e, h)
	}
	var packets []string
	for _, p := range w.Net {
		q := encoder{}
		q.bytes(byte(p.From), byte(p.To))
		q.message(p.Message)
		packets = append(packets, string(q.buf))
	}
	slices.Sort(packets)
	for _, p := range packets {
		e.str(p)
	}
	return maphash.Bytes(fingerprintSeed, e.buf)
}

func (w *World) encodeHost(e *encoder, h int) {
	host := &w.Hosts[h]
	e.bools(host.Up, host.Agent, host.Libvirtd)
	for v := range w.VMs {
		e.source(host.Sources[v])
		e.sourceRecord(host.SourceJournal[v])
		e.destRecord(host.DestJournal[v])
		d, j := host.Domains[v], host.Jobs[v]
		e.bytes(byte(d.Run), byte(d.Attempt), byte(d.Session), byte(j.Phase), byte(j.To), byte(j.Session))
		e.str(string(d.Lease))
		e.bools(d.Epoch == w.VMs[v].Epoch, d.Left, j.Paused, j.Cut, j.Waiting)
	}
	rank := w.ranks(h)
	e.bytes(byte(host.Dest.Counter), byte(len(host.Dest.Entries)))
	for _, en := range host.Dest.Entries {
		e.destRecord(en.Record)
		e.str(string(en.Copy))
		e.bytes(rank(en.Look), rank(en.Ending), byte(min(en.Tries, 1)))
		e.bools(en.Watched, en.Ran, en.Unnoted)
	}
	for _, q := range host.Dest.Questions {
		e.str(string(q.From))
		e.str(string(q.Lease))
		e.bytes(byte(q.Attempt), rank(q.Query))
	}
	e.bytes(byte(len(host.Inbox)))
	for _, in := range host.Inbox {
		e.input(host, in, rank)
	}
	var timers []string
	for _, t := range host.Timers {
		due := byte(0)
		if en, ok := host.Dest.Entry(w.VMs[t.VM].ID); ok && !t.Source && t.Due >= en.Expires {
			due = 1
		}
		timers = append(timers, string(t.Kind)+string([]byte{byte(t.VM), due}))
	}
	slices.Sort(timers)
	for _, t := range timers {
		e.str(t)
	}
}

// ranks replaces the numbers of the destination's looks by their order.
func (w *World) ranks(h int) func(uint64) byte {
	host := &w.Hosts[h]
	all := []uint64{0}
	for _, en := range host.Dest.Entries {
		all = append(all, en.Look, en.Ending)
	}
	for _, q := range host.Dest.Questions {
		all = append(all, q.Query)
	}
	for _, in := range host.Inbox {
		all = append(all, destQuery(in.Destination))
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return func(q uint64) byte {
		i, _ := slices.BinarySearch(all, q)
		return byte(i)
	}
}

func destQuery(ev negotiate.DestinationEvent) uint64 {
	switch ev := ev.(type) {
	case negotiate.CopyAppeared:
		return ev.Query
	case negotiate.CopyGone:
		return ev.Query
	case negotiate.CopyLost:
		return ev.Query
	}
	return 0
}

type encoder struct{ buf []byte }

func (e *encoder) bytes(b ...byte) { e.buf = append(e.buf, b...) }

func (e *encoder) str(s string) {
	e.buf = append(e.buf, byte(len(s)))
	e.buf = append(e.buf, s...)
}

func (e *encoder) bools(bs ...bool) {
	var x byte
	for _, b := range bs {
		x <<= 1
		if b {
			x |= 1
		}
	}
	e.buf = append(e.buf, x, byte(len(bs)))
}

func (e *encoder) source(s negotiate.Source) {
	e.str(string(s.Phase))
	e.sourceRecord(s.Record)
	e.bytes(byte(s.Next), byte(min(s.Tries, 2)))
	e.str(string(s.Local))
	e.str(string(s.Remote))
	e.bools(s.Clean, s.Fenced, s.Acked, s.Contested, s.GrantedAt == 0)
}

func (e *encoder) sourceRecord(r negotiate.SourceRecord) {
	e.bytes(byte(r.Attempt))
	e.str(string(r.To))
	e.str(string(r.Lease))
	e.str(string(r.State))
	e.bools(r.Discard, r.Resume, r.Closed)
}

func (e *encoder) destRecord(r negotiate.DestRecord) {
	e.bytes(byte(r.Attempt), byte(min(r.Restarts, 1)), byte(r.Counter))
	e.str(string(r.Lease))
	e.str(string(r.State))
	e.str(string(r.Source))
	e.bools(r.Aborted)
}

func (e *encoder) message(m negotiate.Message) {
	e.str(string(m.Kind))
	e.bytes(byte(m.Attempt))
	e.str(string(m.Lease))
	e.str(string(m.Copy))
	e.str(string(m.Record))
	if m.Refusal != nil {
		e.str(string(m.Refusal.Kind))
	}
	e.bools(m.NeverRan)
}

// input encodes an event on its way to an agent. An answer to a source is fresh
// or it is not.
func (e *encoder) input(host *Host, in Input, rank func(uint64) byte) {
	s := host.Sources[in.VM]
	switch ev := in.Source.(type) {
	case negotiate.LocalState:
		e.str("l" + string(ev.State))
		e.bools(ev.Query == s.Query)
	case negotiate.MigrationStillRunning:
		e.str("r")
		e.bools(ev.Query == s.Query)
	case negotiate.Stamped:
		e.str("s" + ev.Err + string(ev.Lease))
		e.bytes(byte(ev.Attempt))
	case negotiate.MigrationDone:
		e.str("d")
		e.bools(ev.Err == "")
	}
	e.bytes(byte(in.VM), rank(destQuery(in.Destination)))
	switch ev := in.Destination.(type) {
	case negotiate.CopyAppeared:
		e.str("a" + string(ev.State) + string(ev.Lease))
		e.bytes(byte(ev.Attempt))
	case negotiate.CopyGone:
		e.str("g")
	case negotiate.CopyLost:
		e.str("o")
	case negotiate.ActFailed:
		e.str("f")
	}
}
