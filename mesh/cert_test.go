package mesh

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCertificatesAreMadeOnce(t *testing.T) {
	dir := t.TempDir()
	ca, out := filepath.Join(dir, "ca"), filepath.Join(dir, "host")
	if err := IssueHost(ca, out, "abc", "h1", nil); err == nil || !strings.Contains(err.Error(), "headroom cert ca") {
		t.Errorf("without a CA: %v", err)
	}
	if err := CreateCA(ca, "Lab.example-1"); err != nil {
		t.Fatal(err)
	}
	if err := IssueHost(ca, out, "abc", "h1", []net.IP{net.IPv4(10, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	files := []string{filepath.Join(ca, CAFileName), filepath.Join(ca, CAKeyFileName), filepath.Join(out, HostCertName), filepath.Join(out, HostKeyName)}
	before := map[string][]byte{}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if secret := strings.HasSuffix(f, ".key"); secret && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f, info.Mode())
		}
		before[f], _ = os.ReadFile(f)
	}
	for what, err := range map[string]error{"CA": CreateCA(ca, "lab"), "host": IssueHost(ca, out, "abc", "h1", nil)} {
		if err == nil || !strings.Contains(err.Error(), "not overwritten") {
			t.Errorf("a second %s: %v", what, err)
		}
	}
	for _, f := range files {
		if b, _ := os.ReadFile(f); !bytes.Equal(b, before[f]) {
			t.Errorf("%s changed", f)
		}
	}
	info, err := InspectHost(files[0], files[2])
	if err != nil || info.Cluster != "Lab.example-1" || info.Host != "abc" || info.Name != "h1" {
		t.Errorf("inspected %+v, %v", info, err)
	}
	if left := time.Until(info.NotAfter); left > hostLife || left < hostLife-time.Minute {
		t.Errorf("valid for %v", left)
	}
	if _, err := InspectHost(newAuthority(t, "Lab.example-1").ca(), files[2]); !errors.Is(err, ErrForeignCertificate) {
		t.Errorf("against another CA: %v", err)
	}
}

func TestNamesAreChecked(t *testing.T) {
	dir := t.TempDir()
	for _, cluster := range []string{"", "a b", "a/b", "a:1", "ä", strings.Repeat("x", 64), "-a", "a-"} {
		if err := CreateCA(dir, cluster); err == nil {
			t.Errorf("a CA for cluster %q", cluster)
		}
	}
	certs := newAuthority(t, "lab")
	for _, id := range []HostID{"", "a b", "../x", "a/b", "a?b", HostID(strings.Repeat("x", 41))} {
		if err := IssueHost(filepath.Join(certs.dir, "ca"), filepath.Join(dir, "x"), id, "n", nil); err == nil {
			t.Errorf("a certificate for %q", id)
		}
	}
}

// TestHostOutlivesNoCA: a host's certificate ends with its CA.
func TestHostOutlivesNoCA(t *testing.T) {
	certs := newAuthority(t, "lab")
	certs.issue(filepath.Join(certs.dir, "late"), "late", time.Now().Add(caLife-time.Hour))
	ca, err := readCert(certs.ca())
	if err != nil {
		t.Fatal(err)
	}
	host, err := readCert(filepath.Join(certs.dir, "late", HostCertName))
	if err != nil || !host.NotAfter.Equal(ca.NotAfter) {
		t.Errorf("host until %v, CA until %v, %v", host.NotAfter, ca.NotAfter, err)
	}
}

func TestGossipKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "etc", "gossip.key")
	if _, err := LoadKey(path); !errors.Is(err, ErrNoKey) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if err := CreateKey(path); err != nil {
		t.Fatal(err)
	}
	one, err := LoadKey(path)
	if err != nil || len(one) != 32 {
		t.Errorf("%d bytes, %v", len(one), err)
	}
	if err := CreateKey(path); err == nil {
		t.Error("a key was overwritten")
	}
	for _, c := range []struct {
		content string
		mode    os.FileMode
		text    string
	}{
		{"AAAA\n", 0o600, "of 3 bytes"}, {"***", 0o600, "base64"}, {"", 0o600, "gossip key"}, {strings.Repeat("A", 43) + "=", 0o644, "chmod 600"},
	} {
		bad := filepath.Join(t.TempDir(), "k")
		if err := os.WriteFile(bad, []byte(c.content), c.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKey(bad); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%q: %v", c.content, err)
		}
	}
}

