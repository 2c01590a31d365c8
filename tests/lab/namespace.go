package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// onThread runs fn on a thread that is thrown away afterwards, so that the
// namespaces that fn moves it to stay its own.
func onThread(fn func() error) error {
	done := make(chan error)
	go func() {
		// Never unlocked: the runtime ends the thread with the goroutine.
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			// The main thread cannot be thrown away: hold it here, so that
			// the next goroutine is on another.
			defer runtime.UnlockOSThread()
			done <- onThread(fn)
			return
		}
		done <- fn()
	}()
	return <-done
}

func threadNS(kind string) string {
	return fmt.Sprintf("/proc/%d/task/%d/ns/%s", os.Getpid(), unix.Gettid(), kind)
}

// inNet runs fn in a pinned network namespace.
func inNet(pin string, fn func() error) error {
	return onThread(func() error {
		fd, err := unix.Open(pin, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", pin, err)
		}
		defer unix.Close(fd)
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter %s: %w", pin, err)
		}
		return fn()
	})
}

// newNet makes and pins a network namespace.
func newNet(pin string) error {
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("new network namespace: %w", err)
		}
		return pinFile(threadNS("net"), pin)
	})
}

// switchBridge is the lab's switch, in a namespace of its own; guestBridge is
// each host's, for the taps of its guests.
const (
	switchBridge = "sw0"
	guestBridge  = "vmbr0"
	uplink       = "eth0"
)

// makeSwitch makes the lab's switch.
func (l *Lab) makeSwitch() error {
	pin := l.netPin("switch")
	if err := newNet(pin); err != nil {
		return err
	}
	return inNet(pin, func() error { return addBridge(switchBridge) })
}

func addBridge(name string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return fmt.Errorf("bridge %s: %w", name, err)
	}
	return setUp(name)
}

func setUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("link %s up: %w", name, err)
	}
	return nil
}

// makeNamespaces makes a host's namespaces and pins them. The mount namespace
// is pinned last: what is not pinned goes with the thread.
func (h *Host) makeNamespaces() error {
	l := h.lab
	if err := newNet(l.netPin(h.name)); err != nil {
		return err
	}
	if err := h.plug(); err != nil {
		return err
	}
	// The pins are made outside of the new mount namespace, by this thread.
	entered, leave := make(chan string), make(chan struct{})
	result := make(chan error, 1)
	go func() {
		result <- inNet(l.netPin(h.name), func() error {
			if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWUTS); err != nil {
				return fmt.Errorf("new mount and UTS namespaces: %w", err)
			}
			if err := unix.Sethostname([]byte(h.name)); err != nil {
				return err
			}
			if err := h.mountAll(); err != nil {
				return err
			}
			entered <- fmt.Sprintf("/proc/%d/task/%d/ns/", os.Getpid(), unix.Gettid())
			<-leave
			return nil
		})
	}()
	select {
	case err := <-result:
		return err
	case ns := <-entered:
		err := pinFile(ns+"uts", l.utsPin(h.name))
		if err == nil {
			err = pinFile(ns+"mnt", l.mountPin(h.name))
		}
		close(leave)
		if e := <-result; err == nil {
			err = e
		}
		return err
	}
}

// plug joins the host to the switch and gives it its links.
func (h *Host) plug() error {
	hostNS, err := unix.Open(h.lab.netPin(h.name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(hostNS)
	err = inNet(h.lab.netPin("switch"), func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = h.name
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: uplink, PeerNamespace: netlink.NsFd(hostNS)}
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("link to %s: %w", h.name, err)
		}
		return setUp(h.name)
	})
	if err != nil {
		return err
	}
	if err := h.setPort(true); err != nil {
		return err
	}
	return inNet(h.lab.netPin(h.name), func() error {
		link, err := netlink.LinkByName(uplink)
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(h.addr + "/24")
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("address %s: %w", h.addr, err)
		}
		if err := setUp("lo"); err != nil {
			return err
		}
		if err := setUp(uplink); err != nil {
			return err
		}
		return addBridge(guestBridge)
	})
}

// setPort joins the host's port to the switch, or parts it. A parted port
// keeps its carrier: the host notices nothing but silence.
func (h *Host) setPort(joined bool) error {
	return inNet(h.lab.netPin("switch"), func() error {
		port, err := netlink.LinkByName(h.name)
		if err != nil {
			return fmt.Errorf("port of %s: %w", h.name, err)
		}
		if !joined {
			return netlink.LinkSetNoMaster(port)
		}
		bridge, err := netlink.LinkByName(switchBridge)
		if err != nil {
			return err
		}
		return netlink.LinkSetMaster(port, bridge)
	})
}

// ownTrees are the folders of a host that are its own: inside the host, and
// below its folder in the lab's state.
var ownTrees = [][2]string{
	{"/etc/libvirt", "etc-libvirt"},
	{"/var/lib/libvirt", "lib-libvirt"},
	{"/var/cache/libvirt", "cache-libvirt"},
	{"/var/log/libvirt", "log-libvirt"},
	{"/etc/machine-id", "machine-id"},
	{"/etc/hosts", "hosts"},
	{"/etc/hostname", "hostname"},
	{"/run", "run"}, // last: it hides the lab's state
}

// mountAll gives the calling thread's mount namespace the host's own folders,
// and a sysfs that shows the host's network.
func (h *Host) mountAll() error {
	// Slave: the machine's unmounts reach the host, never the other way.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return err
	}
	var trees overlay
	defer trees.close()
	tops, err := sysMounts()
	if err != nil {
		return err
	}
	for _, top := range tops {
		if err := trees.add(top, top, true); err != nil {
			return err
		}
	}
	for _, own := range ownTrees {
		if err := trees.add(filepath.Join(h.dir, own[1]), own[0], false); err != nil {
			return err
		}
	}
	// Copies of labs' pins would keep their namespaces alive from in here, until
	// the pins' files are removed.
	if err := detachUnder(runRoot); err != nil {
		return err
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("sysfs of %s: %w", h.name, err)
	}
	return trees.attach()
}

// Outside is where a file of the host is found outside of it: the same path,
// but for the folders that are the host's own (/run, /etc/libvirt, ...).
func (h *Host) Outside(path string) string {
	path = filepath.Clean(path)
	path = strings.Replace(path, "/var/run/", "/run/", 1)
	for _, own := range ownTrees {
		if path == own[0] || strings.HasPrefix(path, own[0]+"/") {
			return filepath.Join(h.dir, own[1], strings.TrimPrefix(path, own[0]))
		}
	}
	return path
}
