package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// maxLinks limits the interfaces kept.
	maxLinks = 8192
	// refreshNames is how many reads a name is believed. Only a rename makes
	// one wrong: the kernel does not reuse an index.
	refreshNames = 64
	// dumpTries is how often a dump is asked for that the kernel says was
	// disturbed by a change.
	dumpTries = 3
)

// linkDump reads the counters of all interfaces from one netlink dump. It needs
// no right.
type linkDump struct {
	fd, ioctl int
	seq       uint32
	reads     int
	stale     bool // names are asked for anew by the next read
	table     linkTable
	byName    map[string]int // index in table
	buf       []byte
	request   [nlHeader + statsHeader]byte
}

// openLinkDump opens the netlink socket: in the network namespace of the calling
// thread, for good.
func openLinkDump() (*linkDump, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket (systemd: RestrictAddressFamilies=AF_NETLINK): %w", err)
	}
	l := &linkDump{fd: fd, ioctl: -1, byName: map[string]int{}, buf: make([]byte, 64<<10)}
	// The kernel answers at once; this only keeps a bug from blocking the agent.
	second := unix.Timeval{Sec: 1}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &second); err != nil {
		return nil, errors.Join(fmt.Errorf("set netlink timeout: %w", err), l.close())
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, errors.Join(fmt.Errorf("bind netlink socket: %w", err), l.close())
	}
	l.ioctl, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open socket for interface names: %w", err), l.close())
	}
	return l, nil
}

// read takes in every interface's counters. After an error none is known.
func (l *linkDump) read() error {
	if err := l.dump(); err != nil {
		l.table.forget()
		clear(l.byName)
		return err
	}
	l.reads++
	renamed := l.table.end()
	for i := range l.table.links {
		e := &l.table.links[i]
		if e.name != "" && !l.stale && l.reads%refreshNames != 0 {
			continue
		}
		was := e.name
		if err := l.resolve(e); err != nil {
			e.name = "" // gone since the dump
		}
		renamed = renamed || e.name != was
	}
	l.stale = false
	if renamed {
		clear(l.byName)
		for i := range l.table.links {
			if name := l.table.links[i].name; name != "" {
				l.byName[name] = i
			}
		}
	}
	return nil
}

func (l *linkDump) stats(name string) (LinkStats, bool) {
	i, ok := l.byName[name]
	if !ok {
		return LinkStats{}, false
	}
	return l.table.links[i].stats, true
}

// resolve asks the kernel for the name of an interface.
func (l *linkDump) resolve(e *linkEntry) error {
	var req struct { // struct ifreq
		name  [unix.IFNAMSIZ]byte
		index uint32
		_     [20]byte
	}
	req.index = e.index
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.ioctl), unix.SIOCGIFNAME, uintptr(unsafe.Pointer(&req)))
	if errno != 0 {
		return errno
	}
	name, _, _ := bytes.Cut(req.name[:], []byte{0})
	if string(name) != e.name { // a comparison allocates nothing
		e.name = string(name)
	}
	return nil
}

// dump asks for all statistics and takes the answers in.
func (l *linkDump) dump() error {
	for try := 1; ; try++ {
		if err := l.send(); err != nil {
			return err
		}
		disturbed, err := l.receive()
		if err != nil {
			return err
		}
		if !disturbed {
			return nil
		}
		if try == dumpTries {
			return errors.New("interfaces kept changing during the dump: try again")
		}
	}
}

const (
	nlHeader    = unix.SizeofNlMsghdr
	statsHeader = 12 // struct if_stats_msg
	statsLink64 = 1  // IFLA_STATS_LINK_64
	// minLinkStats is what is read of struct rtnl_link_stats64, which grows.
	minLinkStats = 8 * 8
)

func (l *linkDump) send() error {
	l.seq++
	l.table.begin()
	b := l.request[:]
	order := binary.NativeEndian
	order.PutUint32(b[0:], uint32(len(b)))
	order.PutUint16(b[4:], unix.RTM_GETSTATS)
	order.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	order.PutUint32(b[8:], l.seq)
	order.PutUint32(b[nlHeader+8:], 1<<(statsLink64-1))
	if _, err := unix.Write(l.fd, b); err != nil {
		return fmt.Errorf("ask the kernel: %w", err)
	}
	return nil
}

// receive reads answers to the latest request until the last one.
func (l *linkDump) receive() (disturbed bool, err error) {
	for {
		n, err := unix.Read(l.fd, l.buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("answer of the kernel: %w", err)
		}
		done, intr, err := l.parse(l.buf[:n])
		disturbed = disturbed || intr
		if done || err != nil {
			return disturbed, err
		}
	}
}

// parse takes in one datagram of answers.
func (l *linkDump) parse(b []byte) (done, disturbed bool, err error) {
	order := binary.NativeEndian
	for len(b) >= nlHeader {
		size := int(order.Uint32(b))
		if size < nlHeader || size > len(b) {
			return false, false, fmt.Errorf("netlink message of %d bytes in %d", size, len(b))
		}
		body := b[nlHeader:size]
		kind, flags, seq := order.Uint16(b[4:]), order.Uint16(b[6:]), order.Uint32(b[8:])
		b = b[min((size+3)&^3, len(b)):]
		if seq != l.seq {
			continue // left over from a request that timed out
		}
		disturbed = disturbed || flags&unix.NLM_F_DUMP_INTR != 0
		switch kind {
		case unix.NLMSG_DONE:
			return true, disturbed, nil
		case unix.NLMSG_ERROR:
			return true, disturbed, netlinkError(body)
		case unix.RTM_NEWSTATS:
			l.take(body)
		}
	}
	return false, disturbed, nil
}

func netlinkError(body []byte) error {
	if len(body) < 4 {
		return errors.New("short netlink error")
	}
	errno := unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
	if errno == unix.EOPNOTSUPP || errno == unix.EINVAL {
		return fmt.Errorf("%w: needs RTM_GETSTATS (mainline 4.7): %w", ErrNotSupported, errno)
	}
	return errno
}

// take stores the statistics of one RTM_NEWSTATS message.
func (l *linkDump) take(body []byte) {
	if len(body) < statsHeader {
		return
	}
	order := binary.NativeEndian
	index := order.Uint32(body[4:])
	for b := body[statsHeader:]; len(b) >= 4; {
		size, kind := int(order.Uint16(b)), order.Uint16(b[2:])
		if size < 4 || size > len(b) {
			return
		}
		if kind == statsLink64 && size >= 4+minLinkStats {
			l.store(index, b[4:size])
		}
		b = b[min((size+3)&^3, len(b)):]
	}
}

// store reads struct rtnl_link_stats64.
func (l *linkDump) store(index uint32, b []byte) {
	e := l.table.next(index)
	if e == nil {
		return
	}
	field := func(i int) uint64 { return binary.NativeEndian.Uint64(b[8*i:]) }
	e.stats = LinkStats{
		RxPackets: field(0), TxPackets: field(1),
		RxBytes: field(2), TxBytes: field(3),
		RxDropped: field(6), TxDropped: field(7),
	}
}

func (l *linkDump) close() error {
	var errs []error
	for _, fd := range []*int{&l.fd, &l.ioctl} {
		if *fd >= 0 {
			errs = append(errs, unix.Close(*fd))
			*fd = -1
		}
	}
	return errors.Join(errs...)
}
