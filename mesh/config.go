package mesh

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
)

var (
	// clusterName is what fits into the host part of a certificate's URI.
	clusterName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$`)
	// hostName is what Serf takes for a node's name, and no longer than a digest
	// allows.
	hostName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,39}$`)
)

func checkCluster(name string) error {
	if !clusterName.MatchString(name) {
		return fmt.Errorf("cluster name %q: use up to 63 letters, digits, dots and hyphens", name)
	}
	return nil
}

func checkHost(id HostID) error {
	if !hostName.MatchString(string(id)) {
		return fmt.Errorf("host id %q: give the host's /etc/machine-id, or up to %d letters, digits, dots and hyphens", id, maxHostID)
	}
	return nil
}

// check refuses what could only fail later, or unsafely. Addresses are checked
// where the real network is used.
func (c *Config) check(network bool) error {
	if len(c.Key) == 0 {
		return ErrNoKey
	}
	if err := checkKey(c.Key); err != nil {
		return err
	}
	if err := errors.Join(checkCluster(c.Cluster), checkHost(c.ID)); err != nil {
		return err
	}
	if !network {
		return nil
	}
	if err := errors.Join(checkBind("bind", c.Bind), checkBind("rpc_bind", c.RPCBind)); err != nil {
		return err
	}
	if c.Advertise != "" {
		return checkBind("advertise", c.Advertise)
	}
	return nil
}

func checkKey(key []byte) error {
	switch len(key) {
	case 16, 24, 32:
		return nil
	}
	return fmt.Errorf("gossip key of %d bytes: it must have 16, 24 or 32; make one with `headroom cert key`", len(key))
}

func checkBind(what, addr string) error {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil || ap.Addr().IsUnspecified() {
		return fmt.Errorf("mesh.%s %q: name one address of the management network, as ip:port; an unspecified address would listen to everybody, and peers must know where to answer", what, addr)
	}
	return nil
}

func splitPort(addr string) (string, int, error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("address %q: %w", addr, err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return "", 0, fmt.Errorf("address %q: port: %w", addr, err)
	}
	return host, port, nil
}
