package handover

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"headroom/agent/hypervisor"
	"headroom/planner/negotiate"
	"headroom/tests/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// journal is a Journal in memory that fails on demand.
type journal struct {
	mu   sync.Mutex
	data map[string][]byte
	err  error
}

func (j *journal) Put(key string, value []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	j.data[key] = slices.Clone(value)
	return nil
}

// fail makes every write fail, or work again.
func (j *journal) fail(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.err = err
}

func (j *journal) Delete(key string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.data, key)
	return nil
}

func (j *journal) Each(fn func(string, []byte) error) error {
	j.mu.Lock()
	data := maps.Clone(j.data)
	j.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(data)) {
		if err := fn(k, data[k]); err != nil {
			return err
		}
	}
	return nil
}

// bench is a cluster of desks on a simulated world, in one test.
type bench struct {
	t       *testing.T
	world   *hypervisor.World
	drivers map[negotiate.HostID]*hypervisor.Sim
	nodes   map[negotiate.HostID]*node
	begun   time.Time

	mu      sync.Mutex
	drop    func(from, to negotiate.HostID, m negotiate.Message) bool // guarded by mu
	refuse  map[negotiate.HostID]*negotiate.Refusal                   // guarded by mu
	updates []Update                                                  // guarded by mu
	deaf    map[negotiate.HostID]bool                                 // guarded by mu

	wrap func(*hypervisor.Sim) Hypervisor // what desks get that start from now on; nil: the driver itself

	log    bytes.Buffer // of all desks; read when they have stopped
	logger *slog.Logger
}

// deafen keeps libvirt's events from a host's desk.
func (b *bench) deafen(h negotiate.HostID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deaf[h] = true
}

func (b *bench) isDeaf(h negotiate.HostID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.deaf[h]
}

// node is one desk and what outlives its agent.
type node struct {
	desk    *Desk
	journal *journal
	cancel  context.CancelFunc
	done    chan error
}

var discard = slog.New(slog.DiscardHandler)

const vmID = "00000000-0000-4000-8000-000000000001"

func newBench(t *testing.T, hosts ...negotiate.HostID) *bench {
	b := &bench{t: t, world: hypervisor.NewWorld(), drivers: map[negotiate.HostID]*hypervisor.Sim{},
		nodes: map[negotiate.HostID]*node{}, begun: time.Now(), refuse: map[negotiate.HostID]*negotiate.Refusal{}, deaf: map[negotiate.HostID]bool{}}
	b.logger = slog.New(slog.NewJSONHandler(&b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for _, h := range hosts {
		b.drivers[h] = b.world.AddHost(string(h), 4, 8192)
		b.nodes[h] = &node{journal: &journal{data: map[string][]byte{}}}
	}
	for _, h := range hosts {
		b.start(h)
	}
	d := hypervisor.Domain{ID: vmID, Name: "web", VCPUs: 1, MemoryMiB: 512, MaxMemoryMiB: 512}
	if err := b.world.AddVM(string(hosts[0]), d, func(time.Duration) float64 { return 0.5 }); err != nil {
		t.Fatal(err)
	}
	return b
}

// start runs a fresh desk on the host's journal, as a restarted agent would.
func (b *bench) start(h negotiate.HostID) {
	n := b.nodes[h]
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel, n.done = cancel, make(chan error, 1)
	var seed uint64
	var driver Hypervisor = b.drivers[h]
	if b.wrap != nil {
		driver = b.wrap(b.drivers[h])
	}
	desk := New(Options{
		Self: h, Hypervisor: driver, Journal: n.journal,
		Post:    func(_ context.Context, to negotiate.HostID, body []byte) error { return b.post(h, to, body) },
		DestURI: func(to negotiate.HostID) (string, error) { return "sim://" + string(to), nil },
		Admit: func(negotiate.HostID, negotiate.Message, []negotiate.Lease) *negotiate.Refusal {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.refuse[h]
		},
		Notify: func(u Update) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.updates = append(b.updates, u)
		},
		Now: time.Now, Since: func() time.Duration { return time.Hour + time.Since(b.begun) },
		NoProgress: 5 * time.Second,
		Random:     func() uint64 { seed += 0x9e3779b97f4a7c15; return seed },
		Logger:     b.logger,
	})
	b.mu.Lock()
	n.desk = desk
	b.mu.Unlock()
	b.world.SetHook(string(h), func(ctx context.Context, d hypervisor.Domain) error {
		m := d.Metadata
		return desk.Incoming(ctx, negotiate.PrepareCheck{VM: negotiate.VMID(d.ID), Source: negotiate.HostID(m.From),
			Attempt: negotiate.Attempt(m.Attempt), Lease: negotiate.LeaseID(m.Lease)})
	})
	done, events := n.done, b.drivers[h].Events()
	go func() { done <- desk.Run(ctx) }()
	go func() { // what the agent's inventory does with libvirt's events
		for {
			select {
			case ev := <-events:
				if !b.isDeaf(h) {
					desk.Watch(ev)
				}
			case <-ctx.Done():
				return
			}
		}
	}()
}

// kill ends a host's agent; its journal and VMs stay.
func (b *bench) kill(h negotiate.HostID) {
	b.nodes[h].cancel()
	if err := <-b.nodes[h].done; err != nil {
		b.t.Error(err)
	}
}

// stop ends all agents, and holds each step that they took, as their log tells it,
// against the protocol's table.
func (b *bench) stop() {
	b.t.Helper()
	for h := range b.nodes {
		b.kill(h)
	}
	if _, err := model.ReadLogs(b.log.Bytes()); err != nil {
		b.t.Error(err)
	}
}

func (b *bench) post(from, to negotiate.HostID, body []byte) error {
	m, err := negotiate.DecodeMessage(body)
	if err != nil {
		return err
	}
	b.mu.Lock()
	lost := b.drop != nil && b.drop(from, to, m)
	desk := b.nodes[to].desk
	b.mu.Unlock()
	if lost {
		return errors.New("lost")
	}
	return desk.Receive(from, body)
}

func (b *bench) refuseAt(h negotiate.HostID, kind negotiate.RefusalKind) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuse[h] = &negotiate.Refusal{Kind: kind, Text: "not today"}
}

