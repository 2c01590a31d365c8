package mesh

import (
	"errors"
	"time"

	"github.com/hashicorp/serf/serf"
)

const downText = "gossip has shut itself down: does another host have the same machine-id?"

// heard is a digest and when it came, on this host's monotonic clock.
type heard struct {
	digest Digest
	at     time.Time
	// stale is set when the member came or went since: another run of the agent
	// may count from a lower sequence, if its clock was set back.
	stale bool
}

func (h heard) valid(now time.Time) bool { return now.Sub(h.at) <= h.digest.ValidFor }

// drain takes Serf's events until Serf is gone, and calls nothing of Serf that
// could wait: a blocked channel would block Serf with its locks held, or, with a
// snapshot, lose events.
func (m *Mesh) drain() {
	for {
		select {
		case ev := <-m.events:
			if len(m.events) == cap(m.events)-1 {
				m.counts.refuse("event_backlog", "", "events from gossip may be lost")
			}
			switch e := ev.(type) {
			case serf.MemberEvent:
				m.memberEvent(e)
			case serf.UserEvent:
				m.userEvent(e.Name, e.Payload)
			}
		case <-m.serf.ShutdownCh():
			if m.run.Err() == nil {
				m.log.Error(downText)
				m.tell(Event{Kind: EventDown, Host: m.cfg.ID, Name: m.cfg.Name, Text: downText})
			}
			return
		}
	}
}

func (m *Mesh) memberEvent(e serf.MemberEvent) {
	now := time.Now()
	m.mu.Lock()
	for _, s := range e.Members {
		m.noteMember(e.Type, HostID(s.Name), now)
		m.names[HostID(s.Name)] = decodeTags(s.Tags).Name
	}
	m.mu.Unlock()
	for _, s := range e.Members {
		m.tell(Event{Kind: e.Type.String(), Host: HostID(s.Name), Name: decodeTags(s.Tags).Name, Text: s.Addr.String()})
	}
	if e.Type == serf.EventMemberReap {
		m.mu.Lock()
		for _, s := range e.Members {
			delete(m.names, HostID(s.Name))
		}
		m.mu.Unlock()
	}
}

// noteMember keeps what Stable, digests and round trips need; mu is held. That
// new tags arrive, or a member is forgotten that left a day ago, is no change of
// membership.
func (m *Mesh) noteMember(kind serf.EventType, id HostID, now time.Time) {
	switch kind {
	case serf.EventMemberUpdate:
		return
	case serf.EventMemberReap:
		delete(m.digests, id)
		delete(m.joined, id)
		return
	case serf.EventMemberJoin:
		m.joined[id] = now
	default:
		delete(m.joined, id)
	}
	m.changed = now
	m.changes = append(m.changes, change{id, now})
	for len(m.changes) > maxPeers || now.Sub(m.changes[0].at) > churnWindow {
		m.changes = m.changes[1:]
	}
	if h, ok := m.digests[id]; ok {
		h.stale = true
		m.digests[id] = h
	}
}

// userEvent reads a digest or a news. Whatever is wrong with it is counted, and
// it is ignored.
func (m *Mesh) userEvent(name string, payload []byte) {
	switch name {
	case eventDigest:
		from, d, err := decodeDigest(payload)
		switch {
		case errors.Is(err, errDigestVersion):
			m.counts.refuse("digest_version", "", err)
		case err != nil:
			m.counts.refuse("digest_malformed", "", err)
		default:
			m.hear(from, d)
		}
	case eventNews:
		n, err := decodeNews(payload)
		if err != nil {
			m.counts.refuse("news_malformed", "", err)
			return
		}
		m.mu.Lock()
		shown := m.names[n.Host]
		m.mu.Unlock()
		m.tell(Event{Kind: EventNews, Host: n.Host, Name: shown, Text: n.Kind + " " + n.Detail, News: &n})
	default:
		m.counts.refuse("event_unknown", "", printable(cut(name, 64)))
	}
}

// hear keeps the newest digest of each host. An older one that was delivered late
// or again changes nothing, as long as the newer one is valid and of the same run
// of its agent.
func (m *Mesh) hear(from HostID, d Digest) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	old, known := m.digests[from]
	if known && d.Seq <= old.digest.Seq && old.valid(now) && !old.stale {
		return
	}
	if !known && len(m.digests) >= maxPeers {
		for id, h := range m.digests {
			if !h.valid(now) {
				delete(m.digests, id)
			}
		}
		if len(m.digests) >= maxPeers {
			m.counts.refuse("digest_overflow", "", string(from))
			return
		}
	}
	m.digests[from] = heard{digest: d, at: now}
}

// tell hands an event to the subscribers; a slow one loses it, and it is counted.
func (m *Mesh) tell(ev Event) {
	ev.At = time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, ch := range m.subs {
		select {
		case ch <- ev:
		default:
			m.dropped++
		}
	}
}

// Subscribe returns the events from now on, of which the channel holds at most
// buffer (at least one), and the function that ends it. The channel is closed
// when the mesh closes.
func (m *Mesh) Subscribe(buffer int) (<-chan Event, func()) {
	ch := make(chan Event, max(1, buffer))
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.subs == nil {
		close(ch)
		return ch, func() {}
	}
	id := m.nextSub
	m.nextSub++
	m.subs[id] = ch
	return ch, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.subs, id)
	}
}
