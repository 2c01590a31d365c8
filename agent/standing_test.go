package agent

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"headroom/planner"
)

// memJournal is a journal in memory.
type memJournal struct {
	mu   sync.Mutex
	data map[string][]byte
	err  error
}

func (j *memJournal) Put(key string, value []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	if j.data == nil {
		j.data = map[string][]byte{}
	}
	j.data[key] = slices.Clone(value)
	return nil
}
func (j *memJournal) Delete(key string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.data, key)
	return j.err
}
func (j *memJournal) Each(fn func(key string, value []byte) error) error {
	j.mu.Lock()
	data := maps.Clone(j.data)
	j.mu.Unlock()
	for k, v := range data {
		if err := fn(k, v); err != nil {
			return err
		}
	}
	return j.err
}

var noon = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

func open1(t interface{ Fatal(...any) }, j *memJournal) *standing {
	s, err := newStanding(j)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func byID(id planner.HostID) string { return string(id) }

// TestOrdersSurviveARestart gives every order, and reads them back from the journal alone.
func TestOrdersSurviveARestart(t *testing.T) {
	j := &memJournal{}
	s := open1(t, j)
	if _, on := s.draining(); on || s.held(noon, byID) != "" {
		t.Fatal("a new agent drains or is paused")
	}
	if err := errors.Join(s.drain(noon, "new disks"), s.answer(noon, planner.Order{VM: "web", Approve: true, Until: noon.Add(time.Minute)})); err != nil {
		t.Fatal(err)
	}
	if _, err := s.order(pauseOrder{Paused: true, Host: "h1", Reason: "switch", At: noon, Until: noon.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	s = open1(t, j)
	if d, on := s.draining(); !on || d.Reason != "new disks" || !d.At.Equal(noon) {
		t.Errorf("drain after a restart: %+v, %v", d, on)
	}
	if why := s.held(noon, byID); !strings.Contains(why, "h1") || !strings.Contains(why, "switch") {
		t.Errorf("pause after a restart: %q", why)
	}
	if why := s.held(noon.Add(time.Hour), byID); why != "" {
		t.Errorf("a pause that is over holds: %q", why)
	}
	want := []planner.Order{{VM: "web", Approve: true, Until: noon.Add(time.Minute)}}
	if d := cmp.Diff(want, s.answers(noon)); d != "" {
		t.Error(d)
	}
	if got := s.answers(noon.Add(time.Minute)); len(got) > 0 {
		t.Errorf("an approval that has expired: %+v", got)
	}
	if err := errors.Join(s.used("web"), s.undrain()); err != nil {
		t.Fatal(err)
	}
	s = open1(t, j)
	if _, on := s.draining(); on || len(s.answers(noon)) > 0 {
		t.Error("what was taken back is back after a restart")
	}
}

// TestAnOrderThatCannotBeKeptDoesNotCount: the disk comes first.
func TestAnOrderThatCannotBeKeptDoesNotCount(t *testing.T) {
	j := &memJournal{}
	s := open1(t, j)
	full := errors.New("disk full")
	j.err = full
	_, err := s.order(pauseOrder{Paused: true, Host: "h1"})
	_, _, err2 := s.merge(pauseOrder{Version: 7, Paused: true, Host: "h2"})
	for _, err := range []error{err, err2, s.drain(noon, ""), s.answer(noon, planner.Order{VM: "web", Until: noon.Add(time.Hour)})} {
		if !errors.Is(err, full) {
			t.Errorf("%v, want the disk's error", err)
		}
	}
	if _, on := s.draining(); on || s.held(noon, byID) != "" || len(s.answers(noon)) > 0 {
		t.Error("an order counts that is not on the disk")
	}
}

func TestUnreadableOrdersStopTheStart(t *testing.T) {
	for name, text := range map[string]string{"damaged": "{", "later version": `{"version": 2}`} {
		if _, err := newStanding(&memJournal{data: map[string][]byte{standingKey: []byte(text)}}); err == nil {
			t.Errorf("%s: the agent starts and has forgotten its orders", name)
		}
	}
}

func genPause(t *rapid.T) pauseOrder {
	return pauseOrder{
		Version: rapid.Uint64Range(0, 4).Draw(t, "version"), Paused: rapid.Bool().Draw(t, "paused"),
		Host: rapid.SampledFrom([]planner.HostID{"h1", "h2", "h3"}).Draw(t, "host"),
	}
}

// TestPausesConverge: hosts that heard the same orders, in any order and any
// number of times, end with the same one.
func TestPausesConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		given := rapid.SliceOfN(rapid.Custom(genPause), 1, 8).Draw(t, "orders")
		end := func(order []pauseOrder) pauseOrder {
			s := open1(t, &memJournal{})
			for _, p := range order {
				if _, _, err := s.merge(p); err != nil {
					t.Fatal(err)
				}
			}
			return s.pause()
		}
		shuffled := rapid.Permutation(given).Draw(t, "another order")
		twice := append(slices.Clone(shuffled), given...)
		if a, b, c := end(given), end(shuffled), end(twice); a != b || a != c {
			t.Fatalf("%+v, %+v and %+v", a, b, c)
		}
	})
}

