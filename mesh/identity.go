package mesh

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// identity is this host's certificate and the CA, read again when the files
// change, so that a renewal needs no restart.
type identity struct {
	caFile, certFile, keyFile string
	cluster                   string
	self                      HostID
	counts                    *counters

	mu      sync.Mutex
	checked time.Time        // guarded by mu
	stamps  [3]time.Time     // guarded by mu
	refused [3]time.Time     // of files that could not be used; guarded by mu
	cert    *tls.Certificate // with Leaf; guarded by mu
	pool    *x509.CertPool   // guarded by mu
}

// recheckEvery bounds how often the files are looked at.
const recheckEvery = time.Second

func newIdentity(c *Config, counts *counters) (*identity, error) {
	id := &identity{caFile: c.CAFile, certFile: c.CertFile, keyFile: c.KeyFile, cluster: c.Cluster, self: c.ID, counts: counts}
	if err := id.read(); err != nil {
		return nil, err
	}
	return id, nil
}

// read loads all three files and takes them into use if peers would accept them;
// mu is held or not needed yet.
func (id *identity) read() error {
	stamps := id.times() // before reading, so that a later change is seen
	if err := checkPrivate(id.keyFile); err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(id.certFile, id.keyFile)
	if err != nil {
		return fmt.Errorf("host certificate: %w; make one with `headroom cert host`", err)
	}
	ca, err := readCert(id.caFile)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	self, _, err := verifyPeer([]*x509.Certificate{pair.Leaf}, pool, id.cluster, x509.ExtKeyUsageServerAuth, time.Now())
	if err != nil {
		return fmt.Errorf("this host's certificate %s: %w", id.certFile, err)
	}
	if self != id.self {
		return fmt.Errorf("this host's certificate %s is of host %s, this host is %s: issue one with `headroom cert host --id %s`", id.certFile, self, id.self, id.self)
	}
	id.cert, id.pool, id.stamps = &pair, pool, stamps
	return nil
}

func (id *identity) times() (t [3]time.Time) {
	for i, path := range []string{id.caFile, id.certFile, id.keyFile} {
		if info, err := os.Stat(path); err == nil {
			t[i] = info.ModTime()
		}
	}
	return t
}

// current returns the certificate and the CA. Files that changed and cannot be
// used leave the old ones in force; that is counted once per change.
func (id *identity) current() (*tls.Certificate, *x509.CertPool) {
	id.mu.Lock()
	defer id.mu.Unlock()
	now := time.Now()
	if now.Sub(id.checked) < recheckEvery {
		return id.cert, id.pool
	}
	id.checked = now
	if seen := id.times(); seen != id.stamps {
		// Half-written files: the next look sees them whole.
		if err := id.read(); err != nil && seen != id.refused {
			id.refused = seen
			id.counts.refuse("own_certificate", "", err)
		}
	}
	return id.cert, id.pool
}

// verifyPeer checks a chain against the cluster's CA and reads the host's id. The
// reason is one of the package's words for counting.
func verifyPeer(chain []*x509.Certificate, pool *x509.CertPool, cluster string, use x509.ExtKeyUsage, now time.Time) (HostID, string, error) {
	if len(chain) == 0 {
		return "", "rpc_no_certificate", fmt.Errorf("%w: none was shown", ErrForeignCertificate)
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{use}})
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "", "rpc_expired", fmt.Errorf("%w: %w; issue a new one with `headroom cert host`", ErrForeignCertificate, err)
	case err != nil:
		return "", "rpc_foreign_ca", fmt.Errorf("%w: not signed by this cluster's CA: %w", ErrForeignCertificate, err)
	}
	id, err := hostOf(chain[0], cluster)
	if err != nil {
		return "", "rpc_other_cluster", err
	}
	return id, "", nil
}

// serverTLS asks every caller for a certificate of this cluster.
func (id *identity) serverTLS() *tls.Config {
	base := &tls.Config{
		MinVersion: tls.VersionTLS13,
		// The chain is verified below, so that refusals are counted by reason.
		ClientAuth: tls.RequestClientCert,
		// Every connection proves its key anew.
		SessionTicketsDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert, _ := id.current()
			return cert, nil
		},
	}
	base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		c := base.Clone()
		from := hello.Conn.RemoteAddr().String()
		c.VerifyConnection = func(s tls.ConnectionState) error {
			_, err := id.caller(s.PeerCertificates, from)
			return err
		}
		return c, nil
	}
	return base
}

// caller is the host that a certificate proves; what it refuses is counted.
func (id *identity) caller(chain []*x509.Certificate, from string) (HostID, error) {
	_, pool := id.current()
	host, reason, err := verifyPeer(chain, pool, id.cluster, x509.ExtKeyUsageClientAuth, time.Now())
	if err != nil {
		id.counts.refuse(reason, from, err)
	}
	return host, err
}

// clientTLS accepts exactly the host that is called.
func (id *identity) clientTLS(to HostID) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// Hosts are named by id, not by DNS: the chain and the id are verified
		// below, in place of the host name.
		InsecureSkipVerify: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, _ := id.current()
			return cert, nil
		},
		VerifyConnection: func(s tls.ConnectionState) error {
			_, pool := id.current()
			got, _, err := verifyPeer(s.PeerCertificates, pool, id.cluster, x509.ExtKeyUsageServerAuth, time.Now())
			if err != nil {
				return err
			}
			if got != to {
				return fmt.Errorf("%w: it is of host %s, %s was called; does another host use its address?", ErrForeignCertificate, got, to)
			}
			return nil
		},
	}
}