// move asks the first host to hand the VM to the candidates in order.
func (b *bench) move(from negotiate.HostID, to ...negotiate.HostID) error {
	s := negotiate.Start{VM: vmID, Need: negotiate.Need{Cores: 1, MemoryMiB: 512}}
	for _, h := range to {
		s.Candidates = append(s.Candidates, negotiate.Candidate{Host: h, Guard: negotiate.GuardPaused})
	}
	return b.nodes[from].desk.Start(b.t.Context(), s)
}

// settle lets virtual time pass until the attempt has ended, and watches that the
// VM never runs twice.
func (b *bench) settle(limit time.Duration) *Result {
	b.t.Helper()
	for waited := time.Duration(0); waited < limit; waited += 20 * time.Millisecond {
		time.Sleep(20 * time.Millisecond) // virtual
		synctest.Wait()
		if r := b.world.Runners(vmID); len(r) > 1 {
			b.t.Fatalf("OneRunner: the VM runs on %v", r)
		}
		if r := b.result(); r != nil {
			return r
		}
	}
	b.t.Fatalf("not settled within %v: %+v", limit, b.updates)
	return nil
}

func (b *bench) result() *Result {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, u := range b.updates {
		if u.Done != nil {
			return u.Done
		}
	}
	return nil
}

// wantRunner fails unless the VM runs on exactly this host and no lease is left.
func (b *bench) wantRunner(h negotiate.HostID) {
	b.t.Helper()
	time.Sleep(40 * time.Second) // virtual: leases without a copy expire
	synctest.Wait()
	if r := b.world.Runners(vmID); !slices.Equal(r, []string{string(h)}) {
		b.t.Errorf("the VM runs on %v, want %s alone", r, h)
	}
	for id, n := range b.nodes {
		if l := n.desk.Holdings().Leases; len(l) > 0 {
			b.t.Errorf("%s still holds %+v", id, l)
		}
		if o := n.desk.Holdings().Outgoing; len(o) > 0 {
			b.t.Errorf("%s still hands over %v", id, o)
		}
	}
}

// scenario runs fn in virtual time with desks on hosts.
func scenario(t *testing.T, hosts []negotiate.HostID, fn func(*bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hosts...)
		fn(b)
		b.stop()
		time.Sleep(2 * time.Minute) // virtual: nothing may be left that wakes later
	})
}

