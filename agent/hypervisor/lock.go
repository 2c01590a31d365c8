package hypervisor

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// QEMU locks single bytes of an image, one for each permission that it uses or does
// not share with others (block/file-posix.c): a second QEMU that wants to write finds
// the byte of «writing is not shared» locked, and gives up. virtlockd locks the first
// byte for the one writer.
const (
	qemuUnsharedWrite = 200 + 1
	virtlockdByte     = 0
)

// judgeLock says whether the VM's disks refuse a second writer, so that it could not
// run on two hosts: every disk that is written to must be an image file on a shared
// file system that carries locks to other hosts, and locked now. The second open is
// tried on the kernel's lock table, without opening the image for writing.
func (d *Libvirt) judgeLock(dom *Domain) {
	dom.Locked, dom.LockWhy = true, ""
	written := 0
	for i := range dom.Disks {
		disk := &dom.Disks[i]
		if disk.Source == "" || disk.ReadOnly {
			continue
		}
		written++
		if err := d.lockProof(disk); err != nil {
			dom.Locked, dom.LockWhy = false, fmt.Sprintf("disk %s: %v", disk.Target, err)
			return
		}
	}
	if written == 0 {
		dom.Locked, dom.LockWhy = false, "it writes to no disk whose lock could guard it"
	}
}

// lockProof is nil when a second writer of the disk is refused on every host.
func (d *Libvirt) lockProof(disk *Disk) error {
	switch {
	case !strings.HasPrefix(disk.Source, "/"), strings.HasPrefix(disk.Source, "/dev/"):
		return errors.New("no image file: its lock does not reach other hosts")
	case !disk.Shared:
		return errors.New("not on shared storage")
	}
	if err := locksTravel(disk.Source, mountTable); err != nil {
		return err
	}
	return refusesWriter(disk.Source)
}

// refusesWriter asks the kernel whether QEMU, or libvirt with virtlockd, would be
// refused a second open for writing.
func refusesWriter(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("its lock cannot be looked at: %w", err)
	}
	defer f.Close()
	for _, at := range []int64{qemuUnsharedWrite, virtlockdByte} {
		lock := unix.Flock_t{Type: unix.F_WRLCK, Start: at, Len: 1}
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
			return fmt.Errorf("its lock cannot be looked at: %w", err)
		}
		if lock.Type != unix.F_UNLCK {
			return nil
		}
	}
	return errors.New("nothing locks it: a second QEMU could write to it")
}
