package traces

import (
	"bytes"
	"encoding/json"
	"fmt"

	"headroom/planner/simulate"
)

// hostLine is one kind of host in a file of hosts.
type hostLine struct {
	Name      string  `json:"name"`
	Count     int     `json:"count"` // so many of them; 0 means one
	PEs       int     `json:"cores"`
	MIPS      float64 `json:"mhz"`
	Memory    float64 `json:"memory_mib"`
	Bandwidth float64 `json:"bandwidth_mib_per_s"`
	Disk      float64 `json:"disk_mb_per_s"`    // that the host carries for its VMs; 0: no limit
	Network   float64 `json:"network_mb_per_s"` // the same
	// Watts at 0, 10 .. 100 % of CPU.
	Power simulate.Power `json:"watts"`
}

const maxHosts = 20_000

// ReadHosts reads a JSON list of hosts, for example
//
//	[{"name":"hv","count":4,"cores":12,"mhz":3067,"memory_mib":131072,
//	  "bandwidth_mib_per_s":1000,"watts":[58,98,109,118,128,140,153,170,189,205,222]}]
func ReadHosts(name string) ([]simulate.Host, error) {
	text, err := read(name)
	if err != nil {
		return nil, err
	}
	hosts, err := parseHosts([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("hosts %s: %w", name, err)
	}
	return hosts, nil
}

func parseHosts(text []byte) ([]simulate.Host, error) {
	var lines []hostLine
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&lines); err != nil {
		return nil, fmt.Errorf("want a JSON list of hosts: %w", err)
	}
	var out []simulate.Host
	for _, l := range lines {
		n := max(1, l.Count)
		if n > maxHosts-len(out) {
			return nil, fmt.Errorf("more than %d hosts", maxHosts)
		}
		power := l.Power
		for i := range n {
			id := l.Name
			if l.Count > 1 {
				id = fmt.Sprintf("%s-%d", l.Name, i)
			}
			out = append(out, simulate.Host{ID: id, PEs: l.PEs, MIPS: l.MIPS, Memory: l.Memory, Bandwidth: l.Bandwidth, Disk: l.Disk, Network: l.Network, Power: &power})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no hosts in the list")
	}
	return out, nil
}