func TestHandOverMovesTheVM(t *testing.T) {
	scenario(t, []negotiate.HostID{"a", "b"}, func(b *bench) {
		if err := b.move("a", "b"); err != nil {
			t.Fatal(err)
		}
		r := b.settle(time.Minute)
		if r.Outcome != negotiate.OutcomeMoved || r.Copy <= 0 || r.Blackout <= 0 || r.Blackout > r.Copy {
			t.Errorf("result %+v", r)
		}
		b.wantRunner("b")
		dom, ok, err := b.drivers["b"].Lookup(t.Context(), vmID)
		if err != nil || !ok {
			t.Fatalf("lookup: %v %v", ok, err)
		}
		if m := dom.Metadata; m.LastFrom != "a" || len(m.Moves) != 1 || m.MovedAt.IsZero() {
			t.Errorf("CooldownTravels: metadata %+v", m)
		}
	})
}

// TestVMGoesToAndFro: a host that has handed on a VM which it once took takes it
// again.
func TestVMGoesToAndFro(t *testing.T) {
	scenario(t, []negotiate.HostID{"a", "b", "c"}, func(b *bench) {
		at := negotiate.HostID("a")
		for i, to := range []negotiate.HostID{"b", "c", "b", "a", "b", "a", "c"} {
			if err := b.move(at, to); err != nil {
				t.Fatalf("move %d: %v", i, err)
			}
			if r := b.settle(time.Minute); r.Outcome != negotiate.OutcomeMoved {
				t.Fatalf("move %d, %s to %s: %+v", i, at, to, r)
			}
			at = to
			b.mu.Lock()
			b.updates = nil
			b.mu.Unlock()
		}
		b.wantRunner(at)
	})
}

// TestVMComesBackAfterAShutdown: a host takes a VM that it once took, and that was
// shut down there and started elsewhere, also when it missed libvirt's word of it.
func TestVMComesBackAfterAShutdown(t *testing.T) {
	for _, told := range []bool{true, false} {
		scenario(t, []negotiate.HostID{"a", "b"}, func(b *bench) {
			if err := b.move("a", "b"); err != nil {
				t.Fatal(err)
			}
			b.settle(time.Minute)
			if !told {
				b.deafen("b")
			}
			if err := b.drivers["b"].Destroy(t.Context(), vmID); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			d := hypervisor.Domain{ID: vmID, Name: "web", VCPUs: 1, MemoryMiB: 512, MaxMemoryMiB: 512, Metadata: hypervisor.Metadata{Attempt: 1}}
			if err := b.world.AddVM("a", d, func(time.Duration) float64 { return 0.5 }); err != nil {
				t.Fatal(err)
			}
			outcome := negotiate.Outcome("")
			for range 2 { // a host that was wrong looks, and knows better the next time
				b.mu.Lock()
				b.updates = nil
				b.mu.Unlock()
				if err := b.move("a", "b"); err != nil {
					t.Fatal(err)
				}
				if outcome = b.settle(time.Minute).Outcome; outcome == negotiate.OutcomeMoved || told {
					break
				}
			}
			if outcome != negotiate.OutcomeMoved {
				t.Errorf("told %v: the move ended as %q", told, outcome)
			}
			b.wantRunner("b")
		})
	}
}

// TestStopDoesNotWaitForTheCopy: a copy may take hours, and the agent has seconds to
// end; the next agent finishes the attempt.
func TestStopDoesNotWaitForTheCopy(t *testing.T) {
	scenario(t, []negotiate.HostID{"a", "b"}, func(b *bench) {
		if err := b.move("a", "b"); err != nil {
			t.Fatal(err)
		}
		b.reach(string(negotiate.SourceMigrating))
		begun := time.Now()
		b.kill("a")
		if took := time.Since(begun); took > 100*time.Millisecond {
			t.Errorf("the desk took %v to stop during a copy", took)
		}
		b.start("a")
		if r := b.settle(time.Minute); r.Outcome != negotiate.OutcomeMoved {
			t.Errorf("after the restart: %+v", r)
		}
		b.wantRunner("b")
	})
}

func TestRefusedHostIsPassedOver(t *testing.T) {
	scenario(t, []negotiate.HostID{"a", "b", "c"}, func(b *bench) {
		b.refuseAt("b", negotiate.RefusedNoRoom)
		if err := b.move("a", "b", "c"); err != nil {
			t.Fatal(err)
		}
		r := b.settle(time.Minute)
		if r.Outcome != negotiate.OutcomeMoved || len(r.Refused) != 1 || r.Refused[0].Host != "b" {
			t.Errorf("result %+v", r)
		}
		b.wantRunner("c")
	})
}

func TestNobodyTakesIt(t *testing.T) {
	scenario(t, []negotiate.HostID{"a", "b"}, func(b *bench) {
		b.refuseAt("b", negotiate.RefusedDraining)
		if err := b.move("a", "b"); err != nil {
			t.Fatal(err)
		}
		if r := b.settle(time.Minute); r.Outcome != negotiate.OutcomeRefused {
			t.Errorf("result %+v", r)
		}
		b.wantRunner("a")
	})
}

