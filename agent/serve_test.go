package agent

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"headroom/agent/api"
	"headroom/agent/history"
)

func TestDemandAddsUsedAndWaited(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0).UTC() }
	used := []history.Point{{At: at(10), Mean: 1}, {At: at(20), Mean: 2}, {At: at(40), Mean: 4}}
	waited := []history.Point{{At: at(0), Mean: 9}, {At: at(20), Mean: 0.5}, {At: at(30), Mean: 9}, {At: at(40), Mean: 0.25}}
	got := demand(used, waited)
	if diff := cmp.Diff([]api.HistoryPoint{{At: at(20), Cores: 2.5}, {At: at(40), Cores: 4.25}}, got); diff != "" {
		t.Errorf("demand (-want +got):\n%s", diff)
	}
	if got := usualStep(got, time.Second); got != 20*time.Second {
		t.Errorf("step of points 20 s apart: %v", got)
	}
	if got := usualStep(nil, time.Second); got != time.Second {
		t.Errorf("step of no points: %v, want what was asked for", got)
	}
}
