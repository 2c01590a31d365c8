package hypervisor_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"headroom/agent/hypervisor"
	"headroom/tests/lab"
)

// authority signs certificates as an operator's own would.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := authority{key: key, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lab"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}}
	a.cert.Raw = a.sign(t, a.cert, key)
	return a
}

func (a *authority) sign(t *testing.T, cert *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// issue gives a host the certificates with which its QEMUs send and receive.
func (a *authority) issue(t *testing.T, h *lab.Host) {
	t.Helper()
	at, err := url.Parse(h.URI())
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der := a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: at.Hostname()}, IPAddresses: []net.IP{net.ParseIP(at.Hostname())},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, key)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := h.Outside(lab.MigrationCerts)
	for _, f := range []struct {
		name, kind string
		der        []byte
	}{
		{"ca-cert.pem", "CERTIFICATE", a.cert.Raw},
		{"server-cert.pem", "CERTIFICATE", der}, {"client-cert.pem", "CERTIFICATE", der},
		{"server-key.pem", "PRIVATE KEY", secret}, {"client-key.pem", "PRIVATE KEY", secret},
	} {
		if err := os.WriteFile(filepath.Join(dir, f.name), pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// encrypted moves a VM to and fro over TLS, by one connection and by several. A
// destination that cannot show a certificate of the source's authority gets no
// memory, and the VM runs on.
func encrypted(t *testing.T, l *lab.Lab, d []*hypervisor.Libvirt, id string) {
	ours, foreign := newAuthority(t), newAuthority(t)
	move := func(from, to, connections int) error {
		_, err := d[from].Migrate(t.Context(), hypervisor.MigrateRequest{ID: id, DestURI: l.Host(to).URI(), Live: true, TLS: true, Parallel: connections})
		return err
	}
	ours.issue(t, l.Host(0))
	if err := move(0, 1, 0); err == nil {
		t.Fatal("copied to a host without certificates")
	} else {
		t.Logf("without certificates: %v", err)
	}
	foreign.issue(t, l.Host(1))
	if err := move(0, 1, 0); err == nil {
		t.Fatal("copied to a host with certificates of a foreign authority")
	} else {
		t.Logf("foreign authority: %v", err)
	}
	if dom, ok := find(t, d[0], id); !ok || dom.State != hypervisor.Running {
		t.Fatalf("after two refused copies: %+v", dom)
	}
	ours.issue(t, l.Host(1))
	if err := move(0, 1, 0); err != nil {
		t.Fatal(err)
	}
	if dom, ok := find(t, d[1], id); !ok || dom.State != hypervisor.Running {
		t.Fatalf("copied over TLS: %+v", dom)
	}
	if err := move(1, 0, 2); err != nil {
		t.Fatalf("over TLS by two connections: %v", err)
	}
	if dom, ok := find(t, d[0], id); !ok || dom.State != hypervisor.Running {
		t.Fatalf("copied back by two connections: %+v", dom)
	}
}
