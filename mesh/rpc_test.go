package mesh

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pair is two meshes over the loopback network, with real sockets and TLS.
func pair(t *testing.T, certs *authority) (a, b *Mesh) {
	t.Helper()
	begin := func(id HostID, join ...string) *Mesh {
		dir := certs.host(id)
		m, err := Start(t.Context(), Config{Cluster: "lab", ID: id, Name: string(id), Bind: "127.0.0.1:0", RPCBind: "127.0.0.1:0",
			Join: join, Key: key(1), CAFile: certs.ca(), CertFile: filepath.Join(dir, HostCertName), KeyFile: filepath.Join(dir, HostKeyName),
			SnapshotPath: filepath.Join(t.TempDir(), "snapshot"), Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	a = begin("a")
	events, end := a.Subscribe(16)
	defer end()
	b = begin("b", a.Members()[0].Addr)
	t.Cleanup(func() { stopAll(t, a, b) })
	timeout := time.After(20 * time.Second)
	for count(a, StatusAlive) < 2 {
		select {
		case <-events:
		case <-timeout:
			t.Fatalf("the two do not find each other: %v", b.Stats().JoinError)
		}
	}
	for count(b, StatusAlive) < 2 { // b began the exchange: it ends its part in a moment
		time.Sleep(10 * time.Millisecond)
	}
	return a, b
}

// stranger calls b as somebody else, by any identity and address.
func stranger(t *testing.T, conf *tls.Config) *http.Client {
	t.Helper()
	c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: conf}}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func TestRPCOverLoopback(t *testing.T) {
	t.Parallel() // it waits for real time
	certs := newAuthority(t, "lab")
	a, b := pair(t, certs)
	b.Handle("echo", func(_ context.Context, from HostID, body []byte) ([]byte, error) {
		return append([]byte(from+":"), body...), nil
	})
	b.Handle("refuse", func(context.Context, HostID, []byte) ([]byte, error) { return nil, errors.New("no room\x1b[2J") })
	b.Handle("panic", func(context.Context, HostID, []byte) ([]byte, error) { panic("boom") })
	b.Handle("flood", func(context.Context, HostID, []byte) ([]byte, error) { return make([]byte, maxBody+1), nil })

	full := bytes.Repeat([]byte("x"), maxBody-2)
	for range 3 { // over a kept connection, too
		if out, err := a.Call(t.Context(), "b", "echo", full); err != nil || !bytes.Equal(out, append([]byte("a:"), full...)) {
			t.Fatalf("echo: %d bytes, %v", len(out), err)
		}
	}
	if out, err := b.Call(t.Context(), "b", "echo", nil); err != nil || string(out) != "b:" {
		t.Errorf("call of oneself: %q %v", out, err)
	}
	for method, want := range map[string]RemoteError{
		"refuse": {422, "no room?[2J"}, "panic": {500, "the handler failed"}, "flood": {500, "at most 65536"}, "absent": {404, "older?"}, "a/b?c": {404, "older?"},
	} {
		_, err := a.Call(t.Context(), "b", method, []byte("x"))
		var got *RemoteError
		if !errors.As(err, &got) || got.Code != want.Code || !strings.Contains(got.Text, want.Text) {
			t.Errorf("%s: %v, want %+v", method, err, want)
		}
	}
	if _, err := a.Call(t.Context(), "b", "echo", make([]byte, maxBody+1)); err == nil || errors.Is(err, ErrUnreachable) {
		t.Errorf("an oversized request: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Call(ctx, "b", "echo", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled call: %v", err)
	}
	if s := b.Stats(); s.Refused["rpc_panic"] != 1 {
		t.Errorf("refused %v", s.Refused)
	}
}

func TestRPCRefusesStrangers(t *testing.T) {
	t.Parallel() // it waits for real time
	certs := newAuthority(t, "lab")
	a, b := pair(t, certs)
	b.Handle("echo", func(context.Context, HostID, []byte) ([]byte, error) {
		t.Error("a stranger reached the handler")
		return nil, nil
	})
	foreign := newAuthority(t, "lab") // the same name, another CA

	expired := filepath.Join(certs.dir, "expired")
	certs.issue(expired, "c", time.Now().Add(-2*hostLife))
	old, err := tls.LoadX509KeyPair(filepath.Join(expired, HostCertName), filepath.Join(expired, HostKeyName))
	if err != nil {
		t.Fatal(err)
	}
	alien, _ := foreign.identityOf("c", "lab").current()
	otherCluster, _ := newAuthority(t, "other").identityOf("c", "other").current()
	show := func(c *tls.Certificate) *tls.Config {
		return &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c, nil }}
	}
	tls12 := show(alien)
	tls12.MaxVersion = tls.VersionTLS12
	for _, c := range []struct {
		reason string
		conf   *tls.Config
		scheme string
	}{
		{"rpc_foreign_ca", show(alien), "https"},
		{"rpc_foreign_ca", show(otherCluster), "https"},
		{"rpc_expired", show(&old), "https"},
		{"rpc_no_certificate", show(&tls.Certificate{}), "https"},
		{"rpc_handshake", tls12, "https"},
		{"rpc_handshake", nil, "http"},
	} {
		before := b.Stats().Refused[c.reason]
		resp, err := stranger(t, c.conf).Post(c.scheme+"://"+b.rpc.addr+rpcPrefix+"echo", "", strings.NewReader("x"))
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				t.Errorf("%s: answered", c.reason)
			}
		}
		for begin := time.Now(); b.Stats().Refused[c.reason] == before; {
			if time.Since(begin) > 10*time.Second {
				t.Fatalf("%s is not counted: %v (%v)", c.reason, b.Stats().Refused, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if from := b.Stats().RefusedFrom[c.reason]; !strings.HasPrefix(from, "127.0.0.1:") {
			t.Errorf("%s: from %q", c.reason, from)
		}
	}
	_ = a
}

// TestCallerKnowsWhy: each wrong certificate has its error at the caller.
func TestCallerKnowsWhy(t *testing.T) {
	t.Parallel() // it waits for real time
	certs, foreign := newAuthority(t, "lab"), newAuthority(t, "lab")
	a, b := pair(t, certs)
	b.Handle("echo", func(_ context.Context, from HostID, _ []byte) ([]byte, error) { return []byte(from), nil })

	impostor := serveTLS(t, certs.identityOf("c", "lab"))
	alien := serveTLS(t, foreign.identityOf("b", "lab"))
	closed := "127.0.0.1:1"
	tell := func(addr string) { // what gossip says of b's address
		b.rpc.addr = addr
		if err := b.SetTags(Tags{Draining: true}); err != nil {
			t.Fatal(err)
		}
		for begin := time.Now(); member(t, a, "b").Tags.RPCAddr != addr; time.Sleep(10 * time.Millisecond) {
			if time.Since(begin) > 20*time.Second {
				t.Fatalf("the tag %s does not arrive", addr)
			}
		}
	}
	for _, c := range []struct {
		what, addr string
		want       error
		text       string
	}{
		{"another host at b's address", impostor, ErrForeignCertificate, "it is of host c, b was called"},
		{"another CA at b's address", alien, ErrForeignCertificate, "not signed by this cluster's CA"},
		{"nobody at b's address", closed, ErrUnreachable, "refused"},
		{"no address", "nonsense", ErrNotMember, "no usable address"},
	} {
		tell(c.addr)
		_, err := a.Call(t.Context(), "b", "echo", nil)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	if n := a.Stats().Refused["rpc_foreign_peer"]; n != 2 {
		t.Errorf("%d foreign peers counted, want 2", n)
	}
}

// serveTLS answers everything as another host; the certificate is checked before
// anything is sent.
func serveTLS(t *testing.T, id *identity) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{TLSConfig: id.serverTLS(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), Handler: http.NotFoundHandler()}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.ServeTLS(l, "", "") }()
	t.Cleanup(func() { srv.Close(); <-done })
	return l.Addr().String()
}

