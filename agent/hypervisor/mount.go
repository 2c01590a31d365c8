package hypervisor

import (
	"fmt"
	"os"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

const mountTable = "/proc/self/mountinfo"

// sharedFUSE are the FUSE file systems that several hosts mount at once, by their
// names in the mount table: to statfs all are alike. libvirt copies a VM whose disk
// is on one of these without copying the disk.
var sharedFUSE = map[string]bool{"fuse.glusterfs": true, "fuse.quobyte": true}

// mountOf finds the mount that a path lies on in a table like /proc/self/mountinfo.
func mountOf(path, table string) (*mountinfo.Info, error) {
	f, err := os.Open(table)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	above, err := mountinfo.GetMountsFromReader(f, mountinfo.ParentsFilter(path))
	if err != nil {
		return nil, err
	}
	var deepest *mountinfo.Info
	for _, m := range above { // of two in one place the later one hides the other
		if deepest == nil || len(m.Mountpoint) >= len(deepest.Mountpoint) {
			deepest = m
		}
	}
	if deepest == nil {
		return nil, fmt.Errorf("%s lies on no mount of %s", path, table)
	}
	return deepest, nil
}

// fileSystemShared says whether the file system of a path is one that several hosts
// mount at once.
func fileSystemShared(path, table string) bool {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return false
	}
	magic := int64(st.Type) & 0xffffffff // sign-extended where Type is 32 bits
	if magic == unix.FUSE_SUPER_MAGIC {
		m, err := mountOf(path, table)
		return err == nil && sharedFUSE[m.FSType]
	}
	return sharedFileSystems[magic]
}

// locksTravel refuses file systems that are mounted so that locks stay on the host.
func locksTravel(path, table string) error {
	m, err := mountOf(path, table)
	if err != nil {
		return fmt.Errorf("its file system is not known: %w", err)
	}
	for o := range strings.SplitSeq(m.VFSOptions, ",") {
		switch o {
		case "nolock", "local_lock=all", "local_lock=posix", "localflocks", "noflock":
			return fmt.Errorf("%s is mounted with %s: its locks stay on this host", m.Mountpoint, o)
		}
	}
	return nil
}
