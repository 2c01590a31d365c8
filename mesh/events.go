package mesh

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hashicorp/serf/serf"
)

// drain takes Serf's events, and calls nothing of Serf: a blocked channel would
// block Serf with its locks held.
func (m *Mesh) drain(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case ev := <-m.events:
			switch e := ev.(type) {
			case serf.MemberEvent:
				m.memberEvent(e)
			case serf.UserEvent:
				m.userEvent(e.Name, e.Payload)
			}
		case <-m.serf.ShutdownCh():
			if !m.isClosed() {
				m.log.Error("gossip has shut itself down: does another host have the same machine id?")
				m.tell(Event{Kind: "mesh-down", Host: m.cfg.ID, Text: "gossip has shut itself down: does another host have the same machine id?"})
			}
			return
		}
	}
}

func (m *Mesh) isClosed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closed
}

func (m *Mesh) memberEvent(e serf.MemberEvent) {
	now := time.Now()
	m.mu.Lock()
	if e.Type != serf.EventMemberUpdate {
		for range e.Members {
			m.changes = append(m.changes, now)
		}
		if n := len(m.changes) - maxPeers; n > 0 {
			m.changes = m.changes[n:]
		}
	}
	if e.Type == serf.EventMemberReap {
		for _, s := range e.Members {
			delete(m.digests, HostID(s.Name))
		}
	}
	m.mu.Unlock()
	for _, s := range e.Members {
		m.tell(Event{Kind: e.Type.String(), Host: HostID(s.Name), Text: decodeTags(s.Tags).Name + " " + s.Addr.String()})
	}
}

// userEvent reads a digest or a news. Whatever is wrong with it is counted, and
// it is ignored.
func (m *Mesh) userEvent(name string, payload []byte) {
	switch name {
	case eventDigest:
		from, d, err := decodeDigest(payload)
		if err != nil {
			m.counts.add("digest_malformed")
			return
		}
		m.hear(from, d)
	case eventNews:
		n, err := decodeNews(payload)
		if err != nil {
			m.counts.add("news_malformed")
			return
		}
		m.tell(Event{Kind: "news", Host: n.Host, Text: n.Kind + " " + n.Detail, News: &n})
	default:
		m.counts.add("event_unknown")
	}
}

// hear keeps the newest digest of each host.
func (m *Mesh) hear(from HostID, d Digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, known := m.digests[from]
	if known && d.Seq <= old.digest.Seq || !known && len(m.digests) >= maxPeers {
		return
	}
	m.digests[from] = heard{d, time.Now()}
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

// Subscribe returns the events from now on and the function that ends it. The
// channel is closed when the mesh closes.
func (m *Mesh) Subscribe(buffer int) (<-chan Event, func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := m.nextSub
	m.nextSub++
	ch := make(chan Event, buffer)
	m.subs[id] = ch
	return ch, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.subs, id)
	}
}

// Announce tells every host a news.
func (m *Mesh) Announce(n News) error {
	n.Host = m.cfg.ID
	b, err := n.encode()
	if err != nil {
		return err
	}
	if err := m.serf.UserEvent(eventNews, b, false); err != nil {
		return fmt.Errorf("announce %s: %w", n.Kind, err)
	}
	return nil
}

// PublishDigest gossips d if it tells enough new, or the last one is half way
// through its life, and the budget allows it; sent says whether it was.
func (m *Mesh) PublishDigest(d Digest) (sent bool, err error) {
	if m.isClosed() {
		return false, ErrClosed
	}
	members := m.serf.NumNodes()
	now := time.Now()
	m.mu.Lock()
	age := now.Sub(m.sentAt)
	due := m.sentAt.IsZero() || age >= d.ValidFor/2
	if !due && !m.sent.differs(d) {
		m.mu.Unlock()
		return false, nil
	}
	if !m.sentAt.IsZero() && age < minInterval(members) {
		m.nHeld++
		m.mu.Unlock()
		return false, nil
	}
	m.seq++
	d.Seq = m.seq
	b, err := encodeDigest(m.cfg.ID, d)
	if err != nil {
		m.mu.Unlock()
		return false, err
	}
	m.sent, m.sentAt = d, now
	m.nSent++
	m.mu.Unlock()
	if err := m.serf.UserEvent(eventDigest, b, false); err != nil {
		return false, errors.Join(errors.New("publish digest"), err)
	}
	return true, nil
}

// Stats is what the mesh did and refused so far.
func (m *Mesh) Stats() Stats {
	members := m.serf.NumNodes()
	s := Stats{Refused: m.counts.copy(), BudgetPerSecond: Budget(maxDigest, members), MinInterval: minInterval(members)}
	for _, queue := range []string{"event_queue", "intent_queue", "query_queue"} {
		if n, err := strconv.Atoi(m.serf.Stats()[queue]); err == nil {
			s.QueueDepth += n
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.DigestsSent, s.DigestsHeld, s.DroppedEvents = m.nSent, m.nHeld, m.dropped
	return s
}
