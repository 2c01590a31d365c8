package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"time"

	"golang.org/x/sync/errgroup"

	"headroom/tests/lab/image"
)

// ErrExists is returned by Up when a lab of that name is there already;
// ErrNotFound when a lab, host or VM is not.
var (
	ErrExists   = errors.New("lab exists already: use another name, or take it down first")
	ErrNotFound = errors.New("not found in the lab")
)

// Options says what Up makes.
type Options struct {
	Name  string  // default DefaultName
	Hosts int     // 1 to MaxHosts
	Quota float64 // cores that each host's VMs may use together; 0 = no bound
	Rate  float64 // iterations per core-second; 0 = measure now
}

// Lab is a running lab. Its methods may be called from several goroutines and
// processes; all state is on disk.
type Lab struct {
	state  state
	cgroup hierarchy
	hosts  []*Host
}

// state is what a lab remembers, in lab.json.
type state struct {
	Name    string      `json:"name"`
	Hosts   int         `json:"hosts"`
	Quota   float64     `json:"quota_cores"`
	Rate    float64     `json:"iterations_per_core_second"`
	Image   image.Image `json:"image"`
	Created time.Time   `json:"created"`
}

// Up makes a lab: its switch, its hosts with a libvirtd each, and the rate of
// its guests' work. A lab that cannot be made whole is removed again.
func Up(ctx context.Context, o Options) (*Lab, error) {
	if o.Name == "" {
		o.Name = DefaultName
	}
	l, err := prepare(o)
	if err != nil {
		return nil, err
	}
	if err := l.build(ctx, o); err != nil {
		down := l.Down(context.WithoutCancel(ctx))
		return nil, errors.Join(err, down)
	}
	return l, nil
}

// prepare claims the lab's name.
func prepare(o Options) (*Lab, error) {
	if err := checkName(o.Name); err != nil {
		return nil, err
	}
	if o.Hosts < 1 || o.Hosts > MaxHosts {
		return nil, fmt.Errorf("%d hosts: want 1 to %d", o.Hosts, MaxHosts)
	}
	if o.Quota < 0 || o.Rate < 0 {
		return nil, errors.New("quota and rate must not be negative")
	}
	if err := Available(); err != nil {
		return nil, err
	}
	l, err := open(state{Name: o.Name, Hosts: o.Hosts, Quota: o.Quota, Rate: o.Rate, Created: time.Now()})
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(runRoot, 0o755); err != nil {
		return nil, err
	}
	if err := os.Mkdir(l.dir(), 0o755); errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s: %w", o.Name, ErrExists)
	} else if err != nil {
		return nil, err
	}
	return l, nil
}

func open(s state) (*Lab, error) {
	cg, err := findHierarchy()
	if err != nil {
		return nil, err
	}
	l := &Lab{state: s, cgroup: cg}
	for i := range s.Hosts {
		l.hosts = append(l.hosts, newHost(l, i))
	}
	return l, nil
}

// build makes everything inside the claimed folder.
func (l *Lab) build(ctx context.Context, o Options) error {
	if err := privateMount(l.dir()); err != nil {
		return err
	}
	for _, sub := range []string{"ns", "vms"} {
		if err := os.Mkdir(filepath.Join(l.dir(), sub), 0o755); err != nil {
			return err
		}
	}
	if err := l.makeSwitch(); err != nil {
		return err
	}
	source, err := sourceDir()
	if err != nil {
		return err
	}
	if l.state.Image, err = image.Ensure(ctx, source); err != nil {
		return err
	}
	if err := ensureEmulator(); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, h := range l.hosts {
		group.Go(func() error {
			if err := h.build(ctx); err != nil {
				return fmt.Errorf("host %s: %w", h.name, err)
			}
			return nil
		})
	}
	if o.Rate == 0 {
		group.Go(func() (err error) {
			l.state.Rate, err = l.calibrate(ctx)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return writeJSON(filepath.Join(l.dir(), "lab.json"), l.state)
}

// Attach finds a lab that is up.
func Attach(name string) (*Lab, error) {
	if name == "" {
		name = DefaultName
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	var s state
	err := readJSON(filepath.Join(runRoot, name, "lab.json"), &s)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("lab %s: %w: is it up?", name, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return open(s)
}

// List names the labs that are up or half up, in order.
func List() ([]string, error) {
	entries, err := os.ReadDir(runRoot)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && namePattern.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	sort.Strings(names)
	return names, nil
}

// Name is the lab's.
func (l *Lab) Name() string { return l.state.Name }

// Quota is the CPU that each host's VMs may use together, in cores; 0 means
// no bound.
func (l *Lab) Quota() float64 { return l.state.Quota }

// Rate is the calibrated speed of guests, in iterations per core-second.
func (l *Lab) Rate() float64 { return l.state.Rate }

// Hosts lists the hosts in order.
func (l *Lab) Hosts() []*Host { return append([]*Host(nil), l.hosts...) }

// Host is the i-th host, from 0; it panics when there is none.
func (l *Lab) Host(i int) *Host { return l.hosts[i] }

// HostByName finds a host by its name (h0, h1, ...).
func (l *Lab) HostByName(name string) (*Host, error) {
	for _, h := range l.hosts {
		if h.name == name {
			return h, nil
		}
	}
	return nil, fmt.Errorf("host %q: %w: hosts are h0 to h%d", name, ErrNotFound, len(l.hosts)-1)
}

// writeJSON replaces a file in one step.
func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(path, append(data, '\n'), 0o644)
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