// TestOwnCertificateRefused: the peer trusts another CA than we do.
func TestOwnCertificateRefused(t *testing.T) {
	certs, foreign := newAuthority(t, "lab"), newAuthority(t, "lab")
	server := foreign.identityOf("b", "lab")
	addr := serveTLS(t, server)
	ours, theirs := certs.identityOf("a", "lab"), foreign.identityOf("a", "lab")
	// Ours shows our certificate, but believes theirs, so that the refusal is
	// the server's.
	_, ours.pool = theirs.current()
	ours.checked = time.Now().Add(time.Hour)
	clients := newRPCClients(ours, network().dial)
	defer clients.close()
	m := &Mesh{identity: ours, counts: newCounters(quiet()), run: t.Context()}
	refused := 0
	for range 20 {
		c, err := clients.get("b", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Post("https://"+addr+rpcPrefix+"x", "", strings.NewReader("x"))
		clients.calls.Done()
		err = m.callFailed(err, addr)
		switch {
		case errors.Is(err, ErrCertificateRefused):
			refused++
		case !errors.Is(err, ErrUnreachable):
			t.Fatalf("got %v", err)
		}
	}
	// The alert may be overtaken by the closed connection.
	t.Logf("%d of 20 refusals were told as such", refused)
	if refused == 0 {
		t.Error("no refusal was told as such")
	}
}

func TestOversizedAndBrokenRequests(t *testing.T) {
	t.Parallel() // it waits for real time
	certs := newAuthority(t, "lab")
	_, b := pair(t, certs)
	b.Handle("echo", func(_ context.Context, _ HostID, body []byte) ([]byte, error) { return body, nil })
	client := stranger(t, certs.identityOf("a", "lab").clientTLS("b"))
	resp, err := client.Post("https://"+b.rpc.addr+rpcPrefix+"echo", "", io.LimitReader(zeros{}, 10*maxBody))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge || b.Stats().Refused["rpc_oversized"] != 1 {
		t.Errorf("status %d, %v", resp.StatusCode, b.Stats().Refused)
	}
	resp, err = client.Get("https://" + b.rpc.addr + rpcPrefix + "echo")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("GET: status %d", resp.StatusCode)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestVerifyPeer judges chains by what they are for.
func TestVerifyPeer(t *testing.T) {
	certs := newAuthority(t, "lab")
	id := certs.identityOf("c", "lab")
	cert, pool := id.current()
	now := time.Now()
	ca, err := readCert(certs.ca())
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		chain  []*x509.Certificate
		at     time.Time
		reason string
	}{
		"good": {[]*x509.Certificate{cert.Leaf}, now, ""}, "none": {nil, now, "rpc_no_certificate"},
		"expired": {[]*x509.Certificate{cert.Leaf}, now.Add(2 * hostLife), "rpc_expired"},
		"not yet": {[]*x509.Certificate{cert.Leaf}, now.Add(-time.Hour), "rpc_expired"},
		// The CA's own certificate names no host.
		"the CA itself": {[]*x509.Certificate{ca}, now, "rpc_other_cluster"},
	} {
		host, reason, err := verifyPeer(c.chain, pool, "lab", x509.ExtKeyUsageClientAuth, c.at)
		if reason != c.reason || (err == nil) != (c.reason == "") || (err == nil && host != "c") {
			t.Errorf("%s: %q %q %v", what, host, reason, err)
		}
		if err != nil && !errors.Is(err, ErrForeignCertificate) {
			t.Errorf("%s: %v is not ErrForeignCertificate", what, err)
		}
	}
	if _, reason, _ := verifyPeer([]*x509.Certificate{cert.Leaf}, pool, "other", x509.ExtKeyUsageClientAuth, now); reason != "rpc_other_cluster" {
		t.Errorf("another cluster of the same CA: %q", reason)
	}
}
