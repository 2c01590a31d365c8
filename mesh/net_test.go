package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	gossipPort = 7946
	rpcPort    = 7947
)

// world is a network of hosts within one synctest bubble: packets and streams
// take time, get lost, and are cut. Its queues are buffered: memberlist's own
// mock blocks for ever when a node stops.
type world struct {
	t       testing.TB
	certs   *authority
	latency func(a, b netip.Addr) time.Duration

	mu    sync.Mutex
	rng   *rand.Rand
	loss  float64
	hosts map[netip.Addr]*host
	cuts  func(a, b netip.Addr) bool
	sent  traffic
	tape  []taped // packets, while taping
	tapes bool
}

// taped is a packet as somebody on the wire would keep it.
type taped struct {
	from, to netip.AddrPort
	bytes    []byte
}

// setTaping starts and stops keeping packets, at most 5000.
func (w *world) setTaping(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tapes = on
}

// traffic is what has been sent so far; streams count both ways.
type traffic struct{ packets, packetBytes, streamBytes int }

func (w *world) traffic() traffic {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent
}

func newWorld(t testing.TB) *world {
	return &world{t: t, certs: newAuthority(t, "lab"), rng: rand.New(rand.NewPCG(1, 2)), hosts: map[netip.Addr]*host{},
		latency: func(netip.Addr, netip.Addr) time.Duration { return 200 * time.Microsecond },
		cuts:    func(netip.Addr, netip.Addr) bool { return false }}
}

func (w *world) setLoss(share float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loss = share
}

// setCuts replaces the rule by which two addresses cannot talk; nil heals all.
func (w *world) setCuts(rule func(a, b netip.Addr) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if rule == nil {
		rule = func(netip.Addr, netip.Addr) bool { return false }
	}
	w.cuts = rule
}

func (w *world) packet(from, to netip.AddrPort, b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent.packets++
	w.sent.packetBytes += len(b)
	if w.tapes && len(w.tape) < 5000 {
		w.tape = append(w.tape, taped{from, to, append([]byte(nil), b...)})
	}
	h := w.hosts[to.Addr()]
	if h == nil || w.cuts(from.Addr(), to.Addr()) || w.rng.Float64() < w.loss {
		return
	}
	p := &memberlist.Packet{Buf: append([]byte(nil), b...), From: net.UDPAddrFromAddrPort(from)}
	time.AfterFunc(w.latency(from.Addr(), to.Addr()), func() {
		p.Timestamp = time.Now()
		select {
		case h.packets <- p:
		default: // like a full socket
		}
	})
}

// dial returns one end of a stream whose other end the callee accepts.
func (w *world) dial(ctx context.Context, from netip.Addr, addr string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	h, cut, delay := w.hosts[to.Addr()], w.cuts(from, to.Addr()), w.latency(from, to.Addr())
	w.mu.Unlock()
	if cut {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("i/o timeout")}
	}
	time.Sleep(delay)
	w.mu.Lock()
	defer w.mu.Unlock()
	accept := chan net.Conn(nil)
	if h != nil && w.hosts[to.Addr()] == h {
		accept = h.accepts(to.Port())
	}
	here, there := net.Pipe()
	select {
	case accept <- &pipe{there, w, net.TCPAddrFromAddrPort(to), net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 40000))}:
		return &pipe{here, w, net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 40000)), net.TCPAddrFromAddrPort(to)}, nil
	default:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	}
}

type pipe struct {
	net.Conn
	w             *world
	local, remote net.Addr
}

func (p *pipe) Write(b []byte) (int, error) {
	n, err := p.Conn.Write(b)
	p.w.mu.Lock()
	p.w.sent.streamBytes += n
	p.w.mu.Unlock()
	return n, err
}

func (p *pipe) LocalAddr() net.Addr  { return p.local }
func (p *pipe) RemoteAddr() net.Addr { return p.remote }

// host is one machine of the world: its gossip transport and its RPC listener.
type host struct {
	w       *world
	ip      netip.Addr
	packets chan *memberlist.Packet
	streams chan net.Conn
	conns   chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func (w *world) plug(ip netip.Addr) *host {
	h := &host{w: w, ip: ip, packets: make(chan *memberlist.Packet, 4096), streams: make(chan net.Conn, 256),
		conns: make(chan net.Conn, 256), closed: make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hosts[ip] = h
	return h
}

// unplug takes the host off the network, as a crash would.
func (h *host) unplug() {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.w.hosts[h.ip] == h {
		delete(h.w.hosts, h.ip)
	}
}

func (h *host) accepts(port uint16) chan net.Conn {
	switch port {
	case gossipPort:
		return h.streams
	case rpcPort:
		return h.conns
	}
	return nil
}

func (h *host) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return h.ip.AsSlice(), gossipPort, nil
}

func (h *host) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, err
	}
	h.w.packet(netip.AddrPortFrom(h.ip, gossipPort), to, b)
	return time.Now(), nil
}

