package mesh

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Figures are what gossip costs each host of a cluster of real Serf nodes whose
// state changes all the time, and how old their digests are. All per host and
// second of virtual time. It is one line of JSON for `make bench-mesh`.
type Figures struct {
	Hosts         int     `json:"hosts"`
	PacketsPerS   float64 `json:"packets_per_s"`
	PacketBytes   float64 `json:"packet_bytes_per_s"` // UDP payload that a host sends
	StreamBytes   float64 `json:"stream_bytes_per_s"` // push/pull, both ways of the streams that it opens
	DigestsPerS   float64 `json:"digests_per_s"`      // of the whole cluster
	BudgetPerS    float64 `json:"budget_per_s"`       // of the whole cluster; a quarter is for digests
	IntervalS     float64 `json:"interval_s"`         // shortest time between two digests of a host
	AgeMedianS    float64 `json:"digest_age_median_s"`
	AgeP99S       float64 `json:"digest_age_p99_s"`
	ArriveMedianS float64 `json:"digest_arrival_median_s"` // from the sender to a peer
	ArriveP99S    float64 `json:"digest_arrival_p99_s"`
	Queue         int     `json:"queue_max"`
}

// TestFigures measures a cluster of 10 hosts; HEADROOM_MESH_HOSTS=10,100,200
// measures others and prints a line of JSON for each.
func TestFigures(t *testing.T) {
	sizes := []int{10}
	if s := os.Getenv("HEADROOM_MESH_HOSTS"); s != "" {
		sizes = nil
		for part := range strings.SplitSeq(s, ",") {
			n, err := strconv.Atoi(part)
			if err != nil || n < 2 || n > 1000 {
				t.Fatalf("HEADROOM_MESH_HOSTS=%s: want numbers of 2..1000", s)
			}
			sizes = append(sizes, n)
		}
	}
	for _, n := range sizes {
		var f Figures
		bubble(t, func(t *testing.T, w *world) { f = measure(t, w, n) })
		if limit := f.BudgetPerS * digestShare; f.DigestsPerS > limit || f.Queue > maxQueue {
			t.Errorf("%d hosts: %.2f digests/s, at most %.2f; queue %d", n, f.DigestsPerS, limit, f.Queue)
		}
		if most := 1.25*f.IntervalS + 75; f.AgeP99S > most {
			t.Errorf("%d hosts: p99 of the digests' age %.0f s, at most %.0f", n, f.AgeP99S, most)
		}
		line, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("figures %s\n", line)
	}
}

// told is when a host published which digest.
type told map[HostID]map[uint32]time.Time

func measure(t *testing.T, w *world, n int) Figures {
	started := time.Now()
	all := w.startAll(n)
	t.Logf("%d hosts see each other after %v", n, time.Since(started).Round(100*time.Millisecond))
	told := told{}
	interval := minInterval(n)
	change := func(i int) {
		for _, m := range all {
			sent, err := m.PublishDigest(Digest{ValidFor: maxValid, Free: [4]uint8{uint8(i), uint8(2 * i)}})
			if err != nil {
				t.Fatal(err)
			}
			if sent {
				if told[m.Self()] == nil {
					told[m.Self()] = map[uint32]time.Time{}
				}
				told[m.Self()][m.pub.seq] = time.Now()
			}
		}
	}
	begin := time.Now()
	// The window begins between the first digests, which all tell at once, and the
	// second, and holds as much as lies between two: with up to a quarter more than
	// the interval, an eighth on average.
	warm := int((30*time.Second + interval/2).Seconds())
	for i := range warm {
		change(i)
		time.Sleep(time.Second)
	}
	before, lasting := w.traffic(), max(2*time.Minute, interval*9/8)
	f := Figures{Hosts: n, BudgetPerS: Budget(maxDigest, n), IntervalS: interval.Seconds()}
	var ages []float64
	for i := range int(lasting.Seconds()) {
		change(warm + i)
		f.Queue = max(f.Queue, all[i%n].Stats().QueueDepth)
		if i%10 == 9 {
			ages = append(ages, digestAges(all, told)...)
		}
		time.Sleep(time.Second)
	}
	after := w.traffic()
	per := lasting.Seconds() * float64(n)
	f.PacketsPerS = float64(after.packets-before.packets) / per
	f.PacketBytes = float64(after.packetBytes-before.packetBytes) / per
	f.StreamBytes = float64(after.streamBytes-before.streamBytes) / per
	// From the first on, which all hosts told at once and which do not count: a
	// window of two or three intervals would see some of them once too often.
	f.DigestsPerS = float64(digestsSent(all)-uint64(n)) / time.Since(begin).Seconds()
	f.AgeMedianS, f.AgeP99S = quantile(ages, 0.5), quantile(ages, 0.99)
	arrivals := arrivalTimes(all, told)
	f.ArriveMedianS, f.ArriveP99S = quantile(arrivals, 0.5), quantile(arrivals, 0.99)
	stopAll(t, all...)
	return f
}

func digestsSent(all []*Mesh) (n uint64) {
	for _, m := range all {
		n += m.Stats().DigestsSent
	}
	return n
}

// digestAges is how long ago what each host knows of each other was told.
func digestAges(all []*Mesh, told told) []float64 {
	var out []float64
	now := time.Now()
	for _, m := range all {
		m.mu.Lock()
		for id, h := range m.digests {
			if at, ok := told[id][h.digest.Seq]; ok && id != m.Self() {
				out = append(out, now.Sub(at).Seconds())
			}
		}
		m.mu.Unlock()
	}
	return out
}

// arrivalTimes is how long the newest digests were on their way.
func arrivalTimes(all []*Mesh, told told) []float64 {
	var out []float64
	for _, m := range all {
		m.mu.Lock()
		for id, h := range m.digests {
			if at, ok := told[id][h.digest.Seq]; ok && id != m.Self() {
				out = append(out, h.at.Sub(at).Seconds())
			}
		}
		m.mu.Unlock()
	}
	return out
}

func quantile(list []float64, q float64) float64 {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[int(q*float64(len(list)-1))]
}

// TestViewConverges: within one push/pull after a partition heals and its packets
// are lost no more, every host knows every other and its newest digest.
func TestViewConverges(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := w.startAll(12)
		w.setLoss(0.2)
		w.setCuts(half(5))
		time.Sleep(2 * time.Minute)
		for i, m := range all { // told while nobody of the other side hears it
			if _, err := m.PublishDigest(Digest{ValidFor: 10 * time.Minute, Free: [4]uint8{uint8(i + 1)}}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		w.setLoss(0)
		w.setCuts(func(a, b netip.Addr) bool { return false })
		took := w.await(pushPull+30*time.Second, "all know all and their digests", func() bool {
			for _, m := range all {
				for i, x := range m.Members() {
					if x.Status != StatusAlive || x.ID != m.Self() && (!x.HasDigest || x.Digest.Free[0] != uint8(i+1)) {
						return false
					}
				}
			}
			return true
		})
		t.Logf("converged %v after the partition healed", took)
		stopAll(t, all...)
	})
}
