package image

import (
	"fmt"
	"io"
)

// File types of a cpio entry, as in stat(2).
const (
	typeDir  = 0o040000
	typeChar = 0o020000
	typeFile = 0o100000
)

// cpioWriter writes a «newc» archive, the one format that the kernel unpacks.
type cpioWriter struct {
	w   io.Writer
	ino int
	err error
}

// entry adds a file. dev is the device's major and minor number, of devices.
func (c *cpioWriter) entry(name string, mode int, dev [2]int, data []byte) {
	c.ino++
	head := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		c.ino, mode, 0, 0, 1, 0, len(data), 0, 0, dev[0], dev[1], len(name)+1, 0, name)
	c.padded([]byte(head))
	c.padded(data)
}

// padded writes to the next multiple of four bytes.
func (c *cpioWriter) padded(b []byte) {
	if c.err != nil {
		return
	}
	if _, c.err = c.w.Write(b); c.err == nil {
		_, c.err = c.w.Write(make([]byte, (4-len(b)%4)%4))
	}
}

// close writes the end mark and returns the first error.
func (c *cpioWriter) close() error {
	c.entry("TRAILER!!!", 0, [2]int{}, nil)
	return c.err
}
