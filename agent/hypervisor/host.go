package hypervisor

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"libvirt.org/go/libvirt"
)

// infoAge is how long what libvirt says of its host counts as known: networks
// and pools come and go.
const infoAge = 30 * time.Second

// HostInfo asks libvirt about its host; the answer may be half a minute old.
func (d *Libvirt) HostInfo(ctx context.Context) (HostInfo, error) {
	d.mu.Lock()
	known, at := d.info, d.infoAt
	d.mu.Unlock()
	if known != nil && time.Since(at) < infoAge {
		return *known, nil
	}
	info, err := call(ctx, d, d.acts, "host", hostInfo)
	if err != nil {
		return HostInfo{}, fmt.Errorf("ask libvirt about the host: %w", err)
	}
	d.mu.Lock()
	d.info, d.infoAt = &info, time.Now()
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
	h.Networks = append(h.Networks, attachable("/sys/class/net")...)
	return h, nil
}

// attachable are the host's bridges and real network cards, named as interfaces
// of VMs name them.
func attachable(root string) []string {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil
	}
	has := func(dev, file string) bool {
		_, err := os.Stat(filepath.Join(root, dev, file))
		return err == nil
	}
	var out []string
	for _, e := range entries {
		dev := e.Name()
		if has(dev, "bridge") {
			out = append(out, "bridge:"+dev)
		}
		if has(dev, "device") || has(dev, "bonding") {
			out = append(out, "direct:"+dev)
		}
	}
	return out
}

// Memory asks every guest's balloon without waiting for a busy domain; a domain
// without an answer is left out. Guests answer when their balloon has a
// statistics period (virsh dommemstat --period).
func (d *Libvirt) Memory(ctx context.Context) (map[string]MemoryStats, error) {
	out, err := call(ctx, d, d.looks, "memory", func(c *libvirt.Connect) (map[string]MemoryStats, error) {
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
	m := MemoryStats{UnusedMiB: math.NaN()}
	if b.RssSet {
		m.RSSMiB = float64(b.Rss) / 1024
	}
	if !b.AvailableSet || (!b.UsableSet && !b.UnusedSet) {
		return m, false
	}
	if b.UnusedSet {
		m.UnusedMiB = float64(b.Unused) / 1024
	}
	free := b.Unused
	if b.UsableSet {
		free = b.Usable // counts caches that can be dropped
	}
	m.AvailableMiB = float64(b.Available) / 1024
	m.UsedMiB = max(0, m.AvailableMiB-float64(free)/1024)
	return m, true
}
