package mesh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

const (
	eventDigest = "headroom-digest" // constant: Serf makes a metric of each name
	eventNews   = "headroom-news"
	eventBuffer = 8192 // Serf events waiting for the draining goroutine
	maxPeers    = 4096 // digests kept
	joinRetry   = 2 * time.Second
	tagWait     = 8 * time.Second // Serf's own broadcast time-out is 5 s
	// churnShare of the members changing within churnWindow makes a view unstable.
	churnShare  = 0.1
	churnWindow = time.Minute
)

// Mesh is this host's place in the cluster. All methods may be called
// concurrently.
type Mesh struct {
	cfg     Config
	log     *slog.Logger
	started time.Time
	counts  counters
	rpc     *rpcServer
	peers   *rpcClients
	events  chan serf.Event
	tagCh   chan tagRequest
	stop    context.CancelFunc
	wg      sync.WaitGroup
	serf    *serf.Serf

	mu      sync.Mutex
	digests map[HostID]heard   // guarded by mu
	changes []time.Time        // of membership, latest last; guarded by mu
	subs    map[int]chan Event // guarded by mu
	nextSub int                // guarded by mu
	sent    Digest             // last published; guarded by mu
	sentAt  time.Time          // guarded by mu
	seq     uint32             // guarded by mu
	nSent   uint64             // guarded by mu
	nHeld   uint64             // guarded by mu
	dropped uint64             // guarded by mu
	closed  bool               // guarded by mu
}

// heard is a digest and when it came.
type heard struct {
	digest Digest
	at     time.Time
}

type tagRequest struct {
	tags  Tags
	reply chan error
}

// Start joins the cluster. It returns once Serf and the RPC listen; joining the
// addresses of Config.Join goes on in the background until one of them answers.
func Start(ctx context.Context, cfg Config) (*Mesh, error) {
	return start(ctx, cfg, nil)
}

// start takes a memberlist transport for tests; nil means the network.
func start(ctx context.Context, cfg Config, transport memberlist.Transport) (*Mesh, error) {
	if err := cfg.check(transport != nil); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Mesh{
		cfg: cfg, log: cfg.Logger, started: time.Now(), counts: counters{n: map[string]uint64{}},
		events: make(chan serf.Event, eventBuffer), tagCh: make(chan tagRequest),
		digests: map[HostID]heard{}, subs: map[int]chan Event{},
		changes: []time.Time{time.Now()},
		// A later start counts on from a higher number, so that peers do not
		// take its digests for old ones.
		seq: uint32(time.Now().Unix()),
	}
	if err := m.startRPC(); err != nil {
		return nil, err
	}
	tags, err := m.cfg.Tags.encode()
	if err == nil {
		err = m.startSerf(tags, transport)
	}
	if err != nil {
		return nil, errors.Join(err, m.rpc.close())
	}
	runCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	m.stop = stop
	m.wg.Go(func() { m.drain(runCtx) })
	m.wg.Go(func() { m.setTags(runCtx) })
	m.wg.Go(func() { m.join(runCtx) })
	return m, nil
}

// check refuses what could only fail later, or unsafely.
func (c *Config) check(test bool) error {
	switch len(c.Key) {
	case 16, 24, 32:
	case 0:
		return ErrNoKey
	default:
		return fmt.Errorf("gossip key of %d bytes: it must have 16, 24 or 32", len(c.Key))
	}
	if c.Cluster == "" || c.ID == "" || len(c.ID) > maxHostID {
		return fmt.Errorf("cluster %q, host id %q: both must be set, the id with at most %d characters", c.Cluster, c.ID, maxHostID)
	}
	if test {
		return nil
	}
	for what, addr := range map[string]string{"bind": c.Bind, "rpc_bind": c.RPCBind} {
		host, _, err := net.SplitHostPort(addr)
		ip := net.ParseIP(host)
		if err != nil || ip == nil || ip.IsUnspecified() {
			return fmt.Errorf("%s %q: name one address of the management network, as ip:port; peers must know where to answer", what, addr)
		}
	}
	return nil
}

func (m *Mesh) startSerf(tags map[string]string, transport memberlist.Transport) error {
	mc := memberlist.DefaultLANConfig()
	mc.Name = string(m.cfg.ID)
	mc.SecretKey = m.cfg.Key
	mc.Label = m.cfg.Cluster
	mc.Transport = transport
	mc.LogOutput = &logSink{m: m}
	if transport == nil {
		if err := addresses(mc, m.cfg.Bind, m.cfg.Advertise); err != nil {
			return err
		}
	}
	sc := serf.DefaultConfig()
	sc.NodeName = string(m.cfg.ID)
	sc.Tags = tags
	sc.EventCh = m.events
	sc.MemberlistConfig = mc
	sc.LogOutput = mc.LogOutput
	sc.SnapshotPath = m.cfg.SnapshotPath
	sc.EventBuffer, sc.QueryBuffer = 64, 64
	sc.MaxQueueDepth = 1024
	sc.RejoinAfterLeave = true
	var err error
	if m.serf, err = serf.Create(sc); err != nil {
		return fmt.Errorf("start gossip on %s: %w", m.cfg.Bind, err)
	}
	return nil
}

// addresses sets where gossip listens and what it tells peers.
func addresses(mc *memberlist.Config, bind, advertise string) error {
	host, port, err := splitPort(bind)
	if err != nil {
		return err
	}
	mc.BindAddr, mc.BindPort = host, port
	mc.AdvertiseAddr, mc.AdvertisePort = host, port
	if advertise != "" {
		if mc.AdvertiseAddr, mc.AdvertisePort, err = splitPort(advertise); err != nil {
			return err
		}
	}
	return nil
}

