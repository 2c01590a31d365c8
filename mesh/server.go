package mesh

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/netutil"
)

const (
	maxBody       = 64 << 10 // of a request and of an answer
	maxConcurrent = 64       // handlers at a time
	maxConns      = 512      // open connections
	readTimeout   = 5 * time.Second
	handleTimeout = 10 * time.Second
	stopTimeout   = 3 * time.Second // for handlers that do not heed their context
	rpcPrefix     = "/rpc/v1/"
)

// Handler answers one method of the peer RPC; from is proven by certificate.
// It must be idempotent, because a caller that got no answer asks again, and must
// return when ctx ends. An error reaches the caller as *RemoteError.
type Handler = func(ctx context.Context, from HostID, body []byte) ([]byte, error)

// RemoteError is an error that the peer answered with.
type RemoteError struct {
	// Code is an HTTP status: 422 is the handler's own error; 404 an unknown
	// method, 503 an overloaded peer, 500 a failed handler.
	Code int    `json:"code"`
	Text string `json:"text"`
}

// Error is the peer's text.
func (e *RemoteError) Error() string { return e.Text }

// rpcServer serves HTTP/1.1 over TLS 1.3: POST /rpc/v1/<method>.
type rpcServer struct {
	log      *slog.Logger
	counts   *counters
	identity *identity
	addr     string // ip:port
	http     *http.Server
	stop     context.CancelFunc // ends the handlers' context
	places   chan struct{}
	done     chan struct{} // closed when the server has ended

	mu       sync.RWMutex
	handlers map[string]Handler // guarded by mu
}

func (m *Mesh) startRPC(listen func(string) (net.Listener, error)) (*rpcServer, error) {
	l, err := listen(m.cfg.RPCBind)
	if err != nil {
		return nil, fmt.Errorf("listen for peers: %w; set mesh.rpc_bind", err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(m.run))
	s := &rpcServer{log: m.log, counts: m.counts, identity: m.identity, addr: l.Addr().String(), stop: stop,
		places: make(chan struct{}, maxConcurrent), done: make(chan struct{}), handlers: map[string]Handler{}}
	var http1 http.Protocols
	http1.SetHTTP1(true)
	s.http = &http.Server{
		Handler: http.HandlerFunc(s.serve), TLSConfig: m.identity.serverTLS(), Protocols: &http1,
		ReadHeaderTimeout: readTimeout, ReadTimeout: readTimeout, IdleTimeout: time.Minute,
		WriteTimeout: readTimeout + handleTimeout, MaxHeaderBytes: 8 << 10,
		ErrorLog:    log.New(&handshakeSink{m.log, m.counts}, "", 0),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	go func() {
		defer close(s.done)
		_ = s.http.ServeTLS(netutil.LimitListener(l, maxConns), "", "") // ends with close
	}()
	return s, nil
}

// handshakeSink counts handshakes that failed for other reasons than the
// caller's certificate, which is counted where it is judged.
type handshakeSink struct {
	log    *slog.Logger
	counts *counters
}

// Write takes one line of the HTTP server's log.
func (h *handshakeSink) Write(line []byte) (int, error) {
	text := string(bytes.TrimSpace(line))
	after, handshake := strings.CutPrefix(text, "http: TLS handshake error from ")
	switch {
	case !handshake:
		h.log.Debug("rpc: " + text)
	case !strings.Contains(text, ErrForeignCertificate.Error()):
		from, why, _ := strings.Cut(after, ": ")
		h.counts.refuse("rpc_handshake", from, why)
	}
	return len(line), nil
}

// close ends the handlers' context and waits for them.
func (s *rpcServer) close() error {
	s.stop()
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("an RPC handler did not end within %v: %w", stopTimeout, err), s.http.Close())
	}
	<-s.done
	return err
}

// Handle sets the handler of a method, which is one path segment. Until then
// callers are told that the method is unknown.
func (m *Mesh) Handle(method string, fn Handler) {
	m.rpc.mu.Lock()
	defer m.rpc.mu.Unlock()
	m.rpc.handlers[method] = fn
}

func (s *rpcServer) serve(w http.ResponseWriter, r *http.Request) {
	// The handshake has verified the chain; a connection may outlive its
	// certificate or the CA.
	from, err := s.identity.caller(r.TLS.PeerCertificates, r.RemoteAddr)
	if err != nil {
		w.Header().Set("Connection", "close")
		fail(w, http.StatusForbidden, err.Error())
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
	body, ok := s.body(w, r)
	if !ok {
		return
	}
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	default:
		s.counts.refuse("rpc_overloaded", r.RemoteAddr, method)
		w.Header().Set("Retry-After", "1")
		fail(w, http.StatusServiceUnavailable, "this host serves too many requests: try again")
		return
	}
	s.answer(w, r, from, fn, body)
}

// body reads the request before a place is taken, so that a slow caller holds up
// nobody.
func (s *rpcServer) body(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		return body, true
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		s.counts.refuse("rpc_oversized", r.RemoteAddr, err)
		fail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("request of more than %d bytes", maxBody))
		return nil, false
	}
	s.counts.refuse("rpc_broken", r.RemoteAddr, err)
	fail(w, http.StatusBadRequest, "the request broke off")
	return nil, false
}

// answer runs the handler; its panic is the caller's error and not our end.
func (s *rpcServer) answer(w http.ResponseWriter, r *http.Request, from HostID, fn Handler, body []byte) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("rpc handler panicked", "path", r.URL.Path, "from", from, "panic", p)
			s.counts.refuse("rpc_panic", r.RemoteAddr, p)
			fail(w, http.StatusInternalServerError, "the handler failed: see the log of that host")
		}
	}()
	ctx, cancel := context.WithTimeout(r.Context(), handleTimeout)
	defer cancel()
	out, err := fn(ctx, from, body)
	if err != nil {
		fail(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	if len(out) > maxBody {
		fail(w, http.StatusInternalServerError, fmt.Sprintf("answer of %d bytes, at most %d", len(out), maxBody))
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(out) // the caller is gone when this fails
}

func fail(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(RemoteError{Code: code, Text: cut(text, maxBody/8)}) // the caller is gone when this fails
}
