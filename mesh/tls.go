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

	mu      sync.Mutex
	checked time.Time        // guarded by mu
	stamps  [3]time.Time     // guarded by mu
	cert    *tls.Certificate // guarded by mu
	pool    *x509.CertPool   // guarded by mu
}

const recheckEvery = time.Second

func newIdentity(c *Config) (*identity, error) {
	id := &identity{caFile: c.CAFile, certFile: c.CertFile, keyFile: c.KeyFile, cluster: c.Cluster}
	if err := id.read(); err != nil {
		return nil, err
	}
	self, _, err := verifyPeer([]*x509.Certificate{id.cert.Leaf}, id.pool, id.cluster, time.Now())
	if err != nil {
		return nil, fmt.Errorf("this host's certificate %s: %w", c.CertFile, err)
	}
	if self != c.ID {
		return nil, fmt.Errorf("this host's certificate %s is of host %s, this host is %s: issue one with `headroom cert host --id %s`", c.CertFile, self, c.ID, c.ID)
	}
	return id, nil
}

// read loads all three files; id.mu is held or not needed yet.
func (id *identity) read() error {
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
	id.cert, id.pool, id.stamps = &pair, pool, id.times()
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

// current returns the certificate and the CA; files that changed and cannot be
// read leave the old ones in force.
func (id *identity) current() (*tls.Certificate, *x509.CertPool) {
	id.mu.Lock()
	defer id.mu.Unlock()
	if now := time.Now(); now.Sub(id.checked) > recheckEvery {
		id.checked = now
		if id.times() != id.stamps {
			_ = id.read() // half-written files: the next look sees them whole
		}
	}
	return id.cert, id.pool
}

// verifyPeer checks a chain against the cluster's CA and reads the host's id. The
// reason is one of the package's words for counting.
func verifyPeer(chain []*x509.Certificate, pool *x509.CertPool, cluster string, now time.Time) (HostID, string, error) {
	if len(chain) == 0 {
		return "", "rpc_no_certificate", fmt.Errorf("%w: none was shown", ErrForeignCertificate)
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
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
func (m *Mesh) serverTLS(id *identity) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// The chain is verified below, so that refusals are counted by reason.
		ClientAuth: tls.RequestClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert, _ := id.current()
			return cert, nil
		},
		VerifyConnection: func(s tls.ConnectionState) error {
			_, pool := id.current()
			_, reason, err := verifyPeer(s.PeerCertificates, pool, id.cluster, time.Now())
			if err != nil {
				m.counts.add(reason)
			}
			return err
		},
	}
}

// clientTLS accepts exactly the host that is called.
func clientTLS(id *identity, to HostID) *tls.Config {
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
			got, _, err := verifyPeer(s.PeerCertificates, pool, id.cluster, time.Now())
			if err != nil {
				return err
			}
			if got != to {
				return fmt.Errorf("%w: it is of host %s, %s was called", ErrForeignCertificate, got, to)
			}
			return nil
		},
	}
}
