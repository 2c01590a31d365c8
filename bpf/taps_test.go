package bpf

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// openTapLinks opens the links of this namespace with BPF, or skips.
func openTapLinks(t *testing.T) *Links {
	t.Helper()
	l := openLinks(t)
	if l.Tier() != TierSyscall {
		skipOr(t, "taps cannot be read by BPF here: %v", l.Refused())
	}
	return l
}

func openReference(t *testing.T) *Links {
	t.Helper()
	l, err := OpenLinks(Options{Tiers: []Tier{TierNetlink}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if l.Tier() != TierNetlink || len(l.Refused()) != 0 {
		t.Fatalf("netlink alone was asked for: tier %s, %v", l.Tier(), l.Refused())
	}
	return l
}

func read(t *testing.T, l *Links) {
	t.Helper()
	if err := l.Read(); err != nil {
		t.Fatal(err)
	}
}

// sameAsNetlink reads when netlink tells the same before and after, and compares.
func sameAsNetlink(t *testing.T, l, netlink *Links, name string) LinkStats {
	t.Helper()
	var got, want LinkStats
	until(t, name+" to be still", func() bool {
		read(t, netlink)
		before, _ := netlink.Stats(name)
		read(t, l)
		var ok bool
		if got, ok = l.Stats(name); !ok {
			t.Fatalf("%s is missing", name)
		}
		read(t, netlink)
		want, _ = netlink.Stats(name)
		return before == want
	})
	if got != want {
		t.Errorf("%s: %+v, netlink says %+v", name, got, want)
	}
	return got
}

func TestTapsTellWhatNetlinkTells(t *testing.T) {
	inOwnNamespace(t)
	l, netlink := openTapLinks(t), openReference(t)
	busy, idle := newTap(t, "vnet0"), newTap(t, "vnet1")
	if busy.send(3, 100) != 0 {
		t.Fatal("a tap that is down takes frames")
	}
	if got := sameAsNetlink(t, l, netlink, "vnet0"); got.RxDropped != 3 || got.RxPackets != 0 {
		t.Errorf("3 frames to a tap that is down: %+v", got)
	}
	ip(t, "link", "set", "vnet0", "up", "txqueuelen", "4")
	onEachCPU(t, func() {
		busy.send(50, 200)
		busy.receive(t, 20, 300) // 4 at a time fit
	})
	got := sameAsNetlink(t, l, netlink, "vnet0")
	frames := uint64(50 * runtime.NumCPU())
	if got.RxPackets != frames || got.RxBytes != frames*200 && got.RxBytes != frames*(200-14) {
		t.Errorf("%d frames of 200 bytes from the guest: %+v", frames, got)
	}
	if got.TxPackets == 0 || got.TxBytes < 300*4 || got.TxDropped == 0 {
		t.Errorf("more frames to the guest than its queue holds: %+v", got)
	}
	if got := sameAsNetlink(t, l, netlink, "vnet1"); got != (LinkStats{}) {
		t.Errorf("nobody uses %s: %+v", idle.name, got)
	}
	if l.Tier() != TierSyscall || l.Len() != 3 {
		t.Errorf("tier %s, %d interfaces, want vnet0, vnet1 and lo: %v", l.Tier(), l.Len(), l.Refused())
	}
}

// onEachCPU runs f on every CPU that this thread may use, one after the other.
func onEachCPU(t *testing.T, f func()) {
	t.Helper()
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.SchedSetaffinity(0, &all) }()
	for cpu := range runtime.NumCPU() {
		var one unix.CPUSet
		one.Set(cpu)
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			t.Fatal(err)
		}
		f()
	}
}

// What the program reads lies between two dumps also while packets flow.
func TestTapsUnderTraffic(t *testing.T) {
	inOwnNamespace(t)
	busy := newTap(t, "vnet0")
	ip(t, "link", "set", "vnet0", "up")
	l := openTapLinks(t)
	stop := make(chan bool)
	var guest sync.WaitGroup
	for range 2 {
		guest.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					busy.send(100, 60)
				}
			}
		})
	}
	var last LinkStats
	reads := 0
	until(t, "300 readings under traffic", func() bool {
		l.due = true // hold each against netlink
		read(t, l)
		got, _ := l.Stats("vnet0")
		if !last.within(&got) {
			t.Errorf("%+v after %+v", got, last)
		}
		if got != last {
			reads++
		}
		last = got
		return reads == 300 || t.Failed() || l.Tier() != TierSyscall
	})
	close(stop)
	guest.Wait()
	if l.Tier() != TierSyscall {
		t.Errorf("tier %s, %+v: %v", l.Tier(), last, l.Refused())
	}
}

