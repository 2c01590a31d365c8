package agent

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"headroom/agent/api"
	"headroom/agent/config"
	"headroom/agent/history"
	"headroom/planner"
)

// memStore is a Store in memory.
type memStore struct {
	mu      sync.Mutex
	blobs   map[string][]byte
	records []history.Record
	err     error
}

func (s *memStore) Append(time.Time, history.Key, float64) error { return nil }
func (s *memStore) Range(history.Key, time.Time, time.Time, time.Duration) ([]history.Point, error) {
	return nil, s.err
}
func (s *memStore) PutRecord(kind string, at time.Time, id string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	for i := range s.records {
		if s.records[i].Kind == kind && s.records[i].ID == id {
			s.records[i].Value = value
			return nil
		}
	}
	s.records = append(s.records, history.Record{Kind: kind, At: at, ID: id, Value: value})
	return nil
}
func (s *memStore) Records(kind string, _ time.Time, limit int) ([]history.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []history.Record
	for i := len(s.records) - 1; i >= 0 && len(out) < limit; i-- {
		if s.records[i].Kind == kind {
			out = append(out, s.records[i])
		}
	}
	return out, nil
}
func (s *memStore) PutBlob(name string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blobs == nil {
		s.blobs = map[string][]byte{}
	}
	s.blobs[name] = value
	return s.err
}

func (s *memStore) Blob(name string) ([]byte, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.blobs[name]
	return b, ok, nil
}
func (s *memStore) Stats() history.Stats    { return history.Stats{} }
func (s *memStore) Err() error              { return s.err }
func (s *memStore) Run(ctx context.Context) { <-ctx.Done() }

func decision(n int, action planner.Action) planner.Decision {
	at := time.Unix(int64(1000+n), 0).UTC()
	return planner.Decision{ID: "host-" + at.Format("150405"), At: at, Action: action, Reason: "r", ContentionAt: -1}
}

func TestBookCountsRepeats(t *testing.T) {
	store := &memStore{}
	b := newBook(store)
	for i := range 3 {
		b.add(decision(i, planner.ActionStay))
	}
	b.add(decision(3, planner.ActionStuck))
	b.add(decision(4, planner.ActionMove))
	b.add(decision(5, planner.ActionMove)) // each move stands for itself
	list := b.latest(api.Query{Limit: 10}, func(e entry) api.Decision {
		return api.Decision{Verdict: string(e.Decision.Action), Repeats: e.Repeats, LastAt: e.LastAt, At: e.Decision.At}
	})
	if len(list) != 4 {
		t.Fatalf("%d decisions, want 4: %+v", len(list), list)
	}
	stay := list[3]
	if stay.Repeats != 2 || !stay.LastAt.Equal(time.Unix(1002, 0)) || !stay.At.Equal(time.Unix(1000, 0)) {
		t.Errorf("repeats are not counted on the first: %+v", stay)
	}
	b.judged(planner.Verdict{DecisionID: decision(4, planner.ActionMove).ID, Text: "as-predicted"})
	again := newBook(store)
	if err := again.load(); err != nil {
		t.Fatal(err)
	}
	e, ok := again.find(shortID(decision(4, planner.ActionMove).ID))
	if !ok || e.Verdict == nil || e.Verdict.Text != "as-predicted" {
		t.Errorf("the verdict did not survive a restart: %+v, %v", e, ok)
	}
	if e, ok := again.find(decision(0, planner.ActionStay).ID); !ok || e.Repeats != 2 {
		t.Errorf("the repeats did not survive a restart: %+v, %v", e, ok)
	}
}

func TestBookTellsAFailedWrite(t *testing.T) {
	b := newBook(&memStore{err: errors.New("disk is full")})
	b.add(decision(0, planner.ActionStay))
	if err := b.failed(); err == nil {
		t.Error("a decision that was not written is not told")
	}
}

func TestNeedsFollowTheLease(t *testing.T) {
	n := &needs{kept: map[asked]promised{}}
	now := time.Unix(1000, 0)
	need := planner.Need{VM: "v", From: "a", Memory: 512}
	n.remember(need, now)
	if _, ok := n.probed("v", "b", now); ok {
		t.Error("another host's probe was taken for its own")
	}
	if n.promised("v", "a", now) {
		t.Error("a probe alone is a promise")
	}
	if _, ok := n.probed("v", "a", now.Add(needLife+time.Second)); ok {
		t.Error("an old probe still counts")
	}
	n.promise(need, now)
	if !n.promised("v", "a", now) || n.promised("v", "b", now) {
		t.Error("the lease's holder alone may hand its model over")
	}
	n.remember(planner.Need{VM: "v", From: "b"}, now)
	if _, ok := n.probed("v", "a", now); !ok || !n.promised("v", "a", now) {
		t.Error("another host's probe replaced a lease")
	}
	if _, ok := n.probed("v", "b", now); !ok || n.promised("v", "b", now) {
		t.Error("the VM has moved on, and its new host's probe is not heard")
	}
}

// TestDefaultPolicyIsThePlanners: the configuration's defaults are the planner's
// own, so that neither drifts alone.
func TestDefaultPolicyIsThePlanners(t *testing.T) {
	got, err := policyOf(config.Default())
	if err != nil {
		t.Fatal(err)
	}
	want := planner.DefaultPolicy()
	got.Classes, want.Classes = nil, nil
	a, b := toJSON(t, got), toJSON(t, want)
	if a != b {
		t.Errorf("default configuration gives\n%s\nplanner.DefaultPolicy is\n%s", a, b)
	}
}

// TestUnmetNeeds: a probe refused for want of memory alone is told to the planner, until
// the VM is taken, or nobody asks any more.
func TestUnmetNeeds(t *testing.T) {
	n := &needs{kept: map[asked]promised{}}
	now, p := time.Unix(1e9, 0), planner.DefaultPolicy()
	need := planner.Need{VM: "db", From: "a", Memory: 4096, Worth: 100}
	full := planner.Offer{Refusals: []planner.Refusal{{Kind: planner.RefuseMemory}}}
	n.answered(need, full, now, p)
	if got := n.unmet(now, p); len(got) != 1 || got[0].Need.From != "a" {
		t.Errorf("unmet: %+v", got)
	}
	if got := n.unmet(now.Add(time.Hour), p); len(got) != 0 {
		t.Errorf("unmet after an hour: %+v", got)
	}
	n.answered(need, planner.Offer{}, now, p)
	if got := n.unmet(now, p); len(got) != 0 {
		t.Errorf("unmet although it may come: %+v", got)
	}
}
