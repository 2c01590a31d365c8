package bpf

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// inOwnNamespace gives the test's thread a network namespace, which ends with it.
func inOwnNamespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		skipOr(t, "needs root to make a network namespace")
	}
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	before, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setns(int(before.Fd()), unix.CLONE_NEWNET); err != nil {
			t.Error(err)
		}
		before.Close()
	})
}

// tap is a tap device that lives as long as its file.
type tap struct {
	name string
	fd   int
}

func newTap(t *testing.T, name string) *tap {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		skipOr(t, "no taps here: %v", err)
	}
	dev := &tap{name: name, fd: fd}
	t.Cleanup(dev.remove)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		t.Fatal(err)
	}
	return dev
}

func (dev *tap) remove() {
	if dev.fd >= 0 {
		unix.Close(dev.fd)
		dev.fd = -1
	}
}

// frame is an Ethernet frame of a protocol that nobody speaks.
func frame(size int) []byte {
	f := make([]byte, size)
	f[12], f[13] = 0x88, 0xb5
	return f
}

// send sends frames as a guest would: the host receives them.
func (dev *tap) send(n, size int) (sent int) {
	for range n {
		if _, err := unix.Write(dev.fd, frame(size)); err == nil {
			sent++
		}
	}
	return sent
}

// receive has the host send frames to the tap, and takes those in that came.
func (dev *tap) receive(t *testing.T, n, size int) {
	t.Helper()
	transmit(t, dev.name, n, size)
	for buf := make([]byte, 2048); ; {
		if _, err := unix.Read(dev.fd, buf); err != nil {
			return
		}
	}
}

// transmit sends frames out of an interface.
func transmit(t *testing.T, name string, n, size int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	to := unix.SockaddrLinklayer{Ifindex: indexOf(t, name)}
	for range n {
		if err := unix.Sendto(fd, frame(size), 0, &to); err != nil && !errors.Is(err, unix.ENOBUFS) {
			t.Fatal(err)
		}
	}
}

func indexOf(t *testing.T, name string) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
		t.Fatal(err)
	}
	return int(ifr.Uint32())
}

// ip runs one command of ip(8) in the test's namespace.
func ip(t *testing.T, words ...string) {
	t.Helper()
	if out, err := exec.Command("ip", words...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v: %s", words, err, out)
	}
}
