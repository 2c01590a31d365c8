package hypervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"libvirt.org/go/libvirt"
)

// maxDomains bounds what one look takes in.
const maxDomains = 4096

// Domains lists the host's domains. A domain that hangs or vanishes meanwhile
// does not delay the others: a hung one is listed by what is known without it,
// as not migratable.
func (d *Libvirt) Domains(ctx context.Context) ([]Domain, error) {
	ids, err := call(ctx, d, func(c *libvirt.Connect) ([]string, error) {
		list, err := c.ListAllDomains(0)
		if err != nil {
			return nil, err
		}
		var ids []string
		for i := range list {
			if id, err := list[i].GetUUIDString(); err == nil && len(ids) < maxDomains {
				ids = append(ids, id)
			}
			_ = list[i].Free() // fails only for a domain that is not one
		}
		return ids, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list domains: %w", err)
	}
	found := make([]*Domain, len(ids))
	var wg sync.WaitGroup
	places := make(chan struct{}, maxCalls/4) // leave room for other calls
	for i, id := range ids {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			found[i] = d.look(ctx, id)
		})
	}
	wg.Wait()
	out := make([]Domain, 0, len(found))
	for _, f := range found {
		if f != nil {
			out = append(out, *f)
		}
	}
	return out, nil
}

// look reads one domain; nil when it is gone.
func (d *Libvirt) look(ctx context.Context, id string) *Domain {
	dom, ok, err := d.Lookup(ctx, id)
	switch {
	case err != nil:
		return &Domain{ID: id, Name: id, State: NoState, Why: "libvirt does not describe it: " + err.Error()}
	case !ok:
		return nil
	}
	return &dom
}

var states = map[libvirt.DomainState]State{
	libvirt.DOMAIN_NOSTATE: NoState, libvirt.DOMAIN_RUNNING: Running, libvirt.DOMAIN_BLOCKED: Blocked,
	libvirt.DOMAIN_PAUSED: Paused, libvirt.DOMAIN_SHUTDOWN: ShutDown, libvirt.DOMAIN_SHUTOFF: ShutOff,
	libvirt.DOMAIN_CRASHED: Crashed, libvirt.DOMAIN_PMSUSPENDED: PMSuspended,
}

var pausedReasons = map[libvirt.DomainPausedReason]string{
	libvirt.DOMAIN_PAUSED_USER: "user", libvirt.DOMAIN_PAUSED_MIGRATION: "migration", libvirt.DOMAIN_PAUSED_SAVE: "save",
	libvirt.DOMAIN_PAUSED_DUMP: "dump", libvirt.DOMAIN_PAUSED_IOERROR: "I/O error", libvirt.DOMAIN_PAUSED_WATCHDOG: "watchdog",
	libvirt.DOMAIN_PAUSED_SNAPSHOT: "snapshot", libvirt.DOMAIN_PAUSED_STARTING_UP: "starting up",
	libvirt.DOMAIN_PAUSED_POSTCOPY: "post-copy", libvirt.DOMAIN_PAUSED_POSTCOPY_FAILED: "post-copy failed",
}

// Lookup reads one domain; ok is false when it is not here.
func (d *Libvirt) Lookup(ctx context.Context, id string) (dom Domain, ok bool, err error) {
	dom, err = onDomain(ctx, d, id, describe)
	if errors.Is(err, ErrNoSuchDomain) {
		return Domain{}, false, nil
	}
	if err != nil {
		return Domain{}, false, fmt.Errorf("look up domain %s: %w", id, err)
	}
	if dom.State.Live() {
		dom.PID = d.pid(dom.Name, dom.ID)
	}
	if dom.CPUModel == hostModel {
		dom.CPUModel = ""
		if info, err := d.HostInfo(ctx); err == nil {
			dom.CPUModel = info.CPUModel
		}
	}
	return dom, true, nil
}

// describe makes all the calls about one domain in one go.
func describe(x *libvirt.Domain) (Domain, error) {
	text, err := x.GetXMLDesc(0)
	if err != nil {
		return Domain{}, err
	}
	dom, err := parseDomain(text)
	if err != nil {
		return Domain{}, err
	}
	state, reason, err := x.GetState()
	if err != nil {
		return Domain{}, err
	}
	dom.State = states[state]
	if state == libvirt.DOMAIN_PAUSED {
		dom.Reason = pausedReasons[libvirt.DomainPausedReason(reason)]
	}
	if dom.Persistent, err = x.IsPersistent(); err != nil {
		return Domain{}, err
	}
	if dom.Persistent {
		if dom.Autostart, err = x.GetAutostart(); err != nil && !isCode(err, libvirt.ERR_NO_SUPPORT) {
			return Domain{}, err
		}
	}
	if !dom.State.Live() {
		return dom, nil
	}
	p, err := progress(x)
	if err != nil {
		return Domain{}, err
	}
	dom.Incoming = dom.State == Paused && (dom.Reason == "migration" || dom.Reason == "starting up") && p.Kind != outgoing
	if p.Active && p.Kind != outgoing {
		dom.Job = p.Kind
	}
	return dom, nil
}

