package hypervisor

import (
	"encoding/xml"
	"fmt"
	"slices"
	"strings"

	"libvirt.org/go/libvirtxml"
)

// parseDomain reads what headroom needs of a live domain's XML. A domain whose
// headroom metadata is malformed is returned all the same, as not migratable.
func parseDomain(text string) (Domain, error) {
	var x libvirtxml.Domain
	if err := x.Unmarshal(text); err != nil {
		return Domain{}, fmt.Errorf("parse domain: %w", err)
	}
	d := Domain{ID: x.UUID, Name: x.Name, Migratable: true}
	if x.VCPU != nil {
		d.VCPUs = int(x.VCPU.Value)
		if x.VCPU.Current > 0 {
			d.VCPUs = int(x.VCPU.Current)
		}
	}
	if x.Memory != nil {
		d.MaxMemoryMiB = inMiB(x.Memory.Value, x.Memory.Unit)
	}
	d.MemoryMiB = d.MaxMemoryMiB
	if x.CurrentMemory != nil {
		d.MemoryMiB = inMiB(x.CurrentMemory.Value, x.CurrentMemory.Unit)
	}
	if x.CPU != nil && (x.CPU.Mode == "host-passthrough" || x.CPU.Mode == "maximum") {
		d.CPUModel = hostModel
	}
	if x.Metadata != nil {
		var err error
		if d.Metadata, err = findMetadata(x.Metadata.XML); err != nil {
			d.fixed(err.Error())
		}
	}
	d.place(&x)
	if x.LaunchSecurity != nil {
		d.fixed("its memory is encrypted for this host's CPU")
	}
	if x.Devices != nil {
		d.devices(x.Devices)
	}
	return d, nil
}

// ParseIncoming reads the description that libvirt gives its hook of a VM that is
// to come in: ID, name and metadata, and nothing else. Malformed headroom metadata is an error that wraps ErrMetadata: what
// it was stamped with is not known.
func ParseIncoming(text string) (Domain, error) {
	var x libvirtxml.Domain
	if err := x.Unmarshal(text); err != nil {
		return Domain{}, fmt.Errorf("parse domain: %w", err)
	}
	d := Domain{ID: x.UUID, Name: x.Name}
	if d.ID == "" {
		return Domain{}, fmt.Errorf("VM %q has no UUID", d.Name)
	}
	if x.Metadata == nil {
		return d, nil
	}
	var err error
	if d.Metadata, err = findMetadata(x.Metadata.XML); err != nil {
		return Domain{}, fmt.Errorf("VM %s: %w", d.Name, err)
	}
	return d, nil
}

// hostModel stands for «exactly the host's CPU» until the driver fills the
// host's model in.
const hostModel = "host"

// fixed notes why the domain cannot be migrated; the first reason stays.
func (d *Domain) fixed(why string) {
	if d.Migratable {
		d.Migratable, d.Why = false, why
	}
}

// devices notes taps, disks, and what ties a VM to its host.
func (d *Domain) devices(x *libvirtxml.DomainDeviceList) {
	if len(x.Hostdevs) > 0 {
		d.fixed("it has a device of the host")
	}
	if len(x.Filesystems) > 0 {
		d.fixed("it has a folder of the host")
	}
	if len(x.Shmems) > 0 {
		d.fixed("it shares memory with another program of the host")
	}
	for i := range x.Memorydevs {
		if m := x.Memorydevs[i].Model; m == "nvdimm" || m == "virtio-pmem" {
			d.fixed("it has persistent memory of the host")
		}
	}
	for i := range x.Interfaces {
		d.plug(&x.Interfaces[i])
	}
	for i := range x.Disks {
		d.disk(&x.Disks[i])
	}
}

