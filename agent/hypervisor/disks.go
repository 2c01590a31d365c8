package hypervisor

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// sharedFileSystems are those that several hosts mount at once, by statfs magic.
// They are the ones that libvirt itself takes for shared.
var sharedFileSystems = map[int64]bool{
	unix.NFS_SUPER_MAGIC: true, unix.CEPH_SUPER_MAGIC: true, unix.OCFS2_SUPER_MAGIC: true, unix.AFS_SUPER_MAGIC: true,
	unix.AFS_FS_MAGIC: true, unix.CIFS_SUPER_MAGIC: true, unix.SMB2_SUPER_MAGIC: true, unix.SMB_SUPER_MAGIC: true,
	0x01161970: true, // GFS2
	0x47504653: true, // GPFS
	0x0BD00BD0: true, // Lustre
	0x19830326: true, // BeeGFS
}

// sharedPools are the kinds of storage pool that other hosts can open as well.
var sharedPools = map[string]bool{
	"netfs": true, "iscsi": true, "iscsi-direct": true, "rbd": true, "gluster": true, "sheepdog": true, "scsi": true, "mpath": true,
}

// storageTable remembers for infoAge which pools are shared.
type storageTable struct {
	mu   sync.Mutex
	at   time.Time       // guarded by mu
	kind map[string]bool // guarded by mu
}

// judgeDisks fills in which disks other hosts can reach. A VM with a disk that
// they cannot is not migratable: headroom copies memory and no disks.
func (d *Libvirt) judgeDisks(x *libvirt.Domain, dom *Domain) {
	for i := range dom.Disks {
		disk := &dom.Disks[i]
		switch {
		case disk.Source == "" || disk.Shared:
		case disk.Pool != "":
			disk.Shared = d.poolShared(x, disk.Pool)
		case strings.HasPrefix(disk.Source, "/dev/"):
			continue // nothing tells a SAN's device from a local one: the destination's libvirt refuses what it lacks
		default:
			disk.Shared = d.pathShared(disk.Source)
		}
		if disk.Source != "" && !disk.Shared {
			dom.fixed(fmt.Sprintf("disk %s (%s) is not on shared storage", disk.Target, disk.Source))
		}
	}
}

// pathShared says whether a file is the same on other hosts.
func (d *Libvirt) pathShared(path string) bool {
	if slices.ContainsFunc(d.o.SharedPaths, func(dir string) bool {
		rel, err := filepath.Rel(dir, path)
		return err == nil && filepath.IsLocal(rel)
	}) {
		return true
	}
	return fileSystemShared(path, mountTable)
}

// poolShared says whether a pool's volumes are the same on other hosts.
func (d *Libvirt) poolShared(x *libvirt.Domain, name string) bool {
	d.storage.mu.Lock()
	if time.Since(d.storage.at) > infoAge {
		d.storage.at, d.storage.kind = time.Now(), map[string]bool{}
	}
	shared, known := d.storage.kind[name]
	d.storage.mu.Unlock()
	if known {
		return shared
	}
	shared = d.askPool(x, name)
	d.storage.mu.Lock()
	d.storage.kind[name] = shared
	d.storage.mu.Unlock()
	return shared
}

func (d *Libvirt) askPool(x *libvirt.Domain, name string) bool {
	c, err := x.DomainGetConnect()
	if err != nil {
		return false
	}
	defer func() { _, _ = c.Close() }() // gives back the reference that was just taken
	pool, err := c.LookupStoragePoolByName(name)
	if err != nil {
		return false
	}
	defer func() { _ = pool.Free() }() // fails only for a pool that is not one
	text, err := pool.GetXMLDesc(0)
	if err != nil {
		return false
	}
	var p libvirtxml.StoragePool
	if err := p.Unmarshal(text); err != nil {
		return false
	}
	if sharedPools[p.Type] {
		return true
	}
	return p.Target != nil && p.Target.Path != "" && !strings.HasPrefix(p.Target.Path, "/dev/") && d.pathShared(p.Target.Path)
}