// Interfaces that are no taps are counted in ways of their own.
func TestOtherInterfacesComeFromNetlink(t *testing.T) {
	inOwnNamespace(t)
	l, netlink := openTapLinks(t), openReference(t)
	ip(t, "link", "set", "lo", "up")
	ip(t, "link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
	ip(t, "link", "add", "link", "veth0", "name", "macvtap0", "type", "macvtap")
	for _, name := range []string{"veth0", "veth1", "macvtap0"} {
		ip(t, "link", "set", name, "up")
	}
	newTap(t, "vnet0")
	transmit(t, "veth0", 5, 100)
	for _, name := range []string{"lo", "veth0", "veth1", "macvtap0", "vnet0"} {
		got := sameAsNetlink(t, l, netlink, name)
		_, isTap := l.taps.stats(name)
		if isTap != (name == "vnet0") {
			t.Errorf("%s is taken for a tap: %v", name, isTap)
		}
		// Its queue may not be there yet: then they are lost.
		if name == "veth0" && got.TxPackets+got.TxDropped < 5 {
			t.Errorf("5 frames out of %s show as %+v", name, got)
		}
	}
	if _, ok := l.Stats("nobody"); ok {
		t.Error("knows what there is not")
	}
}

func TestTapsComeGoAndAreRenamed(t *testing.T) {
	inOwnNamespace(t)
	l := openTapLinks(t)
	want := func(names ...string) {
		t.Helper()
		read(t, l)
		if l.Len() != len(names)+1 || len(l.taps.byName) != len(names) {
			t.Errorf("%d interfaces, taps %v, want %v", l.Len(), l.taps.byName, names)
		}
		for _, name := range names {
			got, ok := l.Stats(name)
			if !ok || got.RxDropped != uint64(len(name)) {
				t.Errorf("%s: %v, %+v", name, ok, got)
			}
		}
	}
	// A tap is told by its counters: as many frames lost as its name has letters.
	make := func(name string) *tap {
		dev := newTap(t, name)
		dev.send(len(name), 60)
		return dev
	}
	want()
	first := make("a")
	make("vnet")
	want("a", "vnet")
	make("vnet2")
	first.remove()
	want("vnet", "vnet2")
	want("vnet", "vnet2")
	ip(t, "link", "set", "vnet", "name", "tap9")
	want("tap9", "vnet2")
	if _, ok := l.Stats("vnet"); ok {
		t.Error("a name outlives its tap")
	}
}

// A program that counted wrong would be believed no longer than to the next check.
func TestWrongTapsFallBackToNetlink(t *testing.T) {
	inOwnNamespace(t)
	dev := newTap(t, "vnet0")
	ip(t, "link", "set", "vnet0", "up")
	l, netlink := openTapLinks(t), openReference(t)
	onEachCPU(t, func() { dev.send(10, 60) })
	sameAsNetlink(t, l, netlink, "vnet0")
	l.taps.header.Cpus = 0 // it forgets every CPU's share
	for range checkEvery {
		read(t, l)
	}
	if got := sameAsNetlink(t, l, netlink, "vnet0"); got.RxPackets != uint64(10*runtime.NumCPU()) {
		t.Errorf("%+v", got)
	}
	refused := l.Refused()
	if l.Tier() != TierNetlink || len(refused) != 1 || refused[0].Tier != TierSyscall ||
		!errors.Is(refused[0].Err, ErrNotSupported) || !strings.Contains(refused[0].Err.Error(), "vnet0") {
		t.Errorf("tier %s, refused %v", l.Tier(), refused)
	}
}

// The namespace is that of opening, whoever reads.
func TestLinksStayInTheirNamespace(t *testing.T) {
	outside := openLinks(t)
	inOwnNamespace(t)
	l := openTapLinks(t)
	name := fmt.Sprintf("t%d", os.Getpid())
	newTap(t, name)
	read(t, outside)
	if _, ok := outside.Stats(name); ok {
		t.Error("sees another namespace's tap")
	}
	done := make(chan error)
	go func() { done <- l.Read() }() // on a thread of the first namespace
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, ok := l.taps.stats(name); !ok || l.Tier() != TierSyscall {
		t.Errorf("does not see its own: %v", l.Refused())
	}
}

func TestVouch(t *testing.T) {
	record := func(index uint32, n uint64) tapRecord {
		return tapRecord{Index: index, RxBytes: n, TxBytes: n, RxPackets: n, TxPackets: n, RxDropped: n, TxDropped: n}
	}
	before, after := []tapRecord{record(7, 10), record(5, 20)}, []tapRecord{record(7, 15), record(5, 20)}
	table := linkTable{links: []linkEntry{{index: 1}, {index: 5}, {index: 7}}}
	set := func(i int, n uint64) { r := record(0, n); table.links[i].stats = tapStats(&r) }
	set(1, 20)
	for n, good := range map[uint64]bool{9: false, 10: true, 15: true, 16: false} {
		set(2, n)
		if err := table.vouch(before, after); (err == nil) != good {
			t.Errorf("%d between 10 and 15: %v", n, err)
		}
	}
	set(2, 12)
	for _, field := range []*uint64{
		&table.links[1].stats.RxBytes, &table.links[1].stats.TxBytes, &table.links[1].stats.RxPackets,
		&table.links[1].stats.TxPackets, &table.links[1].stats.RxDropped, &table.links[1].stats.TxDropped,
	} {
		*field++
		if table.vouch(before, after) == nil {
			t.Error("one counter is too high, and nobody minds")
		}
		*field--
	}
	table.links = table.links[:2]
	if err := table.vouch(before, after); !errors.Is(err, ErrNotSupported) {
		t.Errorf("netlink does not list it: %v", err)
	}
}
