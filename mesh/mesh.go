package mesh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

const (
	eventDigest = "headroom-digest" // constant: Serf makes a metric of each name
	eventNews   = "headroom-news"
	eventBuffer = 8192 // Serf events waiting for the draining goroutine
	maxPeers    = 4096 // hosts whose digests are kept
	// gossipTCPTimeout bounds dialling a peer and each of Serf's streams.
	gossipTCPTimeout = 4 * time.Second
	// broadcastTimeout and leaveDelay bound Close: Serf waits twice the first and
	// once the second when it leaves, 4 s together.
	broadcastTimeout = 1500 * time.Millisecond
	leaveDelay       = time.Second
)

// Mesh is this host's place in the cluster. All methods may be called
// concurrently.
type Mesh struct {
	cfg      Config
	log      *slog.Logger
	started  time.Time
	counts   *counters
	identity *identity
	rpc      *rpcServer
	peers    *rpcClients
	pub      *publisher
	tags     Tags // at start
	events   chan serf.Event
	tagCh    chan tagRequest
	run      context.Context // ends when Close begins
	stop     context.CancelFunc
	closing  sync.Once
	closeErr error // written within closing
	wg       sync.WaitGroup
	serf     *serf.Serf

	mu      sync.Mutex
	digests map[HostID]heard     // guarded by mu
	joined  map[HostID]time.Time // since when a member is alive; guarded by mu
	names   map[HostID]string    // guarded by mu
	changes []change             // of membership, latest last; guarded by mu
	changed time.Time            // last change, at first the start; guarded by mu
	subs    map[int]chan Event   // guarded by mu; nil when closed
	nextSub int                  // guarded by mu
	dropped uint64               // guarded by mu
	joinErr error                // why no join succeeded; guarded by mu
}

// seams replace the network in tests.
type seams struct {
	transport memberlist.Transport // nil: the network
	listen    func(addr string) (net.Listener, error)
	dial      func(ctx context.Context, network, addr string) (net.Conn, error)
}

func network() seams {
	return seams{
		listen: func(addr string) (net.Listener, error) { return net.Listen("tcp", addr) },
		dial:   (&net.Dialer{Timeout: callTimeout}).DialContext,
	}
}

// Start joins the cluster. It returns once Serf and the RPC listen; joining the
// addresses of Config.Join goes on in the background. ctx lends its values; the
// mesh lives until Close.
func Start(ctx context.Context, cfg Config) (*Mesh, error) {
	return start(ctx, cfg, network())
}

func start(ctx context.Context, cfg Config, s seams) (*Mesh, error) {
	if err := cfg.check(s.transport == nil); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	now := time.Now()
	m := &Mesh{
		cfg: cfg, log: cfg.Logger, started: now, counts: newCounters(cfg.Logger), pub: newPublisher(now),
		events: make(chan serf.Event, eventBuffer), tagCh: make(chan tagRequest),
		digests: map[HostID]heard{}, joined: map[HostID]time.Time{}, names: map[HostID]string{},
		subs: map[int]chan Event{}, changed: now,
	}
	m.run, m.stop = context.WithCancel(context.WithoutCancel(ctx))
	if err := m.open(s); err != nil {
		m.stop()
		return nil, err
	}
	m.wg.Go(m.drain)
	m.wg.Go(func() { m.ownTags(m.run) })
	m.wg.Go(func() { m.keepJoining(m.run) })
	return m, nil
}

// open loads the certificate and starts the RPC, then Serf, whose tags tell the
// RPC's address.
func (m *Mesh) open(s seams) error {
	var err error
	if m.identity, err = newIdentity(&m.cfg, m.counts); err != nil {
		return err
	}
	m.peers = newRPCClients(m.identity, s.dial)
	if m.rpc, err = m.startRPC(s.listen); err != nil {
		return err
	}
	m.tags = m.identify(m.cfg.Tags)
	encoded, err := m.tags.encode()
	if err == nil {
		err = m.startSerf(encoded, s.transport)
	}
	if err != nil {
		return errors.Join(err, m.rpc.close())
	}
	return nil
}

// startSerf holds Serf as measurements taught: see the package's doc.
func (m *Mesh) startSerf(tags map[string]string, transport memberlist.Transport) error {
	mc := memberlist.DefaultLANConfig()
	mc.Name = string(m.cfg.ID)
	mc.SecretKey = m.cfg.Key
	mc.Label = m.cfg.Cluster
	mc.Transport = transport
	mc.TCPTimeout = gossipTCPTimeout
	mc.LogOutput = &logSink{log: m.log, counts: m.counts}
	if transport == nil {
		if err := addresses(mc, m.cfg.Bind, m.cfg.Advertise); err != nil {
			return err
		}
	}
	sc := serf.DefaultConfig()
	sc.NodeName = string(m.cfg.ID)
	sc.ValidateNodeNames = true
	sc.Tags = tags
	sc.EventCh = m.events
	sc.MemberlistConfig = mc
	sc.LogOutput = mc.LogOutput
	sc.SnapshotPath = m.cfg.SnapshotPath
	// A ring of 64: it travels in every push/pull, and hints are soon old.
	sc.EventBuffer, sc.QueryBuffer = 64, 64
	sc.MaxQueueDepth = 1024
	sc.BroadcastTimeout, sc.LeavePropagateDelay = broadcastTimeout, leaveDelay
	// An agent leaves when it is restarted, too.
	sc.RejoinAfterLeave = true
	var err error
	if m.serf, err = serf.Create(sc); err != nil {
		return fmt.Errorf("start gossip on %s: %w", m.cfg.Bind, err)
	}
	return nil
}

// addresses sets where gossip listens and what it tells peers.
func addresses(mc *memberlist.Config, bind, advertise string) error {
	var err error
	if mc.BindAddr, mc.BindPort, err = splitPort(bind); err != nil {
		return err
	}
	// Without one, memberlist tells the address that it bound.
	mc.AdvertiseAddr, mc.AdvertisePort = "", mc.BindPort
	if advertise != "" {
		mc.AdvertiseAddr, mc.AdvertisePort, err = splitPort(advertise)
	}
	return err
}

// usable is ErrClosed when the mesh has been closed, or Serf is gone.
func (m *Mesh) usable() error {
	select {
	case <-m.run.Done():
		return ErrClosed
	case <-m.serf.ShutdownCh():
		return fmt.Errorf("%w: %s", ErrClosed, downText)
	default:
		return nil
	}
}

// Self is this host's id.
func (m *Mesh) Self() HostID { return m.cfg.ID }

// Close leaves the cluster, so that peers know at once, and waits for every
// goroutine: about two seconds, five at most when handlers heed their context.
// Later calls return the same.
func (m *Mesh) Close() error {
	m.closing.Do(func() { m.closeErr = m.close() })
	return m.closeErr
}

func (m *Mesh) close() error {
	m.stop()
	var leave error
	if m.serf.State() == serf.SerfAlive {
		leave = m.serf.Leave()
	}
	err := errors.Join(leave, m.serf.Shutdown(), m.rpc.close())
	m.peers.close()
	m.wg.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, ch := range m.subs {
		close(ch)
	}
	m.subs = nil
	return err
}