func (h *host) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return h.w.dial(ctx, h.ip, addr)
}

func (h *host) PacketCh() <-chan *memberlist.Packet { return h.packets }
func (h *host) StreamCh() <-chan net.Conn           { return h.streams }

// Shutdown also closes the streams that nobody has taken yet, as a kernel would.
func (h *host) Shutdown() error {
	h.unplug()
	for {
		select {
		case c := <-h.streams:
			c.Close()
		case c := <-h.conns:
			c.Close()
		default:
			return nil
		}
	}
}

// The listener of the RPC.

func (h *host) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}
func (h *host) Close() error   { h.once.Do(func() { close(h.closed) }); return nil }
func (h *host) Addr() net.Addr { return net.TCPAddrFromAddrPort(netip.AddrPortFrom(h.ip, rpcPort)) }

func (h *host) seams() seams {
	return seams{transport: h, listen: func(string) (net.Listener, error) { return h, nil },
		dial: func(ctx context.Context, _, addr string) (net.Conn, error) { return h.w.dial(ctx, h.ip, addr) }}
}

func ipOf(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }
func idOf(i int) HostID     { return HostID(fmt.Sprintf("host-%03d", i)) }
func gossipAt(i int) string { return netip.AddrPortFrom(ipOf(i), gossipPort).String() }
func key(fill byte) []byte  { return []byte(fmt.Sprintf("%032d", fill)) }
func quiet() *slog.Logger   { return slog.New(slog.NewTextHandler(io.Discard, nil)) }
func half(n int) func(a, b netip.Addr) bool {
	side := func(a netip.Addr) bool { b := a.As4(); return int(b[2])<<8|int(b[3]) > n }
	return func(a, b netip.Addr) bool { return side(a) != side(b) }
}

// config is that of host i, whose only seed is host 1.
func (w *world) config(i int) Config {
	dir := w.certs.host(idOf(i))
	return Config{Cluster: "lab", ID: idOf(i), Name: fmt.Sprintf("h%d", i), Bind: gossipAt(i), Join: []string{gossipAt(1)},
		Key: key(1), CAFile: w.certs.ca(), CertFile: filepath.Join(dir, HostCertName), KeyFile: filepath.Join(dir, HostKeyName),
		ViewStable: 10 * time.Second, Logger: quiet()}
}

// start starts host i; edit may change its configuration.
func (w *world) start(i int, edit func(*Config)) *Mesh {
	w.t.Helper()
	c := w.config(i)
	if edit != nil {
		edit(&c)
	}
	m, err := start(w.t.Context(), c, w.plug(ipOf(i)).seams())
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// joinBatch is how many hosts start in the same instant: their only seed takes 256
// streams at a time, as a listening socket would.
const joinBatch = 50

// startAll starts hosts 1..n and waits until each sees all.
func (w *world) startAll(n int) []*Mesh {
	w.t.Helper()
	var all []*Mesh
	for i := 1; i <= n; i++ {
		all = append(all, w.start(i, nil))
		if i%joinBatch == 0 {
			time.Sleep(time.Second)
		}
	}
	// What a large cluster's gossip drops comes by push/pull, which is the rarer the
	// more hosts there are.
	w.await(2*time.Minute+time.Duration(n)*time.Second, "all see all", func() bool { return everyoneSees(all, n) })
	return all
}

func everyoneSees(all []*Mesh, alive int) bool {
	for _, m := range all {
		// Counting copies all members: a thousand hosts that know a thousand are asked
		// only when they may have come to an end.
		if m.serf.NumNodes() < alive || count(m, StatusAlive) != alive {
			return false
		}
	}
	return true
}

// count asks Serf itself: Members would cost more than the gossip does.
func count(m *Mesh, s Status) int {
	n := 0
	for _, x := range m.serf.Members() {
		if statusOf(x.Status) == s {
			n++
		}
	}
	return n
}

// await waits in virtual time, and returns how long it took.
func (w *world) await(limit time.Duration, what string, ok func() bool) time.Duration {
	w.t.Helper()
	begin := time.Now()
	for !ok() {
		if time.Since(begin) > limit {
			w.t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return time.Since(begin)
}

// stopAll closes all at once.
func stopAll(t testing.TB, all ...*Mesh) {
	t.Helper()
	var wg sync.WaitGroup
	for _, m := range all {
		wg.Go(func() {
			if err := m.Close(); err != nil {
				t.Errorf("close %s: %v", m.Self(), err)
			}
		})
	}
	wg.Wait()
}

// bubble runs a test in virtual time. memberlist's probes wait for their timers
// after a shutdown: two minutes let them end.
func bubble(t *testing.T, run func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		run(t, w)
		time.Sleep(2 * time.Minute)
	})
}

// member finds a host in a mesh's view.
func member(t testing.TB, m *Mesh, id HostID) Member {
	t.Helper()
	for _, x := range m.Members() {
		if x.ID == id {
			return x
		}
	}
	t.Fatalf("%s does not know %s", m.Self(), id)
	return Member{}
}
