package mesh

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"
)

const (
	// digestShare is the part of the budget that all hosts' digests may use
	// together.
	digestShare = 0.25
	// minPublish is the shortest time between two digests of a small cluster.
	minPublish = time.Second
	// maxQueue is the number of waiting gossip messages above which no digest is
	// added: a long queue makes everything late.
	maxQueue = 128
	// newsBurst and newsEvery bound what one host tells: bursts of 16, in the
	// long run one news each 2 s.
	newsBurst = 16
	newsEvery = 2 * time.Second
)

// Budget is how many user events of so many bytes the gossip of n hosts carries
// per second, for the whole cluster: each host sends 15 packets of 1390 bytes a
// second and repeats each event 4*ceil(log10(n+1)) times; an event needs 35 bytes
// beside its payload. With real Serf, 50 hosts carried 5 events of 400 bytes per
// second clean, and queued 1192 at 10.
func Budget(payload, n int) float64 {
	repeats := 4 * math.Ceil(math.Log10(float64(max(1, n)+1)))
	return 15 * math.Floor(1390/float64(payload+35)) / repeats
}

// minInterval is how long a host of n waits between two digests.
func minInterval(n int) time.Duration {
	perHost := Budget(maxDigest, n) * digestShare / float64(max(1, n))
	return max(minPublish, time.Duration(float64(time.Second)/perHost))
}

// lifeIntervals is how many of its host's intervals a digest lives at least: the
// next may be lost, and is late by up to a quarter.
const lifeIntervals = 3

// DigestLife is how long a digest may be used in a cluster of n hosts: as
// configured, or longer where the budget lets a host tell too rarely for that. A
// thousand hosts tell every 305 s.
func DigestLife(configured time.Duration, n int) time.Duration {
	return max(configured, min(maxValid, lifeIntervals*minInterval(n)))
}

// publisher is what this host last told; mu is held while it tells.
type publisher struct {
	mu     sync.Mutex
	digest Digest    // last published; guarded by mu
	at     time.Time // when; zero = never; guarded by mu
	// extra is added to the interval after at: hosts that started together must
	// not stay in step. 200 of them did, and their queues went to 197 messages.
	extra time.Duration // guarded by mu
	seq   uint32        // guarded by mu

	sent, held         uint64    // digests; guarded by mu
	newsSent, newsHeld uint64    // guarded by mu
	tokens             float64   // of news; guarded by mu
	refilled           time.Time // guarded by mu
}

// newPublisher starts with a sequence above that of an earlier run, so that peers
// do not take its digests for old ones.
func newPublisher(now time.Time) *publisher {
	return &publisher{seq: uint32(now.Unix()), tokens: newsBurst, refilled: now}
}

// PublishDigest gossips d if it tells enough new, or the last one is half way
// through its life, and the budget allows it; sent says whether it was. Where the
// budget is small, d lives longer than it says (DigestLife). It is cheap: call it
// with every new state.
func (m *Mesh) PublishDigest(d Digest) (sent bool, err error) {
	if err := m.usable(); err != nil {
		return false, err
	}
	members := m.serf.NumNodes()
	wait := minInterval(members)
	d.ValidFor = DigestLife(d.ValidFor, members)
	now := time.Now()
	p := m.pub
	p.mu.Lock()
	defer p.mu.Unlock()
	first, age := p.at.IsZero(), now.Sub(p.at)
	if !first && age < d.ValidFor/2 && !p.digest.differs(d) {
		return false, nil
	}
	if !first && age < wait+p.extra || m.queued("event_queue") > maxQueue {
		p.held++
		return false, nil
	}
	d.Seq = p.seq + 1
	b, err := encodeDigest(m.cfg.ID, d)
	if err != nil {
		return false, err
	}
	if err := m.serf.UserEvent(eventDigest, b, false); err != nil {
		return false, fmt.Errorf("publish digest: %w", err)
	}
	p.seq, p.digest, p.at, p.extra = d.Seq, d, now, rand.N(wait/4)
	p.sent++
	return true, nil
}

// Announce tells every host a news. Its Detail is shortened to what fits into a
// packet. It fails with ErrBusy when this host has told too much lately.
func (m *Mesh) Announce(n News) error {
	if err := m.usable(); err != nil {
		return err
	}
	n.Host = m.cfg.ID
	b, err := n.encode()
	if err != nil {
		return err
	}
	if !m.pub.takeNews(time.Now()) {
		return fmt.Errorf("announce %s: %w: at most %d, then one each %v", n.Kind, ErrBusy, newsBurst, newsEvery)
	}
	if err := m.serf.UserEvent(eventNews, b, false); err != nil {
		return fmt.Errorf("announce %s: %w", n.Kind, err)
	}
	return nil
}

// takeNews is a token bucket.
func (p *publisher) takeNews(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tokens = min(newsBurst, p.tokens+float64(now.Sub(p.refilled))/float64(newsEvery))
	p.refilled = now
	if p.tokens < 1 {
		p.newsHeld++
		return false
	}
	p.tokens--
	p.newsSent++
	return true
}

// queued reads the depth of some of Serf's queues.
func (m *Mesh) queued(queues ...string) int {
	stats := m.serf.Stats()
	sum := 0
	for _, q := range queues {
		if n, err := strconv.Atoi(stats[q]); err == nil {
			sum += n
		}
	}
	return sum
}

// Stats is what the mesh did and refused so far.
func (m *Mesh) Stats() Stats {
	members := m.serf.NumNodes()
	s := Stats{
		BudgetPerSecond: Budget(maxDigest, members), MinInterval: minInterval(members),
		QueueDepth: m.queued("event_queue", "intent_queue", "query_queue"),
	}
	s.Refused, s.RefusedFrom = m.counts.copy()
	cert, _ := m.identity.current()
	s.CertificateExpires = cert.Leaf.NotAfter
	m.pub.mu.Lock()
	s.DigestsSent, s.DigestsHeld, s.NewsSent, s.NewsHeld = m.pub.sent, m.pub.held, m.pub.newsSent, m.pub.newsHeld
	m.pub.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	s.DroppedEvents = m.dropped
	if m.joinErr != nil {
		s.JoinError = m.joinErr.Error()
	}
	return s
}