// TestNoActionOnGossip: whatever gossip tells, moves that were held stay held;
// only an order given here or told by a peer itself lets them begin again.
func TestNoActionOnGossip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j := &memJournal{}
		s := open1(t, j)
		for _, p := range rapid.SliceOfN(rapid.Custom(genPause), 0, 4).Draw(t, "orders") {
			if _, _, err := s.merge(p); err != nil {
				t.Fatal(err)
			}
		}
		kept := s.pause()
		for range rapid.IntRange(1, 10).Draw(t, "hints") {
			before := s.held(noon, byID) != ""
			p := genPause(t)
			s.hear(p.Host, p.Version, p.Paused)
			if before && s.held(noon, byID) == "" {
				t.Fatalf("gossip of %+v let moves begin", p)
			}
			if s.pause() != kept {
				t.Fatal("gossip changed the order that is kept")
			}
		}
		s = open1(t, j)
		if now := s.pause(); now != kept {
			t.Fatalf("gossip reached the disk: %+v", now)
		}
	})
}

// TestAHintHoldsUntilItIsConfirmed follows a pause from gossip to the peer's word.
func TestAHintHoldsUntilItIsConfirmed(t *testing.T) {
	s := open1(t, &memJournal{})
	if !s.hear("h2", 3, true) {
		t.Fatal("a newer order is not asked for")
	}
	if why := s.held(noon, byID); !strings.Contains(why, "h2") {
		t.Errorf("held: %q, want a word on h2", why)
	}
	if _, _, err := s.merge(pauseOrder{Version: 3, Paused: true, Host: "h2", Reason: "switch"}); err != nil {
		t.Fatal(err)
	}
	if why := s.held(noon, byID); !strings.Contains(why, "switch") {
		t.Errorf("held: %q, want the reason", why)
	}
	if s.hear("h2", 3, true) || s.hear("h2", 2, false) {
		t.Error("what is known already is asked for again")
	}
	if !s.hear("h3", 4, false) || s.held(noon, byID) == "" {
		t.Error("gossip of a newer order to resume: want it asked for, and moves held until then")
	}
	if _, _, err := s.merge(pauseOrder{Version: 4, Host: "h3"}); err != nil {
		t.Fatal(err)
	}
	if why := s.held(noon, byID); why != "" {
		t.Errorf("resumed and held: %q", why)
	}
	if s.hear("h4", maxPauseVersion+1, true) || s.held(noon, byID) != "" {
		t.Error("a version that leaves no room for another order is believed")
	}
}

// TestResumeOverrulesAHint: an operator's word is the newest that the host knows
// of, also when the host that gossip spoke of never answers.
func TestResumeOverrulesAHint(t *testing.T) {
	s := open1(t, &memJournal{})
	s.hear("dead", 41, true)
	p, err := s.order(pauseOrder{Host: "h1"})
	if err != nil || p.Version != 42 || s.held(noon, byID) != "" {
		t.Errorf("order %+v, %v, held %q", p, err, s.held(noon, byID))
	}
}

func TestReasonsAreBoundedAndHarmless(t *testing.T) {
	if got := shortened("a\x1b[31mb\n" + strings.Repeat("ö", 200)); len(got) > maxReason || strings.ContainsAny(got, "\x1b\n") || !strings.HasSuffix(got, "ö") {
		t.Errorf("%q (%d bytes)", got, len(got))
	}
}
