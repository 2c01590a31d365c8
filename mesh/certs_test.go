package mesh

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// authority issues certificates for a test, dated by the clock it runs under.
type authority struct {
	t   testing.TB
	dir string

	mu    sync.Mutex
	hosts map[HostID]string
}

func newAuthority(t testing.TB, cluster string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir(), hosts: map[HostID]string{}}
	if err := CreateCA(filepath.Join(a.dir, "ca"), cluster); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) ca() string { return filepath.Join(a.dir, "ca", CAFileName) }

// host returns the folder with a host's certificate.
func (a *authority) host(id HostID) string {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if dir, ok := a.hosts[id]; ok {
		return dir
	}
	dir := filepath.Join(a.dir, string(id))
	a.hosts[id] = dir
	a.issue(dir, id, time.Now())
	return dir
}

func (a *authority) issue(dir string, id HostID, at time.Time) {
	a.t.Helper()
	if err := issueHost(filepath.Join(a.dir, "ca"), dir, id, string(id), nil, at); err != nil {
		a.t.Fatal(err)
	}
}

// identityOf loads a host's certificate as its agent would.
func (a *authority) identityOf(id HostID, cluster string) *identity {
	a.t.Helper()
	dir := a.host(id)
	got, err := newIdentity(&Config{Cluster: cluster, ID: id, CAFile: a.ca(),
		CertFile: filepath.Join(dir, HostCertName), KeyFile: filepath.Join(dir, HostKeyName)}, newCounters(quiet()))
	if err != nil {
		a.t.Fatal(err)
	}
	return got
}

// replace puts another folder's certificate and key in place of a host's.
func (a *authority) replace(id HostID, from string) {
	a.t.Helper()
	for _, name := range []string{HostCertName, HostKeyName} {
		b, err := os.ReadFile(filepath.Join(from, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(a.host(id), name), b, 0o600)
		}
		if err != nil {
			a.t.Fatal(err)
		}
	}
}
