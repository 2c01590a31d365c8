package negotiate

import (
	"encoding/json"
	"errors"
	"fmt"
)

// MessageVersion is the version of the message format that this package speaks.
const MessageVersion = 1

// MaxMessage is the longest message accepted, in bytes.
const MaxMessage = 16 << 10

// ErrMessageVersion says that the peer speaks another version: upgrade the older
// of the two agents.
var ErrMessageVersion = errors.New("unknown message version")

// ErrMessage says that a message cannot be understood; drop it.
var ErrMessage = errors.New("malformed message")

// Kind names what a message says.
type Kind string

// The messages. Every one names the VM and the attempt; all but Reserve, and a
// Refused or Abort before any grant, name the lease.
const (
	Reserve     Kind = "reserve"      // source: hold a slot for this attempt
	Granted     Kind = "granted"      // destination: held, for TTL
	Refused     Kind = "refused"      // destination: no, and of which kind
	Commit      Kind = "commit"       // source: the copy is the VM now
	Abort       Kind = "abort"        // source: the VM stays here, drop the copy
	Status      Kind = "status"       // source: what have you of this attempt?
	StatusReply Kind = "status_reply" // destination: this copy, this record
	Ack         Kind = "ack"          // destination: Commit or Abort is done
)

// RefusalKind says why a destination refuses: a closed set, so that the source
// can decide by it.
type RefusalKind string

// The refusals. Timeout and NoGuard are made by the source itself.
const (
	RefusedNoRoom       RefusalKind = "no_room"       // the VM does not fit
	RefusedBusy         RefusalKind = "busy"          // too many incoming VMs
	RefusedDraining     RefusalKind = "draining"      // the host is in maintenance
	RefusedIncomplete   RefusalKind = "incomplete"    // the host lacks data to judge
	RefusedConstraint   RefusalKind = "constraint"    // CPU model, pool, network, affinity
	RefusedDisabled     RefusalKind = "disabled"      // the host takes no VMs now
	RefusedFull         RefusalKind = "full"          // the lease book is full
	RefusedPresent      RefusalKind = "present"       // the VM is already there
	RefusedStale        RefusalKind = "stale"         // a later attempt is known
	RefusedUnknownToken RefusalKind = "unknown_token" // Commit for no known lease
	RefusedCopyMissing  RefusalKind = "copy_missing"  // Commit, and there is no copy
	RefusedCopyRunning  RefusalKind = "copy_running"  // Abort, and the copy runs
	RefusedTimeout      RefusalKind = "timeout"       // no answer
	RefusedNoGuard      RefusalKind = "no_guard"      // plain guard, no operator
)

var refusalKinds = map[RefusalKind]bool{
	RefusedNoRoom: true, RefusedBusy: true, RefusedDraining: true,
	RefusedIncomplete: true, RefusedConstraint: true, RefusedDisabled: true,
	RefusedFull: true, RefusedPresent: true, RefusedStale: true,
	RefusedUnknownToken: true, RefusedCopyMissing: true,
	RefusedCopyRunning: true, RefusedTimeout: true, RefusedNoGuard: true,
}

// Valid reports whether k is one of the closed set.
func (k RefusalKind) Valid() bool { return refusalKinds[k] }

// Refusal is a no with its reason.
type Refusal struct {
	Kind         RefusalKind `json:"kind"`
	Text         string      `json:"text,omitempty"`           // for people
	RetryAfterMS int64       `json:"retry_after_ms,omitempty"` // 0: no advice
	KnownAttempt Attempt     `json:"known_attempt,omitempty"`  // with stale: the attempt to exceed
}

// CopyState is what libvirt at the destination has of the VM.
type CopyState string

// The states of a copy.
const (
	CopyNone    CopyState = "none"     // nothing, or defined and shut off
	CopyIn      CopyState = "incoming" // memory still arriving
	CopyPaused  CopyState = "paused"   // complete, stopped
	CopyRunning CopyState = "running"  // complete, its CPUs run
	CopyUnknown CopyState = "unknown"  // libvirt does not answer
)

