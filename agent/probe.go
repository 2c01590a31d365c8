package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"headroom/agent/api"
	"headroom/mesh"
	"headroom/planner"
	"headroom/planner/negotiate"
	"headroom/predict"
)

// Methods of the peer RPC. Bodies are JSON; the caller is authenticated by its
// certificate.
const (
	methodOffer    = "offer"    // planner.Need -> planner.Offer
	methodHandover = "handover" // negotiate.Message, one-way
	methodModel    = "model"    // modelMessage, one-way
)

const (
	rpcTimeout = 3 * time.Second
	// needLife is how long a probed need is kept for the lease that may follow.
	needLife  = time.Minute
	maxNeeds  = 256
	maxOffers = 200
	maxModel  = 48 << 10
)

// modelMessage carries a forecaster's state with its VM.
type modelMessage struct {
	VM     string `json:"vm"`
	Signal string `json:"signal"`
	State  []byte `json:"state"`
}

// handlePeers answers the methods of the peer RPC.
func (a *Agent) handlePeers() {
	a.o.Mesh.Handle(methodOffer, a.answerOffer)
	a.o.Mesh.Handle(methodHandover, func(_ context.Context, from mesh.HostID, body []byte) ([]byte, error) {
		return nil, a.desk.Receive(negotiate.HostID(from), body)
	})
	a.o.Mesh.Handle(methodModel, a.acceptModel)
	a.o.Mesh.Handle(methodPause, a.answerPause)
}

// answerOffer answers a probe from the latest view and the leases of this
// moment. It promises nothing.
func (a *Agent) answerOffer(_ context.Context, from mesh.HostID, body []byte) ([]byte, error) {
	var need planner.Need
	if err := json.Unmarshal(body, &need); err != nil {
		return nil, fmt.Errorf("probe not understood: %w", err)
	}
	if need.VM == "" {
		return nil, fmt.Errorf("probe names no VM")
	}
	need.From = planner.HostID(from) // whatever it claims
	o := a.offer(need)
	a.needs.remember(need, time.Now())
	a.offers.given(need, o)
	a.needs.answered(need, o, time.Now(), a.policy)
	return json.Marshal(o)
}

func (a *Agent) offer(need planner.Need) planner.Offer {
	return planner.MakeOffer(time.Now(), a.withHoldings(a.view.Load(), a.desk.Holdings()), need, a.policy)
}

// acceptModel takes a learned model from the host that the VM comes from: only
// from a host that holds a lease for this VM here.
func (a *Agent) acceptModel(_ context.Context, from mesh.HostID, body []byte) ([]byte, error) {
	var m modelMessage
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, fmt.Errorf("model not understood: %w", err)
	}
	if len(m.State) > maxModel {
		return nil, fmt.Errorf("model of %d bytes, at most %d are taken", len(m.State), maxModel)
	}
	s, ok := signalNamed(m.Signal)
	if !ok {
		return nil, fmt.Errorf("model of signal %q, which this version does not know", m.Signal)
	}
	if !a.needs.promised(planner.VMID(m.VM), planner.HostID(from), time.Now()) {
		return nil, fmt.Errorf("no lease of %s from this host", m.VM)
	}
	select {
	case a.models <- model{vm: m.VM, signal: s, state: m.State}:
		return nil, nil
	default:
		return nil, fmt.Errorf("too many models are waiting")
	}
}

// probe asks the candidates side by side; a host that does not answer gives an
// offer with the reason.
func (a *Agent) probe(ctx context.Context, need planner.Need, candidates []planner.HostID) []planner.Offer {
	body, err := json.Marshal(need)
	if err != nil {
		a.log.Error("probe not encoded", "err", err)
		return nil
	}
	offers := make([]planner.Offer, len(candidates))
	var wg sync.WaitGroup
	for i, id := range candidates {
		wg.Go(func() { offers[i] = a.ask(ctx, id, body) })
	}
	wg.Wait()
	return offers
}

func (a *Agent) ask(ctx context.Context, id planner.HostID, body []byte) planner.Offer {
	o := planner.Offer{Host: id, Name: a.hostName(id)}
	answer, err := a.call(ctx, id, methodOffer, body)
	if err == nil {
		err = json.Unmarshal(answer, &o)
	}
	if err != nil {
		o.Refusals = []planner.Refusal{{Kind: planner.RefuseUnreachable, Text: err.Error()}}
	}
	o.Host, o.Age = id, 0 // whatever it claims
	return o
}

