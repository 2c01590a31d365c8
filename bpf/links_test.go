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
	l, err := OpenLinks()
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
	got := map[string]LinkStats{"gone": {RxBytes: 1}}
	var before, after LinkStats
	until(t, "the loopback to be still", func() bool {
		before = sysfsStats(t, "lo")
		if err := l.Read(got); err != nil {
			t.Fatal(err)
		}
		after = sysfsStats(t, "lo")
		return before == after
	})
	if got["lo"] != after {
		t.Errorf("loopback is %+v, sysfs says %+v", got["lo"], after)
	}
	for _, i := range ifs {
		if _, ok := got[i.Name]; !ok {
			t.Errorf("%s is missing", i.Name)
		}
	}
	if _, ok := got["gone"]; ok {
		t.Error("an interface that is gone stays")
	}
	conn, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := l.Read(got); err != nil {
		t.Fatal(err)
	}
	if got["lo"].TxBytes < after.TxBytes+1000 || got["lo"].RxPackets <= after.RxPackets {
		t.Errorf("1000 bytes sent show as %+v after %+v", got["lo"], after)
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
	l := openLinks(t)
	m := map[string]LinkStats{}
	read := func() {
		if err := l.Read(m); err != nil {
			t.Fatal(err)
		}
	}
	read()
	// Enough reads to see the names asked for anew.
	if n := testing.AllocsPerRun(2*refreshNames, read); n != 0 {
		t.Errorf("%v allocations a read", n)
	}
}

func TestLinksClosed(t *testing.T) {
	l := openLinks(t)
	for range 2 {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := l.Read(map[string]LinkStats{}); !errors.Is(err, ErrClosed) {
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
	l := &Links{links: map[uint32]*linkEntry{}, seq: 7}
	datagram := append(message(unix.RTM_NEWSTATS, 7, statsOf(3, 25)), message(unix.RTM_NEWSTATS, 6, statsOf(4, 25))...)
	datagram = append(datagram, message(unix.RTM_NEWSTATS, 7, statsOf(5, 4))...)
	done, disturbed, err := l.parse(append(datagram, message(unix.NLMSG_DONE, 7, make([]byte, 4))...))
	if !done || disturbed || err != nil {
		t.Fatal(done, disturbed, err)
	}
	want := LinkStats{RxPackets: 1, TxPackets: 2, RxBytes: 3, TxBytes: 4, RxDropped: 7, TxDropped: 8}
	if len(l.links) != 1 || l.links[3].stats != want {
		t.Errorf("took %+v: not just the one whole answer to this request", l.links)
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
		l := &Links{links: map[uint32]*linkEntry{}, seq: 7}
		_, _, _ = l.parse(b)
		if len(l.links) > len(b)/(nlHeader+statsHeader+4+minLinkStats) {
			t.Errorf("%d links from %d bytes", len(l.links), len(b))
		}
	})
}
