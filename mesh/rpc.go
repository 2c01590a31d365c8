package mesh

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	maxBody       = 64 << 10 // of a request and of an answer
	maxConcurrent = 64       // requests served at a time
	serveTimeout  = 10 * time.Second
	callTimeout   = 3 * time.Second // of one call, unless its context is shorter
	maxClients    = 1024
	rpcPrefix     = "/rpc/v1/"
)

// Handler answers one method of the peer RPC; from is proven by certificate.
type Handler = func(ctx context.Context, from HostID, body []byte) ([]byte, error)

// RemoteError is an error that the peer's handler returned.
type RemoteError struct {
	Code int // HTTP status
	Text string
}

func (e *RemoteError) Error() string { return e.Text }

type rpcServer struct {
	m        *Mesh
	http     *http.Server
	places   chan struct{}
	done     chan struct{}
	mu       sync.RWMutex
	handlers map[string]Handler // guarded by mu
}

// startRPC listens and fills in the tags that tell peers where.
func (m *Mesh) startRPC() error {
	id, err := newIdentity(&m.cfg)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", m.cfg.RPCBind)
	if err != nil {
		return fmt.Errorf("listen for peers: %w; set mesh.rpc_bind", err)
	}
	s := &rpcServer{m: m, places: make(chan struct{}, maxConcurrent), done: make(chan struct{}), handlers: map[string]Handler{}}
	s.http = &http.Server{
		Handler: http.HandlerFunc(s.serve), TLSConfig: m.serverTLS(id),
		ReadHeaderTimeout: 3 * time.Second, ReadTimeout: serveTimeout, WriteTimeout: serveTimeout, IdleTimeout: time.Minute,
		MaxHeaderBytes: 8 << 10, ErrorLog: log.New(&handshakeSink{m}, "", 0),
	}
	m.rpc = s
	m.peers = &rpcClients{id: id, byHost: map[HostID]*rpcClient{}}
	cert, _ := id.current()
	m.cfg.Tags.Version, m.cfg.Tags.Name = ProtocolVersion, m.cfg.Name
	m.cfg.Tags.RPCAddr, m.cfg.Tags.CertFingerprint = l.Addr().String(), fingerprint(cert.Certificate[0])
	go func() {
		defer close(s.done)
		_ = s.http.ServeTLS(l, "", "") // ends with Close
	}()
	return nil
}

// handshakeSink counts handshakes that failed before a certificate was judged.
type handshakeSink struct{ m *Mesh }

func (h *handshakeSink) Write(line []byte) (int, error) {
	if text := string(line); strings.Contains(text, "TLS handshake error") && !strings.Contains(text, ErrForeignCertificate.Error()) {
		h.m.counts.add("rpc_handshake")
	}
	h.m.log.Debug("rpc: " + string(bytes.TrimSpace(line)))
	return len(line), nil
}

func (s *rpcServer) close() error {
	if s == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = s.http.Close()
	}
	<-s.done
	return err
}

// Handle sets the handler of a method.
func (m *Mesh) Handle(method string, fn Handler) {
	m.rpc.mu.Lock()
	defer m.rpc.mu.Unlock()
	m.rpc.handlers[method] = fn
}

func (s *rpcServer) serve(w http.ResponseWriter, r *http.Request) {
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	default:
		s.m.counts.add("rpc_overloaded")
		w.Header().Set("Retry-After", "1")
		fail(w, http.StatusServiceUnavailable, "this host serves too many requests: try again")
		return
	}
	method, ok := strings.CutPrefix(r.URL.Path, rpcPrefix)
	s.mu.RLock()
	fn := s.handlers[method]
	s.mu.RUnlock()
	if !ok || fn == nil || r.Method != http.MethodPost {
		fail(w, http.StatusNotFound, fmt.Sprintf("no method %q here: is this host's headroom older?", method))
		return
	}
	// The handshake has verified the chain; this reads the name.
	from, err := hostOf(r.TLS.PeerCertificates[0], s.m.cfg.Cluster)
	if err != nil {
		fail(w, http.StatusForbidden, err.Error())
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		s.m.counts.add("rpc_oversized")
		fail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("request of more than %d bytes", maxBody))
		return
	}
	s.answer(w, r, from, fn, body)
}

