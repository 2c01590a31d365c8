package agent

import (
	"context"
	"fmt"
	"time"

	"headroom/agent/api"
	"headroom/agent/handover"
	"headroom/mesh"
	"headroom/planner"
	"headroom/planner/negotiate"
)

// Kinds of news that travel to every host.
const (
	newsStarted = "migration-started"
	newsDone    = "migration-done"
	newsFailed  = "migration-failed"
)

// pumpMesh hands the cluster's events to the event stream.
func (a *Agent) pumpMesh(ctx context.Context) error {
	events, end := a.o.Mesh.Subscribe(1024)
	defer end()
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev, open := <-events:
			if !open {
				return fmt.Errorf("the mesh ended")
			}
			a.meshEvent(ctx, ev)
		}
	}
}

func (a *Agent) meshEvent(ctx context.Context, ev mesh.Event) {
	out := api.Event{At: ev.At.UTC(), Kind: ev.Kind, Host: a.hostName(planner.HostID(ev.Host)), Text: ev.Text}
	if n := ev.News; n != nil {
		out.VM, out.Kind, out.Detail = n.VM, n.Kind, n
		if n.Kind == newsPaused || n.Kind == newsResumed { // told to the followers once it is confirmed
			a.hearPause(ctx, planner.HostID(n.Host), n.Version, n.Kind == newsPaused)
			return
		}
		out.Text = fmt.Sprintf("%s: %s -> %s", n.Detail, n.From, n.To)
		a.heardNews(*n)
	}
	a.hub.publish(out)
}

// handoverUpdate is told of each change of a hand-over, by the desk.
func (a *Agent) handoverUpdate(u handover.Update) {
	v := a.view.Load()
	name := v.names[string(u.VM)]
	if name == "" {
		if n, ok := a.needs.probed(planner.VMID(u.VM), planner.HostID(u.Peer), time.Now()); ok {
			name = n.Name
		}
	}
	if u.Alarm != "" {
		a.event("alarm", a.o.Name, string(u.VM), u.Alarm)
		return
	}
	m, _ := a.moves.update(u, a.o.Name, a.hostName, name)
	a.event("handover", a.o.Name, string(u.VM), fmt.Sprintf("%s: attempt %d %s -> %s: %s as %s %s", m.VMName, m.Attempt, m.From, m.To, u.State, u.Role, u.Reason))
	if u.Role != handover.RoleSource {
		a.lookAgain()
		return
	}
	a.tellNews(u, m)
	select {
	case a.finished <- u:
	default:
		a.log.Warn("the loop is behind: an ended hand-over is not learned from", "vm", u.VM)
	}
}

// tellNews gossips the start and the end of a migration.
func (a *Agent) tellNews(u handover.Update, m move) {
	n := mesh.News{VM: m.VM, From: m.From, To: m.To, Attempt: m.Attempt, Detail: m.VMName}
	switch {
	case u.Done != nil && u.Done.Outcome == negotiate.OutcomeMoved:
		n.Kind = newsDone
	case u.Done != nil && u.Done.Outcome != negotiate.OutcomeRefused:
		n.Kind = newsFailed
	case u.State == string(negotiate.SourceMigrating) && u.Done == nil:
		n.Kind = newsStarted
	default:
		return
	}
	if a.o.Mesh == nil { // a move that was under way before this host was set apart
		return
	}
	// Announcing waits for Serf; the desk must not.
	a.wg.Go(func() {
		if err := a.o.Mesh.Announce(n); err != nil {
			a.log.Warn("news not told", "kind", n.Kind, "err", err)
		}
	})
}

// heardNews counts the cluster's finished moves, for the freeze.
func (a *Agent) heardNews(n mesh.News) {
	switch n.Kind {
	case newsDone:
		a.heard.add(time.Now(), true)
	case newsFailed:
		a.heard.add(time.Now(), false)
	}
}
