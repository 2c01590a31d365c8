package agent

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"headroom/mesh"
	"headroom/planner"
)

// TestPoolsTravelInATag: peers see the pools in any order as the same tag, and
// what cannot be told is left out rather than told wrongly.
func TestPoolsTravelInATag(t *testing.T) {
	long := strings.Repeat("p", maxPoolsTag+1)
	for name, c := range map[string]struct{ pools, want []string }{
		"none":           {nil, nil},
		"sorted":         {[]string{"ssd", "ceph"}, []string{"ceph", "ssd"}},
		"too long":       {[]string{long}, nil},
		"comma in names": {[]string{"a,b", "c"}, nil},
	} {
		h := planner.Host{CPUModel: "x86_64/EPYC", Pools: c.pools, Draining: true}
		tags := hostTags(h, "z1")
		if tags.CPUModel != h.CPUModel || tags.Zone != "z1" || !tags.Draining {
			t.Errorf("%s: %+v", name, tags)
		}
		if d := cmp.Diff(c.want, poolsOf(tags)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	if got := poolsOf(mesh.Tags{}); got != nil {
		t.Errorf("a peer that tells nothing: %q", got)
	}
}
