package mesh

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/serf/serf"
)

const (
	// churnShare of the members changing within churnWindow makes a view
	// unstable.
	churnShare  = 0.1
	churnWindow = time.Minute
	// coordinatesAfter is how long coordinates need to settle.
	coordinatesAfter = 5 * time.Minute
)

// change is one member's coming or going.
type change struct {
	host HostID
	at   time.Time
}

// Members are the hosts of the cluster, this one included, ordered by id. Those
// that failed or left stay for a day.
func (m *Mesh) Members() []Member {
	list := m.serf.Members()
	out := make([]Member, 0, len(list))
	now := time.Now()
	for _, s := range list {
		n := Member{ID: HostID(s.Name), Addr: net.JoinHostPort(s.Addr.String(), strconv.Itoa(int(s.Port))),
			Status: statusOf(s.Status), Tags: decodeTags(s.Tags)}
		n.Name = n.Tags.Name
		n.RTT, n.RTTKnown = m.rtt(n.ID, now)
		out = append(out, n)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range out {
		n := &out[i]
		if h, ok := m.digests[n.ID]; ok && h.valid(now) {
			n.Digest, n.HasDigest, n.DigestAge = h.digest, true, now.Sub(h.at)
		}
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return out
}

func statusOf(s serf.MemberStatus) Status {
	switch s {
	case serf.StatusAlive:
		return StatusAlive
	case serf.StatusLeaving:
		return StatusLeaving
	case serf.StatusLeft:
		return StatusLeft
	}
	return StatusFailed
}

// rtt is the estimated round trip, once the coordinates of both ends have had
// time to settle.
func (m *Mesh) rtt(peer HostID, now time.Time) (time.Duration, bool) {
	after := m.cfg.CoordinatesAfter
	if after == 0 {
		after = coordinatesAfter
	}
	m.mu.Lock()
	since, alive := m.joined[peer]
	m.mu.Unlock()
	if peer == m.cfg.ID || !alive || now.Sub(since) < after || now.Sub(m.started) < after {
		return 0, false
	}
	here, err := m.serf.GetCoordinate()
	if err != nil {
		return 0, false
	}
	there, ok := m.serf.GetCachedCoordinate(string(peer))
	if !ok {
		return 0, false
	}
	return here.DistanceTo(there), true
}

// Stable says whether membership has held still long enough to plan on, and why
// not: no member came or went for ViewStable; and at most a tenth of the members
// did within the last minute, which matters where ViewStable is shorter than
// that (the window is three times ViewStable, a minute at most).
func (m *Mesh) Stable() (bool, string) {
	if err := m.usable(); err != nil {
		return false, err.Error()
	}
	members := m.serf.NumNodes()
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.joinErr != nil {
		return false, "not joined: " + m.joinErr.Error()
	}
	if quiet := now.Sub(m.changed); quiet < m.cfg.ViewStable {
		return false, fmt.Sprintf("membership changed %.0f s ago, %v without change are needed", quiet.Seconds(), m.cfg.ViewStable)
	}
	window := min(churnWindow, 3*m.cfg.ViewStable)
	if n := m.churn(now, window); float64(n) > churnShare*float64(members) {
		return false, fmt.Sprintf("%d of %d members came or went within %v", n, members, window)
	}
	return true, ""
}

// churn counts the members that came or went within the window; mu is held.
func (m *Mesh) churn(now time.Time, window time.Duration) int {
	hosts := map[HostID]bool{}
	for _, c := range m.changes {
		if now.Sub(c.at) < window {
			hosts[c.host] = true
		}
	}
	return len(hosts)
}

// HealthScore is memberlist's doubt in this host's own responsiveness, 0..7; 0 is
// well.
func (m *Mesh) HealthScore() int { return m.serf.Memberlist().GetHealthScore() }
