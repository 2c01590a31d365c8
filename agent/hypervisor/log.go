package hypervisor

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxLogTail is how much of the end of QEMU's log is read.
const maxLogTail = 64 << 10

// handedOver says whether libvirt itself ended the VM's last process because the VM
// had migrated away. libvirt writes that to the VM's log before it ends the process,
// and forgets it when libvirtd dies before the end: after its restart the VM is shut
// off for a reason unknown, as if it had crashed. A log that is not there or not
// readable (it is root's as a rule) proves nothing.
func handedOver(dir, name string) bool {
	if !filepath.IsLocal(name) || strings.ContainsRune(name, filepath.Separator) {
		return false
	}
	text, err := tail(filepath.Join(dir, name+".log"))
	if err != nil {
		return false
	}
	const start, end = ": starting up libvirt", ": shutting down, reason=migrated"
	return strings.LastIndex(text, end) > strings.LastIndex(text, start)
}

// CheckLogs says why QEMU's logs in dir cannot be read; nil when they can, or when
// there are none.
func CheckLogs(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".log" {
			continue
		}
		_, err := tail(filepath.Join(dir, e.Name()))
		return err // they have all the same owner and mode
	}
	return err
}

// tail reads the end of a file.
func tail(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", errors.New("not a file")
	}
	text := make([]byte, min(info.Size(), maxLogTail))
	n, err := f.ReadAt(text, info.Size()-int64(len(text)))
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return string(text[:n]), nil
}