// plug notes an interface: its tap, and what it is plugged into. What libvirt
// did not set up itself, nobody can promise of the destination.
func (d *Domain) plug(x *libvirtxml.DomainInterface) {
	tap := ""
	if x.Target != nil {
		tap = x.Target.Dev
	}
	s := x.Source // set by the parser for every kind
	var name string
	switch {
	case s.Network != nil:
		name = s.Network.Network
	case s.Bridge != nil:
		name = "bridge:" + s.Bridge.Bridge
	case s.Direct != nil: // macvtap: a link of the host like a tap
		name = "direct:" + s.Direct.Dev
	case s.Hostdev != nil, s.VDPA != nil:
		d.fixed("it has a network device of the host")
	case s.VHostUser != nil:
		tap = "" // a name inside the switch, not a link of the host
		d.fixed("it has a vhost-user interface, whose socket the destination may lack")
	case s.Ethernet != nil:
		d.fixed("its interface was set up outside libvirt (type ethernet)")
	default:
		d.fixed("its interface is of a kind whose connections do not survive a move")
	}
	if tap != "" {
		d.Taps = append(d.Taps, tap)
	}
	if name != "" && !slices.Contains(d.Networks, name) {
		d.Networks = append(d.Networks, name)
	}
}

// disk notes a disk. Whether a file's or a pool's is shared shows only on the
// host: judgeDisks fills it in.
func (d *Domain) disk(x *libvirtxml.DomainDisk) {
	out := Disk{ReadOnly: x.ReadOnly != nil}
	if x.Target != nil {
		out.Target = x.Target.Dev
	}
	if x.Driver != nil {
		out.Cache = x.Driver.Cache
	}
	if x.Mirror != nil {
		d.busy("block copy of " + out.Target)
	}
	if s := x.Source; s != nil {
		switch {
		case s.File != nil:
			out.Source = s.File.File
		case s.Block != nil:
			out.Source, out.Shared = s.Block.Dev, x.Shareable != nil
		case s.Dir != nil:
			out.Source = s.Dir.Dir
		case s.Volume != nil:
			out.Source, out.Pool = s.Volume.Volume, s.Volume.Pool
		case s.Network != nil:
			out.Source, out.Shared = s.Network.Protocol+":"+s.Network.Name, true
		case s.NVME != nil, s.VHostUser != nil, s.VHostVDPA != nil:
			d.fixed("disk " + out.Target + " is a device of the host")
		}
	}
	d.Disks = append(d.Disks, out)
}

// inMiB converts libvirt's sizes; without a unit they are KiB.
func inMiB(value uint, unit string) float64 {
	per := map[string]float64{"b": 1, "bytes": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
		"": 1 << 10, "k": 1 << 10, "KiB": 1 << 10, "M": 1 << 20, "MiB": 1 << 20, "G": 1 << 30, "GiB": 1 << 30, "T": 1 << 40, "TiB": 1 << 40}
	return float64(value) * per[unit] / (1 << 20)
}

// findMetadata reads headroom's element among the metadata of all programs.
func findMetadata(inner string) (Metadata, error) {
	dec := xml.NewDecoder(strings.NewReader("<all>" + inner + "</all>"))
	for depth := 0; ; {
		start := dec.InputOffset()
		tok, err := dec.Token()
		if err != nil {
			return Metadata{}, nil // no element of ours
		}
		switch t := tok.(type) {
		case xml.StartElement:
			if depth == 1 && t.Name.Space == MetadataURI {
				if err := dec.Skip(); err != nil {
					return Metadata{}, fmt.Errorf("%w: %w", ErrMetadata, err)
				}
				return DecodeMetadata(("<all>" + inner)[start:dec.InputOffset()])
			}
			depth++
		case xml.EndElement:
			depth--
		}
	}
}

// parseCapabilities reads the host's UUID, CPU model and NUMA nodes.
func parseCapabilities(text string) (HostInfo, error) {
	var x libvirtxml.Caps
	if err := x.Unmarshal(text); err != nil {
		return HostInfo{}, fmt.Errorf("parse capabilities: %w", err)
	}
	h := HostInfo{UUID: x.Host.UUID, Nodes: nodes(&x.Host)}
	if x.Host.CPU != nil {
		h.CPUModel = x.Host.CPU.Arch + "/" + x.Host.CPU.Model
	}
	return h, nil
}
