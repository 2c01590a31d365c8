package agent

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"headroom/agent/api"
	"headroom/planner"
)

// maxDecisions is how many decisions are answered from memory.
const maxDecisions = 200

// entry is one decision, its repeats and its verdict.
type entry struct {
	Decision planner.Decision `json:"decision"`
	Repeats  int              `json:"repeats"`
	LastAt   time.Time        `json:"last_at"`
	Verdict  *planner.Verdict `json:"verdict,omitempty"`
	Answer   string           `json:"answer,omitempty"` // the operator's
}

// book keeps the decisions: the latest in memory, all of them in the store. A
// round that stays for the same kind of reason as the round before it is
// counted on that one and not written again: «nothing to do» every few seconds
// would bury what matters.
type book struct {
	store Store
	mu    sync.Mutex
	list  []entry // newest last; guarded by mu
	err   error   // why the last write failed; guarded by mu
}

func newBook(s Store) *book { return &book{store: s} }

// load takes up what was decided before a restart.
func (b *book) load() error {
	records, err := b.store.Records(recordDecision, time.Time{}, maxDecisions)
	if err != nil {
		return fmt.Errorf("read decisions: %w", err)
	}
	for i := len(records) - 1; i >= 0; i-- {
		var e entry
		if err := json.Unmarshal(records[i].Value, &e); err != nil {
			continue // written by another version: it is history, and nothing depends on it
		}
		b.list = append(b.list, e)
	}
	return nil
}

// add notes a decision, and says whether it is another one than the round before.
func (b *book) add(d planner.Decision) (fresh bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.list); n > 0 && same(&b.list[n-1].Decision, &d) {
		e := &b.list[n-1]
		id, at := e.Decision.ID, e.Decision.At
		e.Repeats, e.LastAt = e.Repeats+1, d.At
		d.ID, d.At = id, at
		e.Decision = d // the reasons of the latest round, under the first one's id
		if e.Repeats%writeEvery == 0 {
			b.write(e)
		}
		return false
	}
	if n := len(b.list); n > 0 && b.list[n-1].Repeats > 0 {
		b.write(&b.list[n-1])
	}
	b.list = append(b.list, entry{Decision: d, LastAt: d.At})
	if len(b.list) > maxDecisions {
		b.list = b.list[len(b.list)-maxDecisions:]
	}
	b.write(&b.list[len(b.list)-1])
	return true
}

// writeEvery is how many repeats are counted before they are written.
const writeEvery = 30

// same says whether two rounds came to the same end.
func same(a, b *planner.Decision) bool {
	return a.Action == b.Action && a.VM == b.VM && a.To == b.To && a.Action != planner.ActionMove &&
		(len(a.Inputs.Missing) == 0) == (len(b.Inputs.Missing) == 0)
}

// write stores the entry; b.mu is held.
func (b *book) write(e *entry) {
	v, err := json.Marshal(e)
	if err == nil {
		err = b.store.PutRecord(recordDecision, e.Decision.At, e.Decision.ID, v)
	}
	b.err = err
}

// judged adds a verdict to a decision.
func (b *book) judged(v planner.Verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.list {
		if b.list[i].Decision.ID == v.DecisionID {
			b.list[i].Verdict = &v
			b.write(&b.list[i])
			return
		}
	}
}

// answered notes the operator's answer to a decision.
func (b *book) answered(id string, approve bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.list {
		if b.list[i].Decision.ID == id {
			b.list[i].Answer = answerWord(approve)
			b.write(&b.list[i])
			return
		}
	}
}

// failed is why decisions are not being written, or nil.
func (b *book) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// latest returns up to q.Limit decisions, newest first.
func (b *book) latest(q api.Query, show func(entry) api.Decision) []api.Decision {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []api.Decision
	for i := len(b.list) - 1; i >= 0 && len(out) < q.Limit; i-- {
		d := &b.list[i].Decision
		if q.VM == "" || q.VM == string(d.VM) || q.VM == d.VMName {
			out = append(out, show(b.list[i]))
		}
	}
	return out
}

// find returns the decision whose id is id or ends with it.
func (b *book) find(id string) (entry, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := len(b.list) - 1; i >= 0; i-- {
		if b.list[i].Decision.ID == id || shortID(b.list[i].Decision.ID) == id {
			return b.list[i], true
		}
	}
	return entry{}, false
}

// shortID is the part of a decision's id that tells it from others of this
// host: the time, without the host's id.
func shortID(id string) string {
	for i := len(id) - 1; i >= 0; i-- {
		if id[i] == '-' {
			return id[i+1:]
		}
	}
	return id
}