// pid is the domain's QEMU process: what the pid file says, if that process
// carries the domain's UUID, else the process that does; 0 when there is none.
func (d *Libvirt) pid(name, id string) int {
	b, err := os.ReadFile(filepath.Join(d.o.RunDir, name+".pid"))
	if err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && d.carries(pid, id) {
			return pid
		}
	}
	entries, err := os.ReadDir(d.o.ProcDir)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && d.carries(pid, id) {
			return pid
		}
	}
	return 0
}

// carries says whether the process is a QEMU started for the domain's UUID.
func (d *Libvirt) carries(pid int, id string) bool {
	b, err := os.ReadFile(filepath.Join(d.o.ProcDir, strconv.Itoa(pid), "cmdline"))
	if err != nil {
		return false
	}
	return bytes.Contains(b, []byte("-uuid\x00"+id+"\x00"))
}

// HostInfo asks libvirt about its host, once per connection.
func (d *Libvirt) HostInfo(ctx context.Context) (HostInfo, error) {
	d.mu.Lock()
	known := d.info
	d.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	info, err := call(ctx, d, hostInfo)
	if err != nil {
		return HostInfo{}, fmt.Errorf("ask libvirt about the host: %w", err)
	}
	d.mu.Lock()
	if d.conn != nil {
		d.info = &info
	}
	d.mu.Unlock()
	return info, nil
}

func hostInfo(c *libvirt.Connect) (HostInfo, error) {
	text, err := c.GetCapabilities()
	if err != nil {
		return HostInfo{}, err
	}
	h, err := parseCapabilities(text)
	if err != nil {
		return HostInfo{}, err
	}
	node, err := c.GetNodeInfo()
	if err != nil {
		return HostInfo{}, err
	}
	h.CPUs, h.MemoryMiB = int(node.Cpus), float64(node.Memory)/1024
	if v, err := c.GetLibVersion(); err == nil {
		h.Version = fmt.Sprintf("%d.%d.%d", v/1000000, v/1000%1000, v%1000)
	}
	// A libvirtd without the network or storage driver has none of either.
	if names, err := c.ListNetworks(); err == nil {
		h.Networks = names
	}
	if names, err := c.ListStoragePools(); err == nil {
		h.Pools = names
	}
	h.Networks = append(h.Networks, bridges("/sys/class/net")...)
	return h, nil
}

// bridges are the host's bridges, named as interfaces of VMs name them.
func bridges(root string) []string {
	dirs, err := filepath.Glob(filepath.Join(root, "*", "bridge"))
	if err != nil {
		return nil
	}
	var out []string
	for _, dir := range dirs {
		out = append(out, "bridge:"+filepath.Base(filepath.Dir(dir)))
	}
	return out
}

// Memory asks every guest's balloon without waiting for a busy domain; a domain
// without an answer is left out.
func (d *Libvirt) Memory(ctx context.Context) (map[string]MemoryStats, error) {
	out, err := call(ctx, d, func(c *libvirt.Connect) (map[string]MemoryStats, error) {
		stats, err := c.GetAllDomainStats(nil, libvirt.DOMAIN_STATS_BALLOON,
			libvirt.CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE|libvirt.CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT)
		if err != nil {
			return nil, err
		}
		out := map[string]MemoryStats{}
		for i := range stats {
			if id, err := stats[i].Domain.GetUUIDString(); err == nil && stats[i].Balloon != nil {
				if m, ok := balloon(stats[i].Balloon); ok {
					out[id] = m
				}
			}
			_ = stats[i].Domain.Free() // fails only for a domain that is not one
		}
		return out, nil
	})
	if err != nil {
		return nil, fmt.Errorf("ask for memory: %w", err)
	}
	return out, nil
}

func balloon(b *libvirt.DomainStatsBalloon) (MemoryStats, bool) {
	m := MemoryStats{}
	if b.RssSet {
		m.RSSMiB = float64(b.Rss) / 1024
	}
	if !b.AvailableSet || (!b.UsableSet && !b.UnusedSet) {
		return m, false
	}
	free := b.Unused
	if b.UsableSet {
		free = b.Usable // counts caches that can be dropped
	}
	m.AvailableMiB = float64(b.Available) / 1024
	m.UsedMiB = max(0, m.AvailableMiB-float64(free)/1024)
	return m, true
}
