package agent

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"headroom/agent/api"
	"headroom/agent/handover"
	"headroom/planner"
)

const (
	maxMoves      = 200
	causePlanner  = "planner"
	causeOperator = "operator"
)

// move is one attempt that this host takes part in.
type move struct {
	api.Migration
	PredictedCopy     time.Duration `json:"predicted_copy_ns"`
	PredictedBlackout time.Duration `json:"predicted_blackout_ns"`
}

// moves keeps the attempts: the latest in memory, all of them in the store.
type moves struct {
	store    Store
	mu       sync.Mutex
	list     []*move               // newest last; guarded by mu
	expected map[planner.VMID]move // what is about to start, by VM; guarded by mu
	err      error                 // why the last write failed; guarded by mu
}

func newMoves(s Store) *moves {
	return &moves{store: s, expected: map[planner.VMID]move{}}
}

func (m *moves) load() error {
	records, err := m.store.Records(recordMigration, time.Time{}, maxMoves)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	for i := len(records) - 1; i >= 0; i-- {
		v := &move{}
		if json.Unmarshal(records[i].Value, v) == nil {
			m.list = append(m.list, v)
		}
	}
	return nil
}

// expect notes what an attempt that is about to start is for.
func (m *moves) expect(vm planner.VM, d planner.Decision, cause string) {
	v := move{Migration: api.Migration{VM: string(vm.ID), VMName: vm.Name, Cause: cause, DecisionID: shortID(d.ID)}}
	if e := d.Evaluation; e != nil {
		v.PredictedCopy, v.PredictedBlackout = e.Cost.CopyTime, e.Cost.Blackout
		v.PredictedCopyS, v.PredictedBlackoutMS = seconds(v.PredictedCopy), millis(v.PredictedBlackout)
		if e.ContentionAt >= 0 {
			at := d.At.Add(e.ContentionAt).UTC()
			v.ContentionAt = &at
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expected[vm.ID] = v
}

// unexpect forgets what did not start.
func (m *moves) unexpect(vm planner.VMID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.expected, vm)
}

func seconds(d time.Duration) *float64 { return known(d.Seconds()) }
func millis(d time.Duration) *float64  { return known(float64(d) / float64(time.Millisecond)) }

// update notes a change and returns a copy of the attempt; fresh is true when it
// is the first of this attempt. name gives a host's name.
func (m *moves) update(u handover.Update, self string, name func(planner.HostID) string, vmName string) (out move, fresh bool) {
	now := time.Now().UTC()
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.get(string(u.VM), uint64(u.Attempt), string(u.Role))
	if v == nil {
		v, fresh = m.begin(u, now, vmName), true
	}
	peer := name(planner.HostID(u.Peer))
	if u.Role == handover.RoleSource {
		v.From, v.To = self, peer
	} else {
		v.From, v.To = peer, self
	}
	v.Phase, v.Reason = u.State, u.Reason
	if u.Closed && v.Ended == nil {
		v.Ended, v.Outcome = &now, u.State
	}
	if u.Done != nil {
		v.finish(u.Done, now)
	}
	if u.Closed {
		m.write(v)
	}
	return *v, fresh
}

// finish fills in the figures of an ended attempt.
func (v *move) finish(r *handover.Result, now time.Time) {
	v.Outcome = string(r.Outcome)
	v.Ended = &now
	if r.Negotiate > 0 {
		v.NegotiateMS = millis(r.Negotiate)
	}
	if r.Outcome != outcomeMoved {
		for _, c := range r.Refused {
			v.Reason = fmt.Sprintf("%s; %s: %s %s", v.Reason, c.Host, c.Refusal.Kind, c.Refusal.Text)
		}
		return
	}
	v.CopyS, v.BlackoutMS = seconds(r.Copy), millis(r.Blackout)
	if v.ContentionAt != nil {
		v.LeadS = known(v.ContentionAt.Sub(now).Seconds())
	}
}

// begin makes the entry of a new attempt; m.mu is held.
func (m *moves) begin(u handover.Update, now time.Time, vmName string) *move {
	v := &move{}
	if e, ok := m.expected[planner.VMID(u.VM)]; ok && u.Role == handover.RoleSource {
		*v = e
		delete(m.expected, planner.VMID(u.VM))
	}
	v.ID = string(u.VM)[:min(8, len(u.VM))] + "-" + strconv.FormatUint(uint64(u.Attempt), 10) + "-" + string(u.Role)[:1]
	v.VM, v.Attempt, v.Role, v.Started = string(u.VM), uint64(u.Attempt), string(u.Role), now
	if v.VMName == "" {
		v.VMName = vmName
	}
	if v.Cause == "" {
		v.Cause = "peer"
	}
	m.list = append(m.list, v)
	if len(m.list) > maxMoves {
		m.list = m.list[len(m.list)-maxMoves:]
	}
	return v
}

func (m *moves) get(vm string, attempt uint64, role string) *move {
	for i := len(m.list) - 1; i >= 0; i-- {
		if v := m.list[i]; v.VM == vm && v.Attempt == attempt && v.Role == role {
			return v
		}
	}
	return nil
}

// find returns this host's own attempt to move a VM away.
func (m *moves) find(vm string, attempt uint64) (move, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v := m.get(vm, attempt, string(handover.RoleSource)); v != nil {
		return *v, true
	}
	return move{}, false
}

// progress notes how far the copy of a running attempt is, 0..100.
func (m *moves) progress(vm string, percent float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range m.list {
		if v.VM == vm && v.Ended == nil && v.Role == string(handover.RoleSource) {
			v.ProgressPercent = known(percent)
		}
	}
}

// write stores an ended attempt; m.mu is held.
func (m *moves) write(v *move) {
	b, err := json.Marshal(v)
	if err == nil {
		err = m.store.PutRecord(recordMigration, v.Started, v.ID, b)
	}
	m.err = err
}

func (m *moves) latest(q api.Query) []api.Migration {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []api.Migration
	for i := len(m.list) - 1; i >= 0 && len(out) < q.Limit; i-- {
		if v := m.list[i]; q.VM == "" || q.VM == v.VM || q.VM == v.VMName {
			out = append(out, v.Migration)
		}
	}
	return out
}

func (m *moves) failed() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// findLatest is this host's last attempt to move a VM away.
func (m *moves) findLatest(vm string) (move, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := len(m.list) - 1; i >= 0; i-- {
		if v := m.list[i]; v.VM == vm && v.Role == string(handover.RoleSource) {
			return *v, true
		}
	}
	return move{}, false
}