// admit judges a Reserve by the same rule as an offer, against the leases that
// the desk holds at this moment.
func (a *Agent) admit(from negotiate.HostID, m negotiate.Message, leases []negotiate.Lease) *negotiate.Refusal {
	need, ok := a.needs.probed(planner.VMID(m.VM), planner.HostID(from), time.Now())
	if !ok {
		return &negotiate.Refusal{Kind: negotiate.RefusedIncomplete, Text: "no probe of this VM within the last minute: probe first"}
	}
	h := a.desk.Holdings()
	h.Leases = leases
	o := planner.MakeOffer(time.Now(), a.withHoldings(a.view.Load(), h), need, a.policy)
	if len(o.Refusals) == 0 {
		a.needs.promise(need, time.Now())
		return nil
	}
	r := o.Refusals[0]
	return &negotiate.Refusal{Kind: refusalKind(r.Kind), Text: r.Text}
}

// refusalKind is the negotiation's word for the planner's reason.
func refusalKind(k planner.Kind) negotiate.RefusalKind {
	switch k {
	case planner.RefuseCPU, planner.RefuseMemory, planner.RefuseTraffic, planner.RefuseSlots:
		return negotiate.RefusedNoRoom
	case planner.RefuseConcurrency:
		return negotiate.RefusedBusy
	case planner.RefuseDraining:
		return negotiate.RefusedDraining
	case planner.RefuseMissingData, planner.RefuseUnhealthy:
		return negotiate.RefusedIncomplete
	}
	return negotiate.RefusedConstraint
}

// post sends one hand-over message.
func (a *Agent) post(ctx context.Context, to negotiate.HostID, message []byte) error {
	_, err := a.call(ctx, planner.HostID(to), methodHandover, message)
	return err
}

// errAlone means that this host has no peers to ask.
var errAlone = errors.New("this host stands alone: set mesh.bind and mesh.join")

// call asks a peer, once and for a bounded time.
func (a *Agent) call(ctx context.Context, to planner.HostID, method string, body []byte) ([]byte, error) {
	if a.o.Mesh == nil {
		return nil, errAlone
	}
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	return a.o.Mesh.Call(ctx, mesh.HostID(to), method, body)
}

// members are the hosts of the cluster as gossip shows them; none when this
// host stands alone.
func (a *Agent) members() []mesh.Member {
	if a.o.Mesh == nil {
		return nil
	}
	return a.o.Mesh.Members()
}

// destURI is where the peer's libvirtd is reached: our template with the address
// of its gossip.
func (a *Agent) destURI(to negotiate.HostID) (string, error) {
	for _, m := range a.members() {
		if m.ID != mesh.HostID(to) {
			continue
		}
		host, _, err := net.SplitHostPort(m.Addr)
		if err != nil {
			return "", fmt.Errorf("address of %s: %w", m.Name, err)
		}
		return strings.ReplaceAll(a.cfg.Libvirt.MigrateURI, "{host}", host), nil
	}
	return "", fmt.Errorf("host %s is not a member of the cluster: check `headroom members`", to)
}

// hostName is the name of a member, or its id.
func (a *Agent) hostName(id planner.HostID) string {
	if id == a.o.ID {
		return a.o.Name
	}
	for _, m := range a.members() {
		if planner.HostID(m.ID) == id && m.Name != "" {
			return m.Name
		}
	}
	return string(id)
}

// promised is a probed need and whether a lease was granted for it.
type promised struct {
	need  planner.Need
	at    time.Time
	lease bool
}

// needs keeps what VMs need between their probe, their lease and their arrival.
type needs struct {
	mu   sync.Mutex
	kept map[asked]promised // guarded by mu
	// wanted are those refused for want of memory alone.
	wanted []planner.Wanted // guarded by mu
}

// answered notes how a probe was answered.
func (n *needs) answered(need planner.Need, o planner.Offer, now time.Time, p planner.Policy) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wanted = planner.NoteWanted(n.wanted, now, need, o, p)
}

// unmet are the needs for which this host lately had no memory.
func (n *needs) unmet(now time.Time, p planner.Policy) []planner.Wanted {
	n.mu.Lock()
	defer n.mu.Unlock()
	return planner.FreshWanted(n.wanted, now, p)
}

