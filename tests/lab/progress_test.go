package lab

import (
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"headroom/tests/lab/demand"
	"headroom/tests/lab/wire"
)

func TestSummarize(t *testing.T) {
	began := time.Unix(1000, 0)
	vm := VM{Name: "a", Started: began}
	script := demand.MustParse("constant:0.5")
	for _, c := range []struct {
		name         string
		last         wire.Report
		at, now      time.Duration // since the script's start
		live         bool
		demand, lost float64
	}{
		{"all is done", wire.Report{Elapsed: 10 * time.Second, Demanded: 5, Done: 5}, 10 * time.Second, 10500 * time.Millisecond, true, 5, 0},
		{"what waits is not lost", wire.Report{Elapsed: 10 * time.Second, Demanded: 5, Done: 4, Lost: 0.6}, 10 * time.Second, 10 * time.Second, true, 5, 0.6},
		{"a pause that the guest did not see", wire.Report{Elapsed: 8 * time.Second, Demanded: 4, Done: 3, Lost: 1}, 10 * time.Second, 10 * time.Second, true, 5, 2},
		{"a guest that is silent loses all but the last second", wire.Report{Elapsed: 10 * time.Second, Demanded: 5, Done: 5}, 10 * time.Second, 20 * time.Second, false, 10, 4.5},
		{"a guest whose clock runs fast loses nothing", wire.Report{Elapsed: 11 * time.Second, Demanded: 5.5, Done: 5.5}, 10 * time.Second, 10 * time.Second, true, 5, 0},
	} {
		p := summarize(vm, script, c.last, began.Add(c.at), began.Add(c.now))
		if p.Live != c.live || math.Abs(p.WallDemanded-c.demand) > 1e-6 || math.Abs(p.WallLost-c.lost) > 1e-6 {
			t.Errorf("%s: live %t, demanded %.3f, lost %.3f by the wall, want %t, %.3f, %.3f",
				c.name, p.Live, p.WallDemanded, p.WallLost, c.live, c.demand, c.lost)
		}
	}
}

// A VM that went to another host and came back has written to two consoles.
func TestConsolesOfSeveralHostsAreMerged(t *testing.T) {
	root := t.TempDir()
	l := &Lab{state: state{Name: "x", Hosts: 2}}
	for i := range 2 {
		h := newHost(l, i)
		h.dir = filepath.Join(root, h.name)
		l.hosts = append(l.hosts, h)
	}
	line := func(seq uint64) string {
		return wire.Report{Seq: seq, Elapsed: time.Duration(seq) * time.Second}.String()
	}
	write := func(h *Host, text string, at time.Time) {
		t.Helper()
		path := h.Outside(consoleFile("a"))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	early, late := time.Unix(2000, 0), time.Unix(3000, 0)
	for _, c := range []struct {
		name           string
		on0, on1       string
		at0, at1, want time.Time
		last           uint64
	}{
		{"moved", line(1) + line(2), line(3) + line(4), early, late, late, 4},
		{"came back", line(1) + line(5), line(3) + line(4), late, early, late, 5},
		{"torn by the move", line(1) + "\nlab 2 2000 0.", line(2) + "boot noise\n" + line(3), early, late, late, 3},
	} {
		write(l.hosts[0], c.on0, c.at0)
		write(l.hosts[1], c.on1, c.at1)
		all, at, err := l.readConsoles("a")
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(all); i++ {
			if all[i].Seq <= all[i-1].Seq {
				t.Errorf("%s: report %d follows %d", c.name, all[i].Seq, all[i-1].Seq)
			}
		}
		if got := all[len(all)-1].Seq; got != c.last || !at.Equal(c.want) {
			t.Errorf("%s: the last report is %d of %v, want %d of %v", c.name, got, at, c.last, c.want)
		}
	}
}

func TestIdentitiesDeriveFromNames(t *testing.T) {
	if machineID("a", "h0") == machineID("a", "h1") || machineID("a", "h0") == machineID("b", "h0") {
		t.Error("machine ids do not tell hosts apart")
	}
	if id := machineID("a", "h0"); len(id) != 32 {
		t.Errorf("machine id %q has %d digits, want 32", id, len(id))
	}
	if id := uuid(digest("x")); len(id) != 36 || id[14] != '4' {
		t.Errorf("%q is no version 4 UUID", id)
	}
	for _, name := range []string{"", "..", "a/b", "A", "-a", "a.b", "0123456789012345678901234567890x"} {
		if checkName(name) == nil {
			t.Errorf("the lab's name %q is taken", name)
		}
	}
}
