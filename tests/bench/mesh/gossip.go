package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strings"

	"headroom/mesh"
)

// cluster is what mesh.TestFigures prints of one size.
type cluster struct {
	Hosts         int     `json:"hosts"`
	PacketsPerS   float64 `json:"packets_per_s"`
	PacketBytes   float64 `json:"packet_bytes_per_s"`
	StreamBytes   float64 `json:"stream_bytes_per_s"`
	DigestsPerS   float64 `json:"digests_per_s"`
	BudgetPerS    float64 `json:"budget_per_s"`
	IntervalS     float64 `json:"interval_s"`
	AgeMedianS    float64 `json:"digest_age_median_s"`
	AgeP99S       float64 `json:"digest_age_p99_s"`
	ArriveMedianS float64 `json:"digest_arrival_median_s"`
	ArriveP99S    float64 `json:"digest_arrival_p99_s"`
	Queue         int     `json:"queue_max"`
}

// large is the size that is told by measuring it, if it was asked for, and by
// extrapolation otherwise.
const large = 1000

// gossip measures clusters of real Serf nodes in virtual time: a test does it,
// because virtual time is for tests alone.
func gossip(o options, out figures) error {
	cmd := exec.Command("go", "test", "./mesh", "-run", "^TestFigures$", "-count=1", "-timeout", "90m", "-v")
	// A thousand hosts that know a thousand are gigabytes of small objects: at Go's own
	// pace, half of the time went to collecting garbage.
	cmd.Env = append(os.Environ(), "HEADROOM_MESH_HOSTS="+o.hosts, "GOGC=400", "GOMEMLIMIT=16GiB")
	text, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("real Serf in virtual time: %w: %s", err, last(text, 600))
	}
	var list []cluster
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "figures "); ok {
			var c cluster
			if err := json.Unmarshal([]byte(rest), &c); err != nil {
				return fmt.Errorf("figures of the mesh: %w", err)
			}
			list = append(list, c)
		}
	}
	if len(list) == 0 {
		return fmt.Errorf("the test of the mesh printed no figures: %s", last(text, 600))
	}
	fmt.Println("| hosts | packets/s | UDP bytes/s | push/pull bytes/s | digests/s, cluster | budget/s | interval s | age median s | age p99 s | arrival median s | arrival p99 s | queue |")
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	biggest := list[0]
	for _, c := range list {
		c.row("")
		if c.Hosts >= biggest.Hosts {
			biggest = c
		}
	}
	if biggest.Hosts != large {
		biggest = biggest.at(large)
		biggest.row(" (extrapolated)")
	}
	fmt.Println()
	out["gossip_bytes_per_s_1000"] = math.Round(biggest.PacketBytes + biggest.StreamBytes)
	out["digest_age_p99_s_1000"] = math.Round(biggest.AgeP99S)
	return nil
}

func (c cluster) row(note string) {
	fmt.Printf("| %d%s | %.1f | %.0f | %.0f | %.2f | %.1f | %.1f | %.1f | %.1f | %.2f | %.2f | %d |\n", c.Hosts, note, c.PacketsPerS, c.PacketBytes,
		c.StreamBytes, c.DigestsPerS, c.BudgetPerS, c.IntervalS, c.AgeMedianS, c.AgeP99S, c.ArriveMedianS, c.ArriveP99S, c.Queue)
}

// at extrapolates to a larger cluster. Digests use the same share of a budget that
// bounds the bytes of each host's packets, so packets stay; a push/pull carries
// the state of all members, so its bytes grow with their number, and memberlist
// does it less often: every 30 s times ceil(log2 n) - 4 (pushPullScale). Ages grow
// with the interval that the budget leaves to each host, arrivals with the
// logarithm of the number of hosts.
func (c cluster) at(n int) cluster {
	scale := func(n int) float64 { return max(1, math.Ceil(math.Log2(float64(n)))-4) }
	out := c
	out.Hosts, out.Queue = n, 0
	out.BudgetPerS = mesh.Budget(64, n)
	out.IntervalS = 4 * float64(n) / out.BudgetPerS
	out.DigestsPerS = c.DigestsPerS * out.BudgetPerS / c.BudgetPerS
	out.StreamBytes = c.StreamBytes * float64(n) / float64(c.Hosts) * scale(c.Hosts) / scale(n)
	grow := out.IntervalS / c.IntervalS
	out.AgeMedianS, out.AgeP99S = c.AgeMedianS*grow, c.AgeP99S*grow
	slower := math.Log(float64(n)) / math.Log(float64(c.Hosts))
	out.ArriveMedianS, out.ArriveP99S = c.ArriveMedianS*slower, c.ArriveP99S*slower
	return out
}

func last(text []byte, n int) string {
	text = bytes.TrimSpace(text)
	return string(text[max(0, len(text)-n):])
}