func splitPort(addr string) (string, int, error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("address %q: %w", addr, err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return "", 0, fmt.Errorf("address %q: port: %w", addr, err)
	}
	return host, port, nil
}

// join tries the given addresses until one answers. Old events are ignored: they
// are hints of a time that is over.
func (m *Mesh) join(ctx context.Context) {
	retry := time.NewTicker(joinRetry)
	defer retry.Stop()
	for {
		if m.joinOnce() {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-retry.C:
		}
	}
}

func (m *Mesh) joinOnce() bool {
	var others []string
	for _, a := range m.cfg.Join {
		if a != m.cfg.Bind && a != m.cfg.Advertise {
			others = append(others, a)
		}
	}
	if len(others) == 0 {
		return true
	}
	n, err := m.serf.Join(others, true)
	if n > 0 {
		m.log.Info("joined the cluster", "contacted", n)
		return true
	}
	m.log.Warn("no address of mesh.join answers; trying again. If the peers are up, the gossip key or the cluster's name differs from theirs", "err", err)
	return false
}

// Self is this host's id.
func (m *Mesh) Self() HostID { return m.cfg.ID }

// Members are the hosts of the cluster, this one included.
func (m *Mesh) Members() []Member {
	list := m.serf.Members()
	out := make([]Member, 0, len(list))
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range list {
		n := Member{ID: HostID(s.Name), Addr: net.JoinHostPort(s.Addr.String(), strconv.Itoa(int(s.Port))),
			Status: statusOf(s.Status), Tags: decodeTags(s.Tags)}
		n.Name = n.Tags.Name
		if h, ok := m.digests[n.ID]; ok && now.Sub(h.at) <= h.digest.ValidFor {
			n.Digest, n.HasDigest, n.DigestAge = h.digest, true, now.Sub(h.at)
		}
		n.RTT, n.RTTKnown = m.rtt(s.Name, now)
		out = append(out, n)
	}
	return out
}

func statusOf(s serf.MemberStatus) Status {
	switch s {
	case serf.StatusAlive:
		return StatusAlive
	case serf.StatusLeaving:
		return StatusLeaving
	case serf.StatusLeft:
		return StatusLeft
	}
	return StatusFailed
}

// rtt is the estimated round trip, once coordinates have had time to settle.
func (m *Mesh) rtt(name string, now time.Time) (time.Duration, bool) {
	after := m.cfg.CoordinatesAfter
	if after == 0 {
		after = 5 * time.Minute
	}
	if name == string(m.cfg.ID) || now.Sub(m.started) < after {
		return 0, false
	}
	here, err := m.serf.GetCoordinate()
	if err != nil {
		return 0, false
	}
	there, ok := m.serf.GetCachedCoordinate(name)
	if !ok {
		return 0, false
	}
	return here.DistanceTo(there), true
}

// Stable says whether membership has held still long enough to plan on, and why
// not.
func (m *Mesh) Stable() (bool, string) {
	members := m.serf.NumNodes()
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.changes) > 1 && now.Sub(m.changes[0]) > churnWindow {
		m.changes = m.changes[1:]
	}
	if quiet := now.Sub(m.changes[len(m.changes)-1]); quiet < m.cfg.ViewStable {
		return false, fmt.Sprintf("membership changed %.0f s ago, %v without change are needed", quiet.Seconds(), m.cfg.ViewStable)
	}
	// The window may be longer than ViewStable; a lab shortens both.
	window := min(churnWindow, max(m.cfg.ViewStable, time.Second))
	recent := 0
	for _, at := range m.changes {
		if now.Sub(at) < window {
			recent++
		}
	}
	if float64(recent) > churnShare*float64(members) {
		return false, fmt.Sprintf("%d of %d members changed within %v", recent, members, window)
	}
	return true, ""
}

// HealthScore is memberlist's doubt in this host's own responsiveness; 0 is well.
func (m *Mesh) HealthScore() int { return m.serf.Memberlist().GetHealthScore() }

// SetTags tells the cluster this host's slow-changing facts. It costs gossip:
// call it on change only.
func (m *Mesh) SetTags(t Tags) error {
	r := tagRequest{tags: t, reply: make(chan error, 1)}
	timer := time.NewTimer(tagWait)
	defer timer.Stop()
	select {
	case m.tagCh <- r:
	case <-timer.C:
		return fmt.Errorf("set tags: busy for %v", tagWait)
	}
	select {
	case err := <-r.reply:
		return err
	case <-timer.C:
		return fmt.Errorf("set tags: not told to anybody within %v", tagWait)
	}
}

// setTags is the only caller of Serf's SetTags, which races with itself.
func (m *Mesh) setTags(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-m.tagCh:
			t := r.tags
			t.Version, t.Name, t.RPCAddr, t.CertFingerprint = m.cfg.Tags.Version, m.cfg.Tags.Name, m.cfg.Tags.RPCAddr, m.cfg.Tags.CertFingerprint
			encoded, err := t.encode()
			if err == nil {
				err = m.serf.SetTags(encoded)
			}
			r.reply <- err
		}
	}
}

// Close leaves the cluster, so that peers know at once, and waits for every
// goroutine.
func (m *Mesh) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	m.mu.Unlock()
	var leave error
	if m.serf.State() == serf.SerfAlive {
		leave = m.leave()
	}
	err := errors.Join(leave, m.serf.Shutdown(), m.rpc.close())
	m.peers.close()
	m.stop()
	m.wg.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, ch := range m.subs {
		close(ch)
		delete(m.subs, id)
	}
	return err
}

// leaveWait bounds the farewell: an agent must stop within five seconds.
const leaveWait = 2 * time.Second

func (m *Mesh) leave() error {
	done := make(chan error, 1)
	go func() { done <- m.serf.Leave() }()
	timer := time.NewTimer(leaveWait)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return nil // peers find out by themselves
	}
}