// asked is who asked for which VM: another host's probe changes nothing of a lease,
// and a VM that has come and gone may be asked for by its new host at once.
type asked struct {
	vm   planner.VMID
	from planner.HostID
}

// remember keeps a probed need.
func (n *needs) remember(need planner.Need, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for key, p := range n.kept {
		life := needLife
		if p.lease {
			life = leaseLife
		}
		if now.Sub(p.at) > life {
			delete(n.kept, key)
		}
	}
	key := asked{need.VM, need.From}
	if _, known := n.kept[key]; known || len(n.kept) < maxNeeds {
		n.kept[key] = promised{need: need, at: now}
	}
}

func (n *needs) probed(vm planner.VMID, from planner.HostID, now time.Time) (planner.Need, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p, ok := n.kept[asked{vm, from}]
	return p.need, ok && now.Sub(p.at) <= needLife
}

func (n *needs) promise(need planner.Need, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.kept[asked{need.VM, need.From}] = promised{need: need, at: now, lease: true}
}

// leaseLife is how long after its lease a VM's model is still taken.
const leaseLife = time.Hour

func (n *needs) promised(vm planner.VMID, from planner.HostID, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.kept[asked{vm, from}]
	return p.lease && now.Sub(p.at) <= leaseLife
}

// of is the need behind a lease. After a restart only the lease's own figures
// are left: a constant demand.
func (n *needs) of(l negotiate.Lease, now time.Time) planner.Need {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := asked{planner.VMID(l.VM), planner.HostID(l.Source)}
	if p, ok := n.kept[key]; ok {
		p.at = now // a lease keeps its need alive
		n.kept[key] = p
		return p.need
	}
	return planner.Need{
		VM: planner.VMID(l.VM), From: planner.HostID(l.Source), Memory: planner.MiB(l.Need.MemoryMiB),
		CPU: constantDemand(l.Need.Cores),
	}
}

// constantDemand is a demand of which only one figure is known.
func constantDemand(cores float64) planner.Demand {
	var q predict.Quantiles
	for i := range q {
		q[i] = cores
	}
	return planner.Demand{Peak: q}
}

// offerLog keeps the latest offers for the operator.
type offerLog struct {
	mu   sync.Mutex
	list []api.Offer // newest last; guarded by mu
}

func (l *offerLog) add(o api.Offer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.list = append(l.list, o); len(l.list) > maxOffers {
		l.list = l.list[len(l.list)-maxOffers:]
	}
}

// latest returns up to q.Limit offers, newest first.
func (l *offerLog) latest(q api.Query) []api.Offer {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []api.Offer
	for i := len(l.list) - 1; i >= 0 && len(out) < q.Limit; i-- {
		if q.VM == "" || q.VM == l.list[i].VM {
			out = append(out, l.list[i])
		}
	}
	return out
}

func reasons(rs []planner.Refusal) string {
	texts := make([]string, len(rs))
	for i, r := range rs {
		texts[i] = r.Text
	}
	return strings.Join(texts, "; ")
}

func (l *offerLog) given(need planner.Need, o planner.Offer) {
	l.add(api.Offer{At: time.Now().UTC(), Direction: "given", Peer: string(need.From), VM: need.Name,
		Accepts: len(o.Refusals) == 0, Reason: reasons(o.Refusals),
		FreeCores: freeCores(o), FreeMiB: float64(o.MemoryFree)})
}

func freeCores(o planner.Offer) float64 {
	if !o.CPU.Peak.Known() {
		return 0
	}
	return max(0, float64(o.Usable.CPU)-o.CPU.Peak[2])
}

func (l *offerLog) received(vm planner.VM, offers []planner.Offer, to planner.HostID, e planner.Evaluation, refused []planner.RefusedDestination) {
	why := map[planner.HostID]string{}
	for _, r := range refused {
		why[r.Host] = reasons(r.Refusals)
	}
	for _, o := range offers {
		out := api.Offer{At: time.Now().UTC(), Direction: "received", Peer: o.Name, VM: vm.Name,
			Accepts: len(o.Refusals) == 0, Reason: why[o.Host], FreeCores: freeCores(o), FreeMiB: float64(o.MemoryFree)}
		if o.Host == to {
			out.GainCS, out.CostCS, out.Reason = known(float64(e.Gain)), known(float64(e.Cost.Total)), "chosen"
		}
		l.add(out)
	}
}
