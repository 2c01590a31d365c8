package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"headroom/bpf"
)

// network is a network namespace with taps, and the ways to read them. The
// sockets and files stay in the namespace that they were opened in.
type network struct {
	links   *bpf.Links
	dump    *bpf.Links // the same by netlink alone
	bare    *bareDump
	procFD  int
	buf     []byte
	release chan bool
}

// openNetwork makes a namespace with n taps; it ends with the thread that holds
// it.
func openNetwork(n int) (*network, error) {
	net := &network{buf: make([]byte, 64<<10), release: make(chan bool)}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends, and the namespace
		err := net.enter(n)
		ready <- err
		if err == nil {
			<-net.release
		}
	}()
	return net, <-ready
}

func (net *network) enter(n int) (err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("new network namespace: %w", err)
	}
	var batch strings.Builder
	for i := range n {
		fmt.Fprintf(&batch, "tuntap add dev vnet%d mode tap\n", i)
	}
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(batch.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make taps: %w: %s", err, out)
	}
	if net.procFD, err = unix.Open("/proc/thread-self/net/dev", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	if net.bare, err = openBareDump(); err != nil {
		return err
	}
	if net.dump, err = bpf.OpenLinks(bpf.Options{Tiers: []bpf.Tier{bpf.TierNetlink}}); err != nil {
		return err
	}
	net.links, err = bpf.OpenLinks(bpf.Options{})
	return err
}

func (net *network) close() error {
	close(net.release)
	return errors.Join(net.links.Close(), net.dump.Close(), net.bare.close(), unix.Close(net.procFD))
}

// readDev reads /proc/net/dev whole through a descriptor kept open.
func (net *network) readDev() error {
	for at := int64(0); ; {
		n, err := unix.Pread(net.procFD, net.buf, at)
		if err != nil || n == 0 {
			return err
		}
		at += int64(n)
	}
}

// tapReads are so many that each round has one of the readings that are held
// against netlink.
const tapReads, coldTapReads = 64, 5

func measureNetwork(ctx context.Context, rounds int, r *report, net *network) error {
	for _, l := range []*bpf.Links{net.links, net.dump} {
		if err := l.Read(); err != nil {
			return err
		}
		if l.Len() < manyVMs {
			return fmt.Errorf("%d interfaces seen of %d taps by tier %s", l.Len(), manyVMs, l.Tier())
		}
	}
	perTap := func(measure func(int, func() error) (time.Duration, error), n int, call func() error) func() (float64, error) {
		return func() (float64, error) {
			d, err := measure(n, call)
			return micros(d) / manyVMs, err
		}
	}
	hot, err := takeTurns(ctx, rounds,
		method{ours, perTap(cpuOf, tapReads, net.links.Read)},
		method{"dump", perTap(cpuOf, tapReads, net.dump.Read)},
		method{"floor", perTap(cpuOf, tapReads, net.bare.read)},
		method{"dev", perTap(cpuOf, tapReads, net.readDev)})
	if err != nil {
		return err
	}
	cold, err := takeTurns(ctx, rounds,
		method{ours, perTap(coldCPUOf, coldTapReads, net.links.Read)},
		method{"dump", perTap(coldCPUOf, coldTapReads, net.dump.Read)})
	if err != nil {
		return err
	}
	r.add("net_us_per_tap", "network: headroom tier "+string(net.links.Tier())+", 200 taps", "us a tap", hot[ours], atMost(0.3))
	r.add("", "network: RTM_GETSTATS dump", "us a tap", hot["dump"], nil)
	r.add("", "network: the same dump not looked at, the floor of netlink", "us a tap", hot["floor"], nil)
	r.add("", "network: /proc/net/dev kept open, not parsed", "us a tap", hot["dev"], nil)
	r.add("", "network: RTM_GETSTATS dump / headroom", "times", hot["dump"].over(hot[ours]), nil)
	r.add("", "network, cold: headroom", "us a tap", cold[ours], nil)
	r.add("", "network, cold: RTM_GETSTATS dump", "us a tap", cold["dump"], nil)
	return nil
}
