package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"headroom/mesh"
	"headroom/planner"
)

// Kinds of news about the whole cluster.
const (
	newsPaused  = "paused"
	newsResumed = "resumed"
)

// methodPause tells one's own order and asks for the peer's: pauseOrder -> pauseOrder.
const methodPause = "pause"

// answerPause takes up a peer's order if it is newer, and answers with the one
// that stands here. The peer is authenticated by its certificate.
func (a *Agent) answerPause(_ context.Context, _ mesh.HostID, body []byte) ([]byte, error) {
	var p pauseOrder
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, fmt.Errorf("order not understood: %w", err)
	}
	now, err := a.takePause(p)
	if err != nil {
		return nil, err
	}
	return json.Marshal(now)
}

// takePause merges an order and tells the followers of a change.
func (a *Agent) takePause(p pauseOrder) (pauseOrder, error) {
	now, changed, err := a.standing.merge(p)
	if err != nil {
		return now, err
	}
	if changed {
		a.tellPause(now)
	}
	return now, nil
}

func (a *Agent) tellPause(p pauseOrder) {
	kind := newsResumed
	if p.Paused {
		kind = newsPaused
	}
	text := fmt.Sprintf("moves are %s on the word of %s", kind, a.hostName(p.Host))
	if p.Reason != "" {
		text += ": " + p.Reason
	}
	a.log.Info(text, "version", p.Version)
	a.event(kind, a.hostName(p.Host), "", text)
}

// announcePause gossips an order that was given here. Announcing waits for Serf.
func (a *Agent) announcePause(p pauseOrder) {
	if a.o.Mesh == nil {
		return
	}
	n := mesh.News{Kind: newsResumed, Version: p.Version, Detail: p.Reason}
	if p.Paused {
		n.Kind = newsPaused
	}
	a.wg.Go(func() {
		if err := a.o.Mesh.Announce(n); err != nil {
			a.log.Warn("news not told; the peers learn it by this host's tags", "kind", n.Kind, "err", err)
		}
	})
}

// hearPause takes a hint of gossip about a peer's order. A pause stops new moves
// at once; what the order is, and that moves may begin again, only the peer's own
// answer says.
func (a *Agent) hearPause(ctx context.Context, host planner.HostID, version uint64, paused bool) {
	if host == a.o.ID || !a.standing.hear(host, version, paused) {
		return
	}
	select {
	case a.pausing <- struct{}{}:
	default:
		return // one is being asked; the next round asks again
	}
	a.wg.Go(func() {
		defer func() { <-a.pausing }()
		if err := a.askPause(ctx, host); err != nil {
			a.log.Warn("a peer's order to pause or resume is not known yet", "peer", a.hostName(host), "err", err)
		}
	})
}

// askPause exchanges orders with one peer; both end with the newer one.
func (a *Agent) askPause(ctx context.Context, host planner.HostID) error {
	body, err := json.Marshal(a.standing.pause())
	if err != nil {
		return fmt.Errorf("encode order: %w", err)
	}
	answer, err := a.call(ctx, host, methodPause, body)
	if err != nil {
		return err
	}
	var p pauseOrder
	if err := json.Unmarshal(answer, &p); err != nil {
		return fmt.Errorf("order not understood: %w", err)
	}
	_, err = a.takePause(p)
	return err
}

// comparePauses looks in the tags for a peer that knows of a newer order: that is
// how an agent learns it that was not there when it was given.
func (l *loop) comparePauses(ctx context.Context) {
	for _, m := range l.a.members() {
		if m.Status == mesh.StatusAlive && m.Tags.PauseVersion > 0 {
			l.a.hearPause(ctx, planner.HostID(m.ID), m.Tags.PauseVersion, m.Tags.Paused)
		}
	}
}

// aware counts the live hosts, and those that tell of an order at least as new
// as this host's.
func (a *Agent) aware() (hosts, know int) {
	own := a.standing.pause().Version
	for _, m := range a.members() {
		if m.Status != mesh.StatusAlive {
			continue
		}
		hosts++
		if m.Tags.PauseVersion >= own || planner.HostID(m.ID) == a.o.ID {
			know++
		}
	}
	return max(1, hosts), max(1, know)
}

// held says why no move may begin now, or "".
func (a *Agent) held() string { return a.standing.held(time.Now(), a.hostName) }
