package hypervisor

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPlacementIsReadFromXML(t *testing.T) {
	const cells = `<cpu><numa><cell cpus='0-1' memory='1' unit='GiB'/><cell cpus='2-3' memory='3' unit='GiB'/></numa></cpu>`
	for _, c := range []struct {
		name, xml string
		bound     []Binding
		pinned    []int
	}{
		{"nothing", ``, nil, nil},
		{"strict is the default", `<numatune><memory nodeset='0-1'/></numatune>`, []Binding{{[]int{0, 1}, 4096}}, nil},
		{"restrictive", `<numatune><memory mode='restrictive' nodeset='1'/></numatune>`, []Binding{{[]int{1}, 4096}}, nil},
		{"a preference binds no memory", `<numatune><memory mode='preferred' nodeset='2'/></numatune>`, []Binding{{[]int{2}, 0}}, nil},
		{"numad chooses anew", `<numatune><memory mode='strict' placement='auto'/></numatune>`, nil, nil},
		{"cells of the guest", cells + `<numatune><memory mode='strict' nodeset='0-3,^1'/><memnode cellid='1' mode='strict' nodeset='2'/></numatune>`,
			[]Binding{{[]int{2}, 3072}, {[]int{0, 2, 3}, 1024}}, nil},
		{"pins", `<vcpu cpuset='4-5'>2</vcpu><cputune><vcpupin vcpu='0' cpuset='4'/><emulatorpin cpuset='0'/><iothreadpin iothread='1' cpuset='9'/></cputune>`,
			nil, []int{0, 4, 5, 9}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := parseDomain("<domain><name>x</name><memory unit='GiB'>4</memory>" + c.xml + "</domain>")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(Domain{Bound: c.bound, Pinned: c.pinned}, Domain{Bound: d.Bound, Pinned: d.Pinned}); diff != "" || !d.Migratable {
				t.Errorf("migratable %t\n%s", d.Migratable, diff)
			}
		})
	}
}

// What is not understood is not planned with.
func TestStrangePlacementIsNotMoved(t *testing.T) {
	for _, set := range []string{"x", "3-1", "-1", "0-99999999", "8192", "1,,2", "^"} {
		for _, xml := range []string{"<numatune><memory nodeset='" + set + "'/></numatune>", "<vcpu cpuset='" + set + "'>1</vcpu>"} {
			d, err := parseDomain("<domain><name>x</name>" + xml + "</domain>")
			if err != nil || d.Migratable || !strings.Contains(d.Why, set) {
				t.Errorf("%s: migratable %t (%s), %v", xml, d.Migratable, d.Why, err)
			}
		}
	}
}

func TestNodesAreReadFromCapabilities(t *testing.T) {
	h, err := parseCapabilities(`<capabilities><host><uuid>u</uuid><topology><cells num='2'>
		<cell id='0'><memory unit='KiB'>2097152</memory><cpus num='2'><cpu id='0'/><cpu id='2'/></cpus></cell>
		<cell id='1'><memory unit='KiB'>1048576</memory></cell></cells></topology></host></capabilities>`)
	if err != nil {
		t.Fatal(err)
	}
	want := []Node{{ID: 0, MemoryMiB: 2048, CPUs: []int{0, 2}}, {ID: 1, MemoryMiB: 1024}}
	if diff := cmp.Diff(want, h.Nodes); diff != "" {
		t.Error(diff)
	}
}
