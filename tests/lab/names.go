package lab

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"regexp"
)

// Folders of every lab; a lab's own is named after it.
const (
	runRoot  = "/run/headroom-lab"
	dataRoot = "/var/lib/headroom-lab"
)

// MaxHosts is the limit on a lab's hosts.
const MaxHosts = 64

// DefaultName is the name of a lab that was given none.
const DefaultName = "lab"

var (
	namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,30}$`)
	vmPattern   = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,30}$`)
)

// checkName refuses what would not be safe as a folder's name.
func checkName(name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("lab name %q: want up to 31 of a-z, 0-9 and -", name)
	}
	return nil
}

func hostName(i int) string { return fmt.Sprintf("h%d", i) }

// digest derives a stable identity from names.
func digest(words ...string) [16]byte {
	h := sha256.New()
	for _, w := range words {
		fmt.Fprintf(h, "%s\x00", w)
	}
	return [16]byte(h.Sum(nil)[:16])
}

// machineID is a host's /etc/machine-id.
func machineID(lab, host string) string { return fmt.Sprintf("%x", digest("machine", lab, host)) }

// uuid writes a digest as a version 4 UUID, for libvirt.
func uuid(d [16]byte) string {
	d[6], d[8] = d[6]&0x0f|0x40, d[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", d[:4], d[4:6], d[6:8], d[8:10], d[10:])
}

// address is the i-th host's: the third byte tells labs apart for the reader,
// nothing depends on it.
func address(lab string, i int) string {
	return fmt.Sprintf("10.77.%d.%d", digest("net", lab)[0], 10+i)
}

func (l *Lab) dir() string                 { return filepath.Join(runRoot, l.state.Name) }
func (l *Lab) netPin(host string) string   { return filepath.Join(l.dir(), "ns", host+".net") }
func (l *Lab) mountPin(host string) string { return filepath.Join(l.dir(), "ns", host+".mnt") }
func (l *Lab) utsPin(host string) string   { return filepath.Join(l.dir(), "ns", host+".uts") }
