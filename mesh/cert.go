package mesh

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	caLife    = 10 * 365 * 24 * time.Hour
	hostLife  = 365 * 24 * time.Hour
	backdated = 5 * time.Minute // clocks of hosts differ a little
)

// File names of a cluster's folder.
const (
	CAFileName    = "ca.pem"
	CAKeyFileName = "ca.key"
	HostCertName  = "host.pem"
	HostKeyName   = "host.key"
)

// hostURI is the name that a host's certificate carries.
func hostURI(cluster string, id HostID) *url.URL {
	return &url.URL{Scheme: "headroom", Host: cluster, Path: "/host/" + string(id)}
}

// hostOf reads the host's id from its certificate.
func hostOf(cert *x509.Certificate, cluster string) (HostID, error) {
	for _, u := range cert.URIs {
		if u.Scheme != "headroom" {
			continue
		}
		if u.Host != cluster {
			return "", fmt.Errorf("%w: it is of cluster %q, this one is %q", ErrForeignCertificate, u.Host, cluster)
		}
		if id, ok := strings.CutPrefix(u.Path, "/host/"); ok && id != "" {
			return HostID(id), nil
		}
	}
	return "", fmt.Errorf("%w: it names no headroom host", ErrForeignCertificate)
}

// CreateCA makes the cluster's certificate authority in dir: ca.pem, and ca.key,
// which is needed to issue certificates and nowhere else. Existing files are not
// overwritten.
func CreateCA(dir, cluster string) error {
	if err := checkCluster(cluster); err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make CA key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "headroom CA of " + cluster},
		NotBefore: time.Now().Add(-backdated), NotAfter: time.Now().Add(caLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs:     []*url.URL{{Scheme: "headroom", Host: cluster, Path: "/ca"}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("make CA certificate: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("folder for the CA: %w", err)
	}
	return writePair(filepath.Join(dir, CAFileName), filepath.Join(dir, CAKeyFileName), der, key)
}

// IssueHost makes a host's certificate and key in out, signed by the CA in dir,
// for one year. To renew it, issue into an empty folder and move the files over
// the old ones: a running agent takes them into use by itself.
func IssueHost(dir, out string, id HostID, name string, ips []net.IP) error {
	return issueHost(dir, out, id, name, ips, time.Now())
}

func issueHost(dir, out string, id HostID, name string, ips []net.IP, now time.Time) error {
	ca, caKey, err := loadCA(dir)
	if err != nil {
		return err
	}
	if err := checkHost(id); err != nil {
		return err
	}
	until := now.Add(hostLife)
	if until.After(ca.NotAfter) {
		until = ca.NotAfter
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make host key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-backdated), NotAfter: until,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:        []*url.URL{hostURI(clusterOf(ca), id)}, IPAddresses: ips,
	}
	if name != "" {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), caKey)
	if err != nil {
		return fmt.Errorf("sign host certificate: %w", err)
	}
	if err := os.MkdirAll(out, 0o700); err != nil {
		return fmt.Errorf("folder for the certificate: %w", err)
	}
	return writePair(filepath.Join(out, HostCertName), filepath.Join(out, HostKeyName), der, key)
}

func clusterOf(ca *x509.Certificate) string {
	for _, u := range ca.URIs {
		if u.Scheme == "headroom" {
			return u.Host
		}
	}
	return ""
}

func loadCA(dir string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	cert, err := readCert(filepath.Join(dir, CAFileName))
	if err != nil {
		return nil, nil, fmt.Errorf("%w; make the CA with `headroom cert ca`", err)
	}
	b, err := os.ReadFile(filepath.Join(dir, CAKeyFileName))
	if err != nil {
		return nil, nil, fmt.Errorf("CA key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, nil, fmt.Errorf("CA key %s: no PEM block", filepath.Join(dir, CAKeyFileName))
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("CA key: %w", err)
	}
	if clusterOf(cert) == "" {
		return nil, nil, fmt.Errorf("%s is not a headroom CA: it names no cluster", filepath.Join(dir, CAFileName))
	}
	return cert, key, nil
}

func readCert(path string) (*x509.Certificate, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("certificate %s: no PEM certificate in it", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", path, err)
	}
	return cert, nil
}

func serial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b)
}

func writePair(certPath, keyPath string, der []byte, key *ecdsa.PrivateKey) error {
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	if err := writeNew(keyPath, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), 0o600); err != nil {
		return err
	}
	if err := writeNew(certPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return errors.Join(err, os.Remove(keyPath))
	}
	return nil
}

// writeNew writes a file that must not exist yet: a lost CA key or certificate
// would cut hosts off.
func writeNew(path string, b []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s exists and is not overwritten: move it away first", path)
	}
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(path))
	}
	return nil
}

// fingerprint is the short form of a certificate's SHA-256.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:8])
}

// CertInfo tells people what a certificate is for.
type CertInfo struct {
	Cluster  string
	Host     HostID
	Name     string
	NotAfter time.Time
}

// InspectHost reads a host's certificate and checks it against the CA as a peer
// would.
func InspectHost(caFile, certFile string) (CertInfo, error) {
	ca, err := readCert(caFile)
	if err != nil {
		return CertInfo{}, err
	}
	cert, err := readCert(certFile)
	if err != nil {
		return CertInfo{}, err
	}
	info := CertInfo{Cluster: clusterOf(ca), Name: cert.Subject.CommonName, NotAfter: cert.NotAfter}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	info.Host, _, err = verifyPeer([]*x509.Certificate{cert}, pool, info.Cluster, x509.ExtKeyUsageServerAuth, time.Now())
	return info, err
}