// answer runs the handler; its panic is the caller's error and not our end.
func (s *rpcServer) answer(w http.ResponseWriter, r *http.Request, from HostID, fn Handler, body []byte) {
	defer func() {
		if p := recover(); p != nil {
			s.m.log.Error("rpc handler panicked", "path", r.URL.Path, "from", from, "panic", p)
			fail(w, http.StatusInternalServerError, "the handler failed")
		}
	}()
	ctx, cancel := context.WithTimeout(r.Context(), serveTimeout)
	defer cancel()
	out, err := fn(ctx, from, body)
	if err != nil {
		fail(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(out) // the caller is gone when this fails
}

func fail(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(RemoteError{Code: code, Text: text}) // the caller is gone when this fails
}

// rpcClients keeps one connection pool per peer.
type rpcClients struct {
	id     *identity
	mu     sync.Mutex
	byHost map[HostID]*rpcClient // guarded by mu
}

type rpcClient struct {
	addr string
	http *http.Client
}

func (c *rpcClients) get(to HostID, addr string) *http.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.byHost[to]; p != nil && p.addr == addr {
		return p.http
	}
	for id, p := range c.byHost { // the peer moved, or there are too many
		if id == to || len(c.byHost) >= maxClients {
			p.http.CloseIdleConnections()
			delete(c.byHost, id)
		}
	}
	p := &rpcClient{addr: addr, http: &http.Client{Transport: &http.Transport{
		TLSClientConfig: clientTLS(c.id, to), TLSHandshakeTimeout: callTimeout,
		DialContext:     (&net.Dialer{Timeout: callTimeout}).DialContext,
		MaxConnsPerHost: 4, MaxIdleConnsPerHost: 2, IdleConnTimeout: 30 * time.Second,
	}}}
	c.byHost[to] = p
	return p.http
}

func (c *rpcClients) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, p := range c.byHost {
		p.http.CloseIdleConnections()
		delete(c.byHost, id)
	}
}

// Call asks a live member, once: whoever calls decides on a retry. The error
// wraps ErrNotMember, ErrUnreachable or ErrForeignCertificate, or is a
// *RemoteError with the peer's words.
func (m *Mesh) Call(ctx context.Context, to HostID, method string, body []byte) ([]byte, error) {
	if len(body) > maxBody {
		return nil, fmt.Errorf("call %s: request of %d bytes, at most %d", method, len(body), maxBody)
	}
	addr, err := m.rpcAddr(to)
	if err != nil {
		return nil, fmt.Errorf("call %s of %s: %w", method, to, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+addr+rpcPrefix+method, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("call %s of %s: %w", method, to, err)
	}
	resp, err := m.peers.get(to, addr).Do(req)
	if err != nil {
		if errors.Is(err, ErrForeignCertificate) || strings.Contains(err.Error(), "bad certificate") {
			m.counts.add("rpc_foreign_peer")
			return nil, fmt.Errorf("call %s of %s: %w: %w", method, to, ErrForeignCertificate, err)
		}
		return nil, fmt.Errorf("call %s of %s: %w: %w", method, to, ErrUnreachable, err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("call %s of %s: %w: %w", method, to, ErrUnreachable, err)
	case len(out) > maxBody:
		return nil, fmt.Errorf("call %s of %s: answer of more than %d bytes", method, to, maxBody)
	case resp.StatusCode != http.StatusOK:
		remote := &RemoteError{Code: resp.StatusCode}
		if json.Unmarshal(out, remote) != nil || remote.Text == "" {
			remote.Text = resp.Status
		}
		return nil, fmt.Errorf("call %s of %s: %w", method, to, remote)
	}
	return out, nil
}

// rpcAddr is where a live member's RPC listens.
func (m *Mesh) rpcAddr(to HostID) (string, error) {
	for _, s := range m.serf.Members() {
		if HostID(s.Name) != to {
			continue
		}
		if status := statusOf(s.Status); status != StatusAlive {
			return "", fmt.Errorf("%w: it is %s", ErrNotMember, status)
		}
		t := decodeTags(s.Tags)
		if t.Version != ProtocolVersion || t.RPCAddr == "" {
			return "", fmt.Errorf("%w: it speaks version %d of the peer protocol, this host %d", ErrNotMember, t.Version, ProtocolVersion)
		}
		return t.RPCAddr, nil
	}
	return "", ErrNotMember
}