// Valid reports whether c is one of the states.
func (c CopyState) Valid() bool {
	switch c {
	case CopyNone, CopyIn, CopyPaused, CopyRunning, CopyUnknown:
		return true
	}
	return false
}

// Message is what two agents say to each other, over an authenticated channel
// that names the sender. Which fields are set depends on the kind.
type Message struct {
	Version   int       `json:"version"`
	Kind      Kind      `json:"kind"`
	VM        VMID      `json:"vm"`
	Attempt   Attempt   `json:"attempt"`
	Lease     LeaseID   `json:"lease,omitempty"`
	Guard     Guard     `json:"guard,omitempty"`     // Reserve
	Need      *Need     `json:"need,omitempty"`      // Reserve
	Autostart bool      `json:"autostart,omitempty"` // Reserve: the VM starts with its host
	TTLMS     int64     `json:"ttl_ms,omitempty"`    // Granted: rest of the lease's life
	Refusal   *Refusal  `json:"refusal,omitempty"`   // Refused
	Copy      CopyState `json:"copy,omitempty"`      // StatusReply
	Record    DestState `json:"record,omitempty"`    // StatusReply: "" when no record is known
	NeverRan  bool      `json:"never_ran,omitempty"` // StatusReply: the copy was watched from its lease on, and never ran
}

// Encode returns the message as JSON.
func (m Message) Encode() ([]byte, error) {
	m.Version = MessageVersion
	if err := m.validate(); err != nil {
		return nil, err
	}
	return json.Marshal(m)
}

// DecodeMessage reads a message from a peer. The error wraps ErrMessageVersion
// or ErrMessage. Unknown fields are ignored.
func DecodeMessage(b []byte) (Message, error) {
	if len(b) > MaxMessage {
		return Message{}, fmt.Errorf("%w: %d bytes, at most %d are read", ErrMessage, len(b), MaxMessage)
	}
	var m Message
	if err := checkVersion(b, MessageVersion, ErrMessageVersion, ErrMessage); err != nil {
		return Message{}, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return Message{}, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if err := m.validate(); err != nil {
		return Message{}, err
	}
	return m, nil
}

// checkVersion looks at the version alone, so that a later format, whose other
// fields may have changed type, is told from a damaged one.
func checkVersion(b []byte, want int, wrongVersion, malformed error) error {
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return fmt.Errorf("%w: %w", malformed, err)
	}
	if v.Version != want {
		return fmt.Errorf("%w: %d, this agent knows %d", wrongVersion, v.Version, want)
	}
	return nil
}

func (m Message) validate() error {
	if m.VM == "" || m.Attempt == 0 {
		return fmt.Errorf("%w: %s without VM or attempt", ErrMessage, m.Kind)
	}
	var ok bool
	switch m.Kind {
	case Reserve:
		ok = m.Guard.Valid() && m.Need != nil && finite(m.Need.Cores) && finite(m.Need.MemoryMiB)
	case Granted:
		ok = m.Lease != "" && m.TTLMS > 0
	case Refused:
		ok = m.Refusal != nil && m.Refusal.Kind.Valid() && m.Refusal.RetryAfterMS >= 0
	case Commit, Status, Ack:
		ok = m.Lease != "" || m.Kind == Ack
	case Abort:
		ok = true
	case StatusReply:
		ok = m.Lease != "" && m.Copy.Valid() && (m.Record == "" || m.Record.valid())
	default:
		return fmt.Errorf("%w: kind %q", ErrMessage, m.Kind)
	}
	if !ok {
		return fmt.Errorf("%w: %s lacks a field or has a bad one", ErrMessage, m.Kind)
	}
	return nil
}

// finite reports whether a need is a number that can be booked.
func finite(x float64) bool { return x >= 0 && x < 1e12 }
