package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sort"
	"strings"
	"time"

	"headroom/tests/lab/demand"
	"headroom/tests/lab/wire"
)

// stale is the age of a guest's last report above which it counts as stopped:
// it reports each second.
const stale = 3 * time.Second

// Progress is how far a guest has got with its script. Work is in core-seconds.
type Progress struct {
	VM       string
	Reports  uint64        // lines that the guest has printed
	Elapsed  time.Duration // since the script's start, by the guest's clock
	Demanded float64       // by the guest's clock
	Done     float64
	Lost     float64 // not finished within a second of its arrival

	At   time.Time     // when the last report was written, by the machine's clock
	Wall time.Duration // since the script's start, by the machine's clock: until At, or until now when the guest has stopped reporting

	// WallDemanded and WallLost are by the machine's clock. The guest's own
	// clock stands still while it is paused, so that it never sees the work
	// that it missed then; these figures do. Work that is waiting is not lost.
	WallDemanded float64
	WallLost     float64

	Live bool // the guest has reported within the last seconds
}

// Progress reads a VM's consoles, wherever it ran, and sums up.
func (l *Lab) Progress(name string) (Progress, error) {
	vm, err := l.VM(name)
	if err != nil {
		return Progress{}, err
	}
	script, err := demand.Parse(vm.Demand)
	if err != nil {
		return Progress{}, err
	}
	reports, at, err := l.readConsoles(name)
	if err != nil {
		return Progress{}, err
	}
	if len(reports) == 0 {
		return Progress{}, fmt.Errorf("report of VM %q: %w", name, ErrNotFound)
	}
	return summarize(vm, script, reports[len(reports)-1], at, time.Now()), nil
}

// summarize sets a guest's last report, written at a time, against its script.
func summarize(vm VM, script demand.Script, last wire.Report, at, now time.Time) Progress {
	p := Progress{
		VM: vm.Name, Reports: last.Seq, Elapsed: last.Elapsed,
		Demanded: last.Demanded, Done: last.Done, Lost: last.Lost,
		At: at, Live: now.Sub(at) < stale,
	}
	var waiting float64
	if p.Live {
		p.Wall = at.Sub(vm.Started)
		p.WallDemanded = script.Work(p.Wall)
		waiting = last.Demanded - last.Done - last.Lost
	} else {
		p.Wall = now.Sub(vm.Started)
		p.WallDemanded = script.Work(p.Wall)
		waiting = p.WallDemanded - script.Work(p.Wall-wire.Deadline)
	}
	p.WallLost = max(0, p.WallDemanded-p.Done-waiting)
	return p
}

// Reports lists every report that a VM has printed, on all its hosts, in the
// order of their counter.
func (l *Lab) Reports(name string) ([]wire.Report, error) {
	if _, err := l.VM(name); err != nil {
		return nil, err
	}
	reports, _, err := l.readConsoles(name)
	return reports, err
}

// readConsoles merges a VM's consoles of all hosts; at is when the last report
// was written.
func (l *Lab) readConsoles(name string) (all []wire.Report, at time.Time, err error) {
	for _, h := range l.hosts {
		path := h.Outside(consoleFile(name))
		text, written, err := readFileTime(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, at, err
		}
		var last uint64
		if len(all) > 0 {
			last = all[len(all)-1].Seq
		}
		newest := false
		for line := range strings.Lines(text) {
			r, err := wire.ParseReport(line)
			if err != nil {
				continue // the kernel's, or torn
			}
			newest = newest || r.Seq > last
			all = append(all, r)
		}
		if newest {
			at = written
		}
		sort.SliceStable(all, func(i, j int) bool { return all[i].Seq < all[j].Seq })
	}
	return all, at, nil
}

// readFileTime reads a growing file and the time of its last write, of one
// moment.
func readFileTime(path string) (string, time.Time, error) {
	for {
		before, err := os.Stat(path)
		if err != nil {
			return "", time.Time{}, err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return "", time.Time{}, err
		}
		after, err := os.Stat(path)
		if err != nil {
			return "", time.Time{}, err
		}
		if before.ModTime().Equal(after.ModTime()) && after.Size() == int64(len(data)) {
			return string(data), after.ModTime(), nil
		}
	}
}

// awaitScript waits for a new guest's first report and returns when its script
// began, by the machine's clock.
func (l *Lab) awaitScript(ctx context.Context, name string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	for {
		reports, at, err := l.readConsoles(name)
		if err != nil {
			return time.Time{}, err
		}
		if n := len(reports); n > 0 {
			return at.Add(-reports[n-1].Elapsed), nil
		}
		select {
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("VM %s printed no report: %w: see its console %s on its host", name, ctx.Err(), consoleFile(name))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
