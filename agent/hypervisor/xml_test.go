package hypervisor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDomainsAreReadFromXML(t *testing.T) {
	moved := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		file string
		want Domain
	}{
		{"macvtap", Domain{ID: "11111111-2222-4333-8444-555555555555", Name: "edge", VCPUs: 2, MemoryMiB: 2048, MaxMemoryMiB: 4096,
			Taps: []string{"macvtap3", "vnet7", "vnet8"}, Networks: []string{"direct:eno1", "default"}, CPUModel: hostModel, Migratable: true,
			Disks:    []Disk{{Target: "vda", Source: "rbd:vms/edge", Cache: "none", Shared: true}, {Target: "sda", ReadOnly: true}},
			Metadata: Metadata{Attempt: 3, LastFrom: "h2", MovedAt: moved, Moves: []time.Time{moved}, Mode: "approve", AntiAffinity: []string{"db"}}}},
		{"vhostuser", Domain{ID: "21111111-2222-4333-8444-555555555555", Name: "dpdk", VCPUs: 8, MemoryMiB: 8192, MaxMemoryMiB: 8192,
			Taps: []string{"vnet0"}, Networks: []string{"bridge:br0"}, Why: "it has a vhost-user interface, whose socket the destination may lack",
			Disks: []Disk{{Target: "vda", Source: "/var/lib/libvirt/images/dpdk.qcow2", Cache: "writeback"}}}},
		{"blockcopy", Domain{ID: "31111111-2222-4333-8444-555555555555", Name: "copying", VCPUs: 1, MemoryMiB: 1024, MaxMemoryMiB: 1024,
			Migratable: true, Job: "block copy of vdb",
			Disks: []Disk{{Target: "vdb", Source: "copying.qcow2", Pool: "fast"}, {Target: "vdc", Source: "/dev/mapper/mpatha", Shared: true}}}},
	} {
		t.Run(c.file, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join("testdata", c.file+".xml"))
			if err != nil {
				t.Fatal(err)
			}
			got, err := parseDomain(string(b))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatTiesAVMToItsHostIsSaid(t *testing.T) {
	for _, c := range []struct{ device, why string }{
		{"<hostdev mode='subsystem' type='pci'><source><address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></source></hostdev>", "device of the host"},
		{"<filesystem type='mount'><source dir='/srv'/><target dir='x'/></filesystem>", "folder of the host"},
		{"<shmem name='s'><model type='ivshmem-plain'/></shmem>", "shares memory"},
		{"<memory model='nvdimm'><source><path>/dev/pmem0</path></source><target><size unit='KiB'>524288</size></target></memory>", "persistent memory"},
		{"<interface type='hostdev'><source><address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x1'/></source></interface>", "network device of the host"},
		{"<interface type='vdpa'><source dev='/dev/vhost-vdpa-0'/></interface>", "network device of the host"},
		{"<interface type='ethernet'><target dev='tap9'/></interface>", "outside libvirt"},
		{"<interface type='user'/>", "do not survive"},
		{"<disk type='nvme'><source type='pci' namespace='1'><address domain='0x0' bus='0x1' slot='0x0' function='0x0'/></source><target dev='vda'/></disk>", "device of the host"},
	} {
		d, err := parseDomain("<domain type='kvm'><name>x</name><devices>" + c.device + "</devices></domain>")
		if err != nil {
			t.Errorf("%s: %v", c.device, err)
		} else if d.Migratable || !strings.Contains(d.Why, c.why) {
			t.Errorf("%s: migratable %t (%q), want it not, for %q", c.device, d.Migratable, d.Why, c.why)
		}
	}
}

// TestMalformedMetadataKeepsTheDomainVisible: an operator's slip must not hide
// the VM, and must not be planned on.
func TestMalformedMetadataKeepsTheDomainVisible(t *testing.T) {
	for _, inner := range []string{
		`<h:vm xmlns:h="urn:headroom:1"><move attempt="-1"/></h:vm>`,
		`<h:vm xmlns:h="urn:headroom:1"><move moved-at="yesterday"/></h:vm>`,
		`<h:vm xmlns:h="urn:headroom:1"><policy mode="fast"/></h:vm>`,
		`<h:vm xmlns:h="urn:headroom:1"><policy pin="` + strings.Repeat("x", maxMetadata) + `"/></h:vm>`,
		`<h:vm xmlns:h="urn:headroom:1"><past>` + strings.Repeat(`<moved at=""/>`, maxListed+1) + `</past></h:vm>`,
	} {
		d, err := parseDomain("<domain><name>x</name><metadata>" + inner + "</metadata></domain>")
		if err != nil || d.Name != "x" || d.Migratable || !strings.Contains(d.Why, "metadata") {
			t.Errorf("%.60s: %+v, %v; want it listed and not migratable", inner, d, err)
		}
	}
}

func TestSizesHaveUnits(t *testing.T) {
	for unit, want := range map[string]float64{"": 1, "KiB": 1, "MiB": 1024, "G": 1 << 20, "b": 1.0 / 1024, "KB": 1000.0 / 1024} {
		if got := inMiB(1024, unit); got != want {
			t.Errorf("1024 %q is %g MiB, want %g", unit, got, want)
		}
	}
}

func FuzzParseDomain(f *testing.F) {
	files, err := filepath.Glob("testdata/*.xml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Add(`<domain><metadata></all><vm xmlns="urn:headroom:1"/></metadata></domain>`)
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseDomain(text)
		if err == nil && !d.Migratable && d.Why == "" {
			t.Error("not migratable without a reason")
		}
		if _, err := parseCapabilities(text); err == nil && text == "" {
			t.Error("nothing was read as capabilities")
		}
	})
}

func TestBridgesAndCardsOfTheHost(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"br0/bridge", "eno1/device", "bond0/bonding", "vnet0"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	got := fmt.Sprint(attachable(root))
	if want := "[direct:bond0 bridge:br0 direct:eno1]"; got != want {
		t.Errorf("attachable %s, want %s", got, want)
	}
	if got := attachable(filepath.Join(root, "none")); got != nil {
		t.Errorf("without /sys: %v", got)
	}
}