func TestStartRefuses(t *testing.T) {
	certs := newAuthority(t, "lab")
	dir := certs.host("a")
	good := Config{Cluster: "lab", ID: "a", Bind: "127.0.0.1:0", RPCBind: "127.0.0.1:0", Key: key(1),
		CAFile: certs.ca(), CertFile: filepath.Join(dir, HostCertName), KeyFile: filepath.Join(dir, HostKeyName)}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	open := filepath.Join(t.TempDir(), "open.key")
	b, _ := os.ReadFile(good.KeyFile)
	if err := os.WriteFile(open, b, 0o644); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		edit func(*Config)
		text string
	}{
		"no key":            {func(c *Config) { c.Key = nil }, "headroom cert key"},
		"a short key":       {func(c *Config) { c.Key = []byte("secret") }, "16, 24 or 32"},
		"every address":     {func(c *Config) { c.Bind = "0.0.0.0:7946" }, "management network"},
		"every IPv6":        {func(c *Config) { c.RPCBind = "[::]:7947" }, "management network"},
		"no port":           {func(c *Config) { c.Bind = "10.0.0.1" }, "ip:port"},
		"a name":            {func(c *Config) { c.Advertise = "host:1" }, "ip:port"},
		"another's id":      {func(c *Config) { c.ID = "b" }, "headroom cert host --id b"},
		"another cluster":   {func(c *Config) { c.Cluster = "other" }, `it is of cluster "lab"`},
		"no cluster":        {func(c *Config) { c.Cluster = "" }, "cluster name"},
		"a foreign CA":      {func(c *Config) { c.CAFile = newAuthority(t, "lab").ca() }, "not signed by this cluster's CA"},
		"no certificate":    {func(c *Config) { c.CertFile = "/nonexistent" }, "headroom cert host"},
		"a public key file": {func(c *Config) { c.KeyFile = open }, "chmod 600"},
		"a taken RPC port":  {func(c *Config) { c.RPCBind = taken.Addr().String() }, "mesh.rpc_bind"},
		"a taken port":      {func(c *Config) { c.Bind = taken.Addr().String() }, "start gossip on"},
		"a long zone":       {func(c *Config) { c.Tags.Zone = strings.Repeat("z", 500) }, "shorten"},
		"no snapshot file":  {func(c *Config) { c.SnapshotPath = "/nonexistent/x" }, "snapshot"},
	} {
		conf := good
		c.edit(&conf)
		m, err := Start(context.Background(), conf)
		if err == nil {
			t.Errorf("%s: started", what)
			_ = m.Close()
			continue
		}
		if !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %q in it", what, err, c.text)
		}
	}
}

// TestRefusalOf pins the words of Serf and memberlist that we count by; the tests
// of whole clusters hold them to what is really written.
func TestRefusalOf(t *testing.T) {
	for line, want := range map[string]string{
		"[ERR] memberlist: Decrypt packet failed: no installed keys could decrypt the message from=1.2.3.4:5": "gossip_key",
		`[ERR] memberlist: discarding packet with unacceptable label "decrypt": from=1.2.3.4:5`:               "gossip_label",
		"[ERR] serf: Error decoding user event message: EOF":                                                  "gossip_malformed",
		"[WARN] serf: Received message of unknown type: 77":                                                   "gossip_malformed",
		"[INFO] serf: EventMemberJoin: decrypt 10.0.0.1":                                                      "",
		"[WARN] memberlist: Refuting a suspect message (from: a)":                                             "",
	} {
		if got := refusalOf(line); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	if got := addressIn("[ERR] x: y from=1.2.3.4:5"); got != "1.2.3.4:5" {
		t.Errorf("address %q", got)
	}
}
