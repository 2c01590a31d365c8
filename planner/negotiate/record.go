package negotiate

import (
	"encoding/json"
	"errors"
	"fmt"
)

// RecordVersion is the version of the journal records that this package writes.
const RecordVersion = 1

// ErrRecordVersion says that a record was written by another version: it is
// never guessed at. Run the version that wrote it, or resolve the VM by hand and
// delete the record.
var ErrRecordVersion = errors.New("unknown record version")

// ErrRecord says that a record is damaged.
var ErrRecord = errors.New("malformed record")

// SourceState is the durable state of an attempt at the source.
type SourceState string

// The durable states of a source. Committed is the point of no return: from
// there the destination's copy is the VM.
const (
	SourceReserving SourceState = "reserving"
	SourceMigrating SourceState = "migrating"
	SourceCommitted SourceState = "committed"
	SourceAborted   SourceState = "aborted"
)

// SourceRecord is the source's journal entry for a VM: the last attempt. A
// closed record needs no more work; it keeps the attempt counter.
type SourceRecord struct {
	Version   int         `json:"version"`
	VM        VMID        `json:"vm"`
	Attempt   Attempt     `json:"attempt"`
	From      HostID      `json:"from"`
	To        HostID      `json:"to"`
	Lease     LeaseID     `json:"lease,omitempty"`
	Guard     Guard       `json:"guard"`
	State     SourceState `json:"state"`
	Autostart bool        `json:"autostart,omitempty"` // was on; off while the attempt lasts
	Operator  string      `json:"operator,omitempty"`  // who asked for the move
	// CopyLimitMS is how long the copy may take, in milliseconds; 0: no limit.
	CopyLimitMS int64  `json:"copy_limit_ms,omitempty"`
	Discard     bool   `json:"discard,omitempty"` // the stopped VM here is being destroyed in favour of the copy
	Resume      bool   `json:"resume,omitempty"`  // aborted, and the stopped VM here has to be resumed
	Closed      bool   `json:"closed,omitempty"`
	Reason      string `json:"reason,omitempty"`
	Override    string `json:"override,omitempty"` // who forced the decision, and on what evidence
}

// DestState is the durable state of a lease at the destination.
type DestState string

// The durable states of a destination. Committed and Aborting are promises of
// the source, kept here so that a restart finishes the act that they allow.
const (
	DestHeld      DestState = "held"      // promised; expires
	DestIncoming  DestState = "incoming"  // libvirt was let in; lasts as long as the copy
	DestCommitted DestState = "committed" // Commit came; the copy is to run
	DestOwned     DestState = "owned"     // the copy runs and is the VM
	DestAborting  DestState = "aborting"  // Abort came; the copy is to go
	DestReleased  DestState = "released"  // over
)

func (s DestState) valid() bool {
	switch s {
	case DestHeld, DestIncoming, DestCommitted, DestOwned, DestAborting, DestReleased:
		return true
	}
	return false
}

// active reports whether the state holds a slot.
func (s DestState) active() bool { return s.valid() && s != DestOwned && s != DestReleased }

// DestRecord is the destination's journal entry for a VM: the last lease.
// Released and owned ones stay for a while, so that late messages meet them.
type DestRecord struct {
	Version   int       `json:"version"`
	VM        VMID      `json:"vm"`
	Attempt   Attempt   `json:"attempt"`
	Lease     LeaseID   `json:"lease"`
	Source    HostID    `json:"source"`
	Guard     Guard     `json:"guard"`
	Need      Need      `json:"need"`
	Autostart bool      `json:"autostart,omitempty"`
	State     DestState `json:"state"`
	Aborted   bool      `json:"aborted,omitempty"` // released by an Abort: a late copy may be destroyed
	Counter   uint64    `json:"counter"`           // number of this lease at this host
	Restarts  int       `json:"restarts,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Override  string    `json:"override,omitempty"`
}

// Encode returns the record as JSON.
func (r SourceRecord) Encode() ([]byte, error) {
	r.Version = RecordVersion
	if err := r.validate(); err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

// DecodeSourceRecord reads a journal entry. The error wraps ErrRecordVersion or
// ErrRecord.
func DecodeSourceRecord(b []byte) (SourceRecord, error) {
	var r SourceRecord
	if err := checkVersion(b, RecordVersion, ErrRecordVersion, ErrRecord); err != nil {
		return SourceRecord{}, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return SourceRecord{}, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if err := r.validate(); err != nil {
		return SourceRecord{}, err
	}
	return r, nil
}

func (r SourceRecord) validate() error {
	switch {
	case r.VM == "" || r.Attempt == 0 || r.From == "" || r.To == "":
		return fmt.Errorf("%w: source record lacks VM, attempt or host", ErrRecord)
	case !r.Guard.Valid():
		return fmt.Errorf("%w: source record of %s has guard %q", ErrRecord, r.VM, r.Guard)
	}
	switch r.State {
	case SourceReserving, SourceAborted:
		return nil
	case SourceMigrating, SourceCommitted:
		if r.Lease == "" {
			return fmt.Errorf("%w: %s source record of %s has no lease", ErrRecord, r.State, r.VM)
		}
		return nil
	}
	return fmt.Errorf("%w: source record of %s has state %q", ErrRecord, r.VM, r.State)
}

// Encode returns the record as JSON.
func (r DestRecord) Encode() ([]byte, error) {
	r.Version = RecordVersion
	if err := r.validate(); err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

// DecodeDestRecord reads a journal entry. The error wraps ErrRecordVersion or
// ErrRecord.
func DecodeDestRecord(b []byte) (DestRecord, error) {
	var r DestRecord
	if err := checkVersion(b, RecordVersion, ErrRecordVersion, ErrRecord); err != nil {
		return DestRecord{}, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return DestRecord{}, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if err := r.validate(); err != nil {
		return DestRecord{}, err
	}
	return r, nil
}

func (r DestRecord) validate() error {
	switch {
	case r.VM == "" || r.Attempt == 0 || r.Lease == "" || r.Source == "":
		return fmt.Errorf("%w: destination record lacks VM, token or source", ErrRecord)
	case !r.Guard.Valid() || !r.State.valid():
		return fmt.Errorf("%w: destination record of %s has guard %q, state %q", ErrRecord, r.VM, r.Guard, r.State)
	case !finite(r.Need.Cores) || !finite(r.Need.MemoryMiB):
		return fmt.Errorf("%w: destination record of %s has need %+v", ErrRecord, r.VM, r.Need)
	}
	return nil
}

// StartAllowed reports whether a VM with this record at its host may be started
// here without asking the other host, and if not, why. A VM that came back later
// is owned by the destination book with a higher attempt; ask that first.
func (r SourceRecord) StartAllowed() (bool, string) {
	switch r.State {
	case SourceAborted, SourceReserving:
		return true, ""
	case SourceCommitted:
		return false, fmt.Sprintf("the VM was handed to %s in attempt %d", r.To, r.Attempt)
	}
	return false, fmt.Sprintf("attempt %d to %s is undecided", r.Attempt, r.To)
}
