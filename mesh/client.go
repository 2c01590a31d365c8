package mesh

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"
)

const (
	callTimeout = 3 * time.Second // of one call, unless its context is shorter
	maxClients  = 1024
)

// dialFunc connects to a peer.
type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// rpcClients keeps one connection pool per peer.
type rpcClients struct {
	identity *identity
	dial     dialFunc

	mu     sync.Mutex
	calls  sync.WaitGroup        // added to under mu, while not closed
	closed bool                  // guarded by mu
	byHost map[HostID]*rpcClient // guarded by mu
}

type rpcClient struct {
	addr string
	http *http.Client
}

func newRPCClients(id *identity, dial dialFunc) *rpcClients {
	return &rpcClients{identity: id, dial: dial, byHost: map[HostID]*rpcClient{}}
}

// get returns the pool of a peer; whoever got one calls calls.Done.
func (c *rpcClients) get(to HostID, addr string) (*http.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	c.calls.Add(1)
	if p := c.byHost[to]; p != nil && p.addr == addr {
		return p.http, nil
	}
	for id, p := range c.byHost { // the peer moved, or there are too many
		if id == to || len(c.byHost) >= maxClients {
			p.http.CloseIdleConnections()
			delete(c.byHost, id)
		}
	}
	p := &rpcClient{addr: addr, http: &http.Client{
		// A peer answers itself, and sends nobody elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialTLSContext:  c.dialTLS(c.identity.clientTLS(to)),
			MaxConnsPerHost: 4, MaxIdleConnsPerHost: 2, IdleConnTimeout: 30 * time.Second,
			DisableCompression: true, MaxResponseHeaderBytes: 8 << 10,
		},
	}}
	c.byHost[to] = p
	return p.http, nil
}

// connLife is the longest life of a connection, after which both ends prove
// themselves anew.
const connLife = time.Hour

// dialTLS connects and ends the connection when the peer's certificate does.
func (c *rpcClients) dialTLS(conf *tls.Config) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		raw, err := c.dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		conn := tls.Client(raw, conf)
		if err := conn.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, raw.Close())
		}
		end := time.Now().Add(connLife)
		if until := conn.ConnectionState().PeerCertificates[0].NotAfter; until.Before(end) {
			end = until
		}
		if err := conn.SetDeadline(end); err != nil {
			return nil, errors.Join(err, raw.Close())
		}
		return conn, nil
	}
}

// close waits for the calls under way, whose context has ended.
func (c *rpcClients) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.calls.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, p := range c.byHost {
		p.http.CloseIdleConnections()
		delete(c.byHost, id)
	}
}

// Call asks a live member, once, for 3 s at most: whoever calls decides on a
// retry. The error wraps ErrNotMember, ErrUnreachable, ErrForeignCertificate,
// ErrCertificateRefused or ErrClosed, or is a *RemoteError with the peer's words.
// Request and answer have at most 64 KiB.
func (m *Mesh) Call(ctx context.Context, to HostID, method string, body []byte) ([]byte, error) {
	out, err := m.call(ctx, to, method, body)
	if err != nil {
		return nil, fmt.Errorf("call %s of %s: %w", method, to, err)
	}
	return out, nil
}

func (m *Mesh) call(ctx context.Context, to HostID, method string, body []byte) ([]byte, error) {
	if err := m.usable(); err != nil {
		return nil, err
	}
	if len(body) > maxBody {
		return nil, fmt.Errorf("request of %d bytes, at most %d", len(body), maxBody)
	}
	addr, err := m.rpcAddr(to)
	if err != nil {
		return nil, err
	}
	client, err := m.peers.get(to, addr)
	if err != nil {
		return nil, err
	}
	defer m.peers.calls.Done()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	defer context.AfterFunc(m.run, cancel)()
	target := url.URL{Scheme: "https", Host: addr, Path: rpcPrefix + method}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, m.callFailed(err, addr)
	}
	defer resp.Body.Close()
	return readAnswer(resp)
}

// callFailed tells the ways apart in which no answer came.
func (m *Mesh) callFailed(err error, addr string) error {
	var op *net.OpError
	switch {
	case m.run.Err() != nil:
		return fmt.Errorf("%w: %w", ErrClosed, err)
	case errors.Is(err, ErrForeignCertificate):
		m.counts.refuse("rpc_foreign_peer", addr, err)
		return err
	// crypto/tls reports the peer's alert so; peers send none but on certificates.
	case errors.As(err, &op) && op.Op == "remote error":
		cert, _ := m.identity.current()
		return fmt.Errorf("%w (valid until %s): %w", ErrCertificateRefused, cert.Leaf.NotAfter.Format(time.DateOnly), err)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

func readAnswer(resp *http.Response) ([]byte, error) {
	out, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: the answer broke off: %w", ErrUnreachable, err)
	case len(out) > maxBody:
		return nil, fmt.Errorf("answer of more than %d bytes", maxBody)
	case resp.StatusCode != http.StatusOK:
		return nil, decodeError(resp.StatusCode, out)
	}
	return out, nil
}

// decodeError reads a peer's error.
func decodeError(code int, body []byte) *RemoteError {
	remote := &RemoteError{}
	if json.Unmarshal(body, remote) != nil || remote.Text == "" {
		remote.Text = "the peer answers " + http.StatusText(code)
	}
	remote.Code, remote.Text = code, printable(remote.Text)
	return remote
}

// rpcAddr is where a live member's RPC listens.
func (m *Mesh) rpcAddr(to HostID) (string, error) {
	for _, s := range m.serf.Members() {
		if HostID(s.Name) != to {
			continue
		}
		if status := statusOf(s.Status); status != StatusAlive {
			return "", fmt.Errorf("%w: it has %s", ErrNotMember, status)
		}
		t := decodeTags(s.Tags)
		if t.Version != ProtocolVersion {
			return "", fmt.Errorf("%w: it speaks version %d of the peer protocol, this host %d; upgrade the older one", ErrNotMember, t.Version, ProtocolVersion)
		}
		if _, err := netip.ParseAddrPort(t.RPCAddr); err != nil {
			return "", fmt.Errorf("%w: it tells no usable address: %w", ErrNotMember, err)
		}
		return t.RPCAddr, nil
	}
	return "", ErrNotMember
}
