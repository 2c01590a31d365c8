package agent

import (
	"slices"
	"strings"

	"headroom/mesh"
	"headroom/planner"
)

// maxPoolsTag bounds the list of pools in a tag, in bytes: all tags of a host share
// Serf's 512.
const maxPoolsTag = 160

// hostTags are the slow-changing facts for which peers leave this host out without
// asking it. A list of pools that does not fit, or a name that would break it up,
// is left out: the probe then finds out.
func hostTags(h planner.Host, zone string) mesh.Tags {
	t := mesh.Tags{Zone: zone, CPUModel: h.CPUModel, Draining: h.Draining}
	pools := slices.Sorted(slices.Values(h.Pools))
	list := strings.Join(pools, ",")
	if len(list) <= maxPoolsTag && strings.Count(list, ",") == max(0, len(pools)-1) {
		t.Pools = list
	}
	return t
}

// poolsOf reads the list that hostTags wrote.
func poolsOf(t mesh.Tags) []string {
	if t.Pools == "" {
		return nil
	}
	return strings.Split(t.Pools, ",")
}

// advertise tells the peers this host's tags when they have changed. Telling waits
// for Serf, which the loop must not: it is done beside it, one at a time, and a
// change meanwhile is told in the next round.
func (l *loop) advertise(h planner.Host) {
	tags := hostTags(h, l.a.cfg.Mesh.Zone)
	p := l.a.standing.pause()
	tags.PauseVersion, tags.Paused = p.Version, p.Paused
	if !l.known || tags == l.tags {
		return
	}
	select {
	case l.a.tagging <- struct{}{}:
	default:
		return
	}
	l.tags = tags
	l.a.wg.Go(func() {
		defer func() { <-l.a.tagging }()
		if err := l.a.o.Mesh.SetTags(tags); err != nil {
			l.a.log.Warn("peers are not told of this host's CPU model, pools, zone and orders", "err", err)
		}
	})
}
