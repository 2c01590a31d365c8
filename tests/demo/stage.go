package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"headroom/agent/api"
)

// stage is where the story plays.
type stage interface {
	// open makes hosts and what they need; say tells what is being done.
	open(ctx context.Context, say func(string)) error
	// begin starts agents in a mode, then the guests.
	begin(ctx context.Context, mode string, say func(string)) error
	// agents are the hosts' agents, in order.
	agents() []source
	// work is what the guests have done and lost so far.
	work() ([]guestWork, error)
	// autopsy is what the hypervisors say of a guest that works no more.
	autopsy(ctx context.Context, guest string) string
	// end stops agents and guests.
	end() error
	// close removes every trace.
	close() error
	simulated() bool
}

// source is one agent's local socket, or a simulated agent itself.
type source interface {
	Status(ctx context.Context) (api.Status, error)
	VMs(ctx context.Context) ([]api.VM, error)
	Slots(ctx context.Context) ([]api.Slot, error)
	Migrations(ctx context.Context, q api.Query) ([]api.Migration, error)
	Decisions(ctx context.Context, q api.Query) ([]api.Decision, error)
	Events(ctx context.Context, fn func(api.Event) error) error
}

// guestWork is one guest's own account, in core-seconds.
type guestWork struct {
	name                 string
	demanded, done, lost float64
	works                bool // it has reported lately
}

// scene is what the screen shows at one moment.
type scene struct {
	title      string
	simulated  bool
	saying     string
	elapsed    time.Duration
	hosts      []hostScene
	lost       float64
	events     []string
	migrations []api.Migration
}

type hostScene struct {
	host   api.Host
	name   string
	silent string // why the agent does not answer
	vms    []api.VM
	slots  []api.Slot
	thinks string // the latest decision, in words
}

// director plays the tellings on a stage and reports scenes.
type director struct {
	stage stage
	show  func(scene)

	mu     sync.Mutex
	now    scene    // guarded by mu
	events []string // guarded by mu
}

const eventLines = 8

func (d *director) say(text string) {
	d.mu.Lock()
	d.now.saying = text
	s := d.now
	d.mu.Unlock()
	d.show(s)
}

// tell plays one telling and returns what it cost.
func (d *director) tell(ctx context.Context, t telling) (f figures, err error) {
	d.mu.Lock()
	d.now = scene{title: t.title, simulated: d.stage.simulated()}
	d.events = nil
	d.mu.Unlock()
	defer func() { err = errors.Join(err, d.stage.end()) }()
	if err := d.stage.begin(ctx, t.mode, d.say); err != nil {
		return f, err
	}
	waitBefore, err := d.waited(ctx)
	if err != nil {
		return f, err
	}
	if err := d.watch(ctx); err != nil {
		return f, err
	}
	work, err := d.stage.work()
	if err != nil {
		return f, err
	}
	for _, w := range work {
		f.demanded += w.demanded
		f.lost += w.lost
		if !w.works {
			f.dead = append(f.dead, fmt.Sprintf("%s works no more: %s", w.name, d.stage.autopsy(ctx, w.name)))
		}
	}
	waitAfter, err := d.waited(ctx)
	if err != nil {
		return f, err
	}
	f.contention = waitAfter - waitBefore
	return f, d.count(ctx, &f)
}

// waited is the run-queue wait of all hosts since their agents' start.
func (d *director) waited(ctx context.Context) (float64, error) {
	sum := 0.0
	for _, a := range d.stage.agents() {
		s, err := a.Status(ctx)
		if err != nil {
			return 0, err
		}
		sum += s.Host.WaitSeconds
	}
	return sum, nil
}

// watch shows the story until its time is over.
func (d *director) watch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, runTime)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for _, a := range d.stage.agents() {
		wg.Go(func() {
			// The stream ends with the story; an agent that dies shows in its scene.
			_ = a.Events(ctx, func(ev api.Event) error { d.note(ev); return nil })
		})
	}
	begun := time.Now()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		d.look(ctx, time.Since(begun))
		select {
		case <-tick.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil
			}
			return ctx.Err()
		}
	}
}

// note keeps an event for the screen. Every host hears the cluster's news; one
// line of each is enough.
func (d *director) note(ev api.Event) {
	switch ev.Kind {
	case "domain", "member-join", "member-update":
		return
	}
	line := fmt.Sprintf("%s  %s", ev.At.Local().Format("15:04:05"), strings.TrimSpace(ev.Host+" "+ev.Kind+": "+ev.Text))
	d.mu.Lock()
	defer d.mu.Unlock()
	if slices.Contains(d.events, line) {
		return
	}
	if d.events = append(d.events, line); len(d.events) > eventLines {
		d.events = d.events[1:]
	}
}

// look asks every agent and shows the scene.
func (d *director) look(ctx context.Context, elapsed time.Duration) {
	var hosts []hostScene
	var migrations []api.Migration
	for _, a := range d.stage.agents() {
		h := hostScene{}
		s, err := a.Status(ctx)
		if err == nil {
			h.host, h.name = s.Host, s.HostName
			h.vms, err = a.VMs(ctx)
		}
		if err == nil {
			h.slots, err = a.Slots(ctx)
		}
		var decisions []api.Decision
		if err == nil {
			decisions, err = a.Decisions(ctx, api.Query{Limit: 1})
		}
		for _, x := range decisions {
			h.thinks = x.Verdict + ": " + x.Reason
		}
		var list []api.Migration
		if err == nil {
			list, err = a.Migrations(ctx, api.Query{Limit: 5})
		}
		if err != nil {
			h.silent = err.Error()
		}
		for _, m := range list {
			if m.Role == "source" {
				migrations = append(migrations, m)
			}
		}
		hosts = append(hosts, h)
	}
	lost := 0.0
	if work, err := d.stage.work(); err == nil {
		for _, w := range work {
			lost += w.lost
		}
	}
	d.mu.Lock()
	d.now.hosts, d.now.migrations, d.now.elapsed, d.now.lost = hosts, migrations, elapsed, lost
	d.now.events, d.now.saying = slices.Clone(d.events), ""
	s := d.now
	d.mu.Unlock()
	d.show(s)
}

// count adds up the migrations that the sources report.
func (d *director) count(ctx context.Context, f *figures) error {
	for _, a := range d.stage.agents() {
		list, err := a.Migrations(ctx, api.Query{Limit: 100})
		if err != nil {
			return err
		}
		for _, m := range list {
			if m.Role == "source" && m.Ended != nil {
				f.add(m)
			}
		}
	}
	return nil
}

// add counts one ended attempt. Of several moves copy time and blackout are the
// longest ones; the lead is that of the first move before which contention was
// more likely than not within the horizon. A move that comes earlier still, on the
// forecast's upper quantile alone, has no predicted start to be measured against.
func (f *figures) add(m api.Migration) {
	if m.Outcome != "moved" {
		if m.Outcome != "refused" {
			f.failed++
		}
		return
	}
	f.migrations++
	text := m.VMName + " to " + m.To
	if m.LeadS != nil {
		text += fmt.Sprintf(", lead %.1f s", *m.LeadS)
	}
	f.moved = strings.TrimSuffix(text+"; "+f.moved, "; ")
	if m.CopyS != nil {
		f.copyS = max(f.copyS, *m.CopyS)
	}
	if m.BlackoutMS != nil {
		f.blackoutMS = max(f.blackoutMS, *m.BlackoutMS)
	}
	if m.LeadS != nil && (f.firstMove.IsZero() || m.Started.Before(f.firstMove)) {
		f.firstMove, f.leadS = m.Started, m.LeadS
	}
}