// TestJournalBeforeAct: with a journal that cannot be written nothing is done.
func TestJournalBeforeAct(t *testing.T) {
	scenario(t, []negotiate.HostID{"a", "b"}, func(b *bench) {
		j := b.nodes["a"].journal
		j.mu.Lock()
		j.err = errors.New("disk is full")
		j.mu.Unlock()
		if err := b.move("a", "b"); err == nil || !strings.Contains(err.Error(), "disk is full") {
			t.Errorf("start without a journal: %v", err)
		}
		time.Sleep(time.Minute)
		b.wantRunner("a")
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, u := range b.updates {
			if u.Role == RoleDestination {
				t.Errorf("the peer heard of it: %+v", u)
			}
		}
	})
}

// TestLostMessages loses every kind of message a few times.
func TestLostMessages(t *testing.T) {
	for _, kind := range []negotiate.Kind{negotiate.Reserve, negotiate.Granted, negotiate.Commit, negotiate.Ack} {
		t.Run(string(kind), func(t *testing.T) {
			scenario(t, []negotiate.HostID{"a", "b"}, func(b *bench) {
				left := 2
				b.mu.Lock()
				b.drop = func(_, _ negotiate.HostID, m negotiate.Message) bool {
					if m.Kind == kind && left > 0 {
						left--
						return true
					}
					return false
				}
				b.mu.Unlock()
				if err := b.move("a", "b"); err != nil {
					t.Fatal(err)
				}
				b.settle(5 * time.Minute)
				if left != 0 {
					t.Errorf("%d messages were to be lost and were not sent", left)
				}
				b.wantRunner("b")
			})
		})
	}
}

// TestAgentDies kills one agent when the other side has reached a state, and
// starts it again: the VM runs at exactly one place, and nothing is left held.
func TestAgentDies(t *testing.T) {
	for _, victim := range []negotiate.HostID{"a", "b"} {
		for _, state := range []string{"held", "migrating", "incoming", "committed"} {
			t.Run(string(victim)+" at "+state, func(t *testing.T) {
				scenario(t, []negotiate.HostID{"a", "b"}, func(b *bench) {
					if err := b.move("a", "b"); err != nil {
						t.Fatal(err)
					}
					b.reach(state)
					b.kill(victim)
					time.Sleep(3 * time.Second)
					b.start(victim)
					time.Sleep(3 * time.Minute)
					synctest.Wait()
					r := b.world.Runners(vmID)
					if len(r) != 1 {
						t.Fatalf("NoLostVM, OneRunner: the VM runs on %v", r)
					}
					b.wantRunner(negotiate.HostID(r[0]))
				})
			})
		}
	}
}

// reach waits until a durable state was reached on either side.
func (b *bench) reach(state string) {
	b.t.Helper()
	for range 3000 {
		if b.saw(state) {
			return
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
	}
	b.t.Fatalf("state %s was not reached: %+v", state, b.updates)
}

func TestFailedCopyStaysAtTheSource(t *testing.T) {
	scenario(t, []negotiate.HostID{"a", "b"}, func(b *bench) {
		b.world.Fail(vmID, hypervisor.FailCopy)
		if err := b.move("a", "b"); err != nil {
			t.Fatal(err)
		}
		if r := b.settle(5 * time.Minute); r.Outcome != negotiate.OutcomeAborted {
			t.Errorf("result %+v", r)
		}
		b.wantRunner("a")
	})
}

func TestSecondAttemptWaits(t *testing.T) {
	scenario(t, []negotiate.HostID{"a", "b", "c"}, func(b *bench) {
		if err := b.move("a", "b"); err != nil {
			t.Fatal(err)
		}
		if err := b.move("a", "c"); !errors.Is(err, ErrUnderWay) {
			t.Errorf("second attempt: %v, want ErrUnderWay", err)
		}
		b.settle(time.Minute)
		b.wantRunner("b")
	})
}

func TestReceiveRefusesRubbish(t *testing.T) {
	scenario(t, []negotiate.HostID{"a", "b"}, func(b *bench) {
		if err := b.nodes["a"].desk.Receive("b", []byte("{")); !errors.Is(err, negotiate.ErrMessage) {
			t.Errorf("rubbish: %v", err)
		}
		b.wantRunner("a")
	})
}
