package main

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// bareDump asks the kernel for the same dump as Links does and looks at nothing
// in it but the end: what no reader of RTM_GETSTATS can do without.
type bareDump struct {
	fd      int
	request []byte
	buf     []byte
}

func openBareDump() (*bareDump, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	order := binary.NativeEndian
	b := make([]byte, unix.SizeofNlMsghdr+12) // with struct if_stats_msg
	order.PutUint32(b, uint32(len(b)))
	order.PutUint16(b[4:], unix.RTM_GETSTATS)
	order.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	order.PutUint32(b[unix.SizeofNlMsghdr+8:], 1) // IFLA_STATS_LINK_64
	return &bareDump{fd: fd, request: b, buf: make([]byte, 64<<10)}, nil
}

func (d *bareDump) read() error {
	if _, err := unix.Write(d.fd, d.request); err != nil {
		return err
	}
	for {
		n, err := unix.Read(d.fd, d.buf)
		if err != nil {
			return err
		}
		if n < unix.SizeofNlMsghdr {
			return errors.New("short netlink message")
		}
		// The end comes in a datagram of its own or as the last of one's messages.
		const end = unix.SizeofNlMsghdr + 4
		last := d.buf[max(0, n-end):]
		if order := binary.NativeEndian; order.Uint32(last) == end && order.Uint16(last[4:]) == unix.NLMSG_DONE {
			return nil
		}
	}
}

func (d *bareDump) close() error { return unix.Close(d.fd) }
