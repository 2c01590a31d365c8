package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// SharedImages is where every host sees the shared storage.
const SharedImages = "/var/lib/libvirt/images"

// brickDir is where the serving host keeps it. A host sees its own folders, and
// nothing of the lab's.
const (
	brickDir  = "/var/lib/libvirt/brick"
	brickPort = 24007
)

// brickVolume exports a folder, with locks that hold between its clients.
const brickVolume = `volume posix
  type storage/posix
  option directory %s
end-volume
volume locks
  type features/locks
  subvolumes posix
end-volume
volume server
  type protocol/server
  option transport-type tcp
  option transport.socket.bind-address %s
  option transport.socket.listen-port %d
  option auth.addr.locks.allow *
  subvolumes locks
end-volume
`

const clientVolume = `volume client
  type protocol/client
  option transport-type tcp
  option remote-host %s
  option remote-port %d
  option remote-subvolume locks
end-volume
`

// StorageAvailable tells what this machine lacks for shared storage; nil means
// nothing.
func StorageAvailable() error {
	if _, err := exec.LookPath("glusterfsd"); err != nil {
		return errors.New("shared storage needs glusterfsd: install glusterfs-client")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return fmt.Errorf("shared storage needs FUSE: %w", err)
	}
	return nil
}

// ShareStorage gives all hosts one GlusterFS volume at SharedImages, served by one
// of them; it lasts as long as the lab. The first call does it.
func (l *Lab) ShareStorage(ctx context.Context, server *Host) error {
	brick := server.Outside(brickDir)
	if _, err := os.Stat(brick); err == nil {
		return nil
	}
	if err := os.MkdirAll(brick, 0o755); err != nil {
		return err
	}
	if err := server.serve(ctx, "glusterfsd", fmt.Sprintf(brickVolume, brickDir, server.addr, brickPort)); err != nil {
		return err
	}
	for _, h := range l.hosts {
		if err := os.MkdirAll(h.Outside(SharedImages), 0o755); err != nil {
			return err
		}
		if err := h.serve(ctx, "glusterfs", fmt.Sprintf(clientVolume, server.addr, brickPort), SharedImages); err != nil {
			return err
		}
		if err := h.awaitMount(ctx); err != nil {
			return err
		}
	}
	return nil
}

// serve starts one of GlusterFS's daemons on the host. They go to the background
// when they are ready.
func (h *Host) serve(ctx context.Context, program, volume string, args ...string) error {
	file := "/run/" + program + ".vol"
	if err := os.WriteFile(h.Outside(file), []byte(volume), 0o644); err != nil {
		return err
	}
	log := storageLog(program)
	if _, err := h.Exec(ctx, append([]string{program, "-f", file, "-l", log}, args...)...); err != nil {
		return fmt.Errorf("%w: see %s", err, h.Outside(log))
	}
	return nil
}

func storageLog(program string) string { return "/var/log/libvirt/" + program + ".log" }

// awaitMount waits until the host's client has found the server: until then its
// folder is there, and every call on it fails.
func (h *Host) awaitMount(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		_, err := h.Exec(ctx, "stat", SharedImages)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("shared storage of %s, see %s: %w", h.name, h.Outside(storageLog("glusterfs")), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// AttachDisk makes an empty disk on shared storage and plugs it into a running
// guest; it returns the image's path on every host.
func (l *Lab) AttachDisk(ctx context.Context, h *Host, vm string, sizeMiB int) (string, error) {
	image := filepath.Join(SharedImages, vm+".raw")
	if _, err := h.Exec(ctx, "truncate", "-s", fmt.Sprintf("%dM", sizeMiB), image); err != nil {
		return "", err
	}
	file := "/run/" + vm + "-disk.xml"
	xml := fmt.Sprintf("<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none'/>"+
		"<source file='%s'/><target dev='vda' bus='virtio'/></disk>\n", image)
	if err := os.WriteFile(h.Outside(file), []byte(xml), 0o644); err != nil {
		return "", err
	}
	defer os.Remove(h.Outside(file))
	_, err := h.Virsh(ctx, "attach-device", vm, file, "--live", "--config")
	return image, err
}
