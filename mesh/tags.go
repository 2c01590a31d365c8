package mesh

import (
	"fmt"
	"strconv"
)

// maxTags keeps the encoded tags well below Serf's 512 bytes.
const maxTags = 400

// encode returns the tags as Serf carries them.
func (t Tags) encode() (map[string]string, error) {
	m := map[string]string{"v": strconv.Itoa(t.Version)}
	size := 0
	for k, v := range map[string]string{"n": t.Name, "rpc": t.RPCAddr, "fp": t.CertFingerprint, "cpu": t.CPUModel, "z": t.Zone} {
		if v != "" {
			m[k] = v
			size += len(k) + len(v) + 4
		}
	}
	if t.Draining {
		m["drain"] = "1"
	}
	if size > maxTags {
		return nil, fmt.Errorf("name, addresses, CPU model and zone take %d bytes, at most %d fit: shorten mesh.name or mesh.zone", size, maxTags)
	}
	return m, nil
}

// decodeTags reads a member's tags. Whatever a peer sends, the result is usable:
// an unknown version shows as such.
func decodeTags(m map[string]string) Tags {
	version, err := strconv.Atoi(m["v"])
	if err != nil {
		version = 0
	}
	return Tags{Version: version, Name: m["n"], RPCAddr: m["rpc"], CertFingerprint: m["fp"],
		CPUModel: m["cpu"], Zone: m["z"], Draining: m["drain"] == "1"}
}
