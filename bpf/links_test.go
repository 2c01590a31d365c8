package bpf

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func openLinks(t testing.TB) *Links {
	t.Helper()
	l, err := OpenLinks(Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestLinksTellWhatSysfsTells(t *testing.T) {
	l := openLinks(t)
	ifs, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var before, after LinkStats
	until(t, "the loopback to be still", func() bool {
		before = sysfsStats(t, "lo")
		if err := l.Read(); err != nil {
			t.Fatal(err)
		}
		after = sysfsStats(t, "lo")
		return before == after
	})
	if got, _ := l.Stats("lo"); got != after {
		t.Errorf("loopback is %+v, sysfs says %+v", got, after)
	}
	for _, i := range ifs {
		if _, ok := l.Stats(i.Name); !ok {
			t.Errorf("%s is missing", i.Name)
		}
	}
	conn, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := l.Read(); err != nil {
		t.Fatal(err)
	}
	if got, _ := l.Stats("lo"); got.TxBytes < after.TxBytes+1000 || got.RxPackets <= after.RxPackets {
		t.Errorf("1000 bytes sent show as %+v after %+v", got, after)
	}
}

func sysfsStats(t *testing.T, name string) LinkStats {
	t.Helper()
	read := func(file string) uint64 {
		text, err := os.ReadFile(filepath.Join("/sys/class/net", name, "statistics", file))
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return LinkStats{
		RxBytes: read("rx_bytes"), TxBytes: read("tx_bytes"),
		RxPackets: read("rx_packets"), TxPackets: read("tx_packets"),
		RxDropped: read("rx_dropped"), TxDropped: read("tx_dropped"),
	}
}

func TestLinksAllocateNothing(t *testing.T) {
	inOwnNamespace(t)
	newTap(t, "vnet0")
	for _, l := range []*Links{openLinks(t), openReference(t)} {
		pass := func() {
			read(t, l)
			for _, name := range []string{"vnet0", "lo"} {
				if _, ok := l.Stats(name); !ok {
					t.Fatalf("%s is missing", name)
				}
			}
		}
		pass()
		// Enough to see the taps checked and the names asked for anew.
		if n := testing.AllocsPerRun(2*refreshNames, pass); n != 0 {
			t.Errorf("%v allocations a read by tier %s", n, l.Tier())
		}
	}
}

func TestLinksClosed(t *testing.T) {
	l := openLinks(t)
	for range 2 {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := l.Read(); !errors.Is(err, ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
}

// message builds a netlink message.
func message(kind uint16, seq uint32, body []byte) []byte {
	b := make([]byte, nlHeader, nlHeader+len(body))
	binary.NativeEndian.PutUint32(b, uint32(nlHeader+len(body)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint32(b[8:], seq)
	return append(b, body...)
}

// statsOf builds an RTM_NEWSTATS body with the numbers 1.. in its fields.
func statsOf(index uint32, fields int) []byte {
	b := make([]byte, statsHeader+4+8*fields)
	binary.NativeEndian.PutUint32(b[4:], index)
	binary.NativeEndian.PutUint16(b[statsHeader:], uint16(4+8*fields))
	binary.NativeEndian.PutUint16(b[statsHeader+2:], statsLink64)
	for i := range fields {
		binary.NativeEndian.PutUint64(b[statsHeader+4+8*i:], uint64(i+1))
	}
	return b
}

func TestLinksParse(t *testing.T) {
	l := &linkDump{seq: 7}
	datagram := append(message(unix.RTM_NEWSTATS, 7, statsOf(3, 25)), message(unix.RTM_NEWSTATS, 6, statsOf(4, 25))...)
	datagram = append(datagram, message(unix.RTM_NEWSTATS, 7, statsOf(5, 4))...)
	done, disturbed, err := l.parse(append(datagram, message(unix.NLMSG_DONE, 7, make([]byte, 4))...))
	if !done || disturbed || err != nil {
		t.Fatal(done, disturbed, err)
	}
	want := LinkStats{RxPackets: 1, TxPackets: 2, RxBytes: 3, TxBytes: 4, RxDropped: 7, TxDropped: 8}
	if got := l.table.links; len(got) != 1 || got[0].index != 3 || got[0].stats != want {
		t.Errorf("took %+v: not just the one whole answer to this request", got)
	}
	refused := make([]byte, 4)
	errno := -int32(unix.EOPNOTSUPP)
	binary.NativeEndian.PutUint32(refused, uint32(errno))
	if _, _, err := l.parse(message(unix.NLMSG_ERROR, 7, refused)); !errors.Is(err, ErrNotSupported) {
		t.Errorf("refusal of the kernel: %v", err)
	}
}

func FuzzLinksParse(f *testing.F) {
	f.Add(message(unix.RTM_NEWSTATS, 7, statsOf(3, 25)))
	f.Add(message(unix.NLMSG_ERROR, 7, make([]byte, 4)))
	f.Add(message(unix.NLMSG_DONE, 7, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := &linkDump{seq: 7}
		_, _, _ = l.parse(b)
		if len(l.table.links) > len(b)/(nlHeader+statsHeader+4+minLinkStats) {
			t.Errorf("%d links from %d bytes", len(l.table.links), len(b))
		}
	})
}

func TestLinkTableFollowsTheDumps(t *testing.T) {
	var table linkTable
	for _, c := range []struct {
		listed  []uint32
		changed bool
	}{
		{[]uint32{1, 2, 3, 4}, true},
		{[]uint32{1, 2, 3, 4}, false},
		{[]uint32{1, 3, 4}, true},       // one went
		{[]uint32{1, 3, 9, 4}, true},    // one came in the middle
		{[]uint32{1, 3, 9, 4}, false},   // and stays there
		{[]uint32{1, 3, 9}, true},       // the last one went
		{[]uint32{9, 1, 3}, true},       // another order
		{[]uint32{9, 1, 3, 7, 8}, true}, // more at the end
		{nil, true},
		{nil, false},
	} {
		table.begin()
		for i, index := range c.listed {
			e := table.next(index)
			if e.index != index {
				t.Fatalf("%v: entry %d is of %d", c.listed, i, e.index)
			}
			if seen := e.stats.RxBytes; seen != 0 && seen != uint64(index) {
				t.Fatalf("%v: interface %d has the numbers of %d", c.listed, index, seen)
			}
			e.stats.RxBytes = uint64(index)
		}
		if changed := table.end(); changed != c.changed || len(table.links) != len(c.listed) {
			t.Errorf("%v: changed %v, %d entries", c.listed, changed, len(table.links))
		}
	}
	for index := range uint32(maxLinks) {
		table.next(index)
	}
	if table.next(maxLinks) != nil {
		t.Error("no limit")
	}
}
