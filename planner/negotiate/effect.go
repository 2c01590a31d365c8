package negotiate

import "time"

// Effect is something for the caller to do.
type Effect interface{ effect() }

// PersistSource makes the record durable: the source's journal entry of its VM.
type PersistSource struct{ Record SourceRecord }

// PersistDestination makes the record durable: the destination's journal entry
// of its VM.
type PersistDestination struct{ Record DestRecord }

// ForgetDestination deletes the destination's journal entry of the VM. It may be
// lost.
type ForgetDestination struct{ VM VMID }

// Send sends a message, one-way, once.
type Send struct {
	To      HostID
	Message Message
}

// Autostart sets libvirt's autostart flag. A failure to switch it off is
// reported as Stamped with the error, in place of the Stamp that follows; a
// failure to switch it on is only logged.
type Autostart struct {
	VM VMID
	On bool
}

// Stamp writes the token into the VM's libvirt metadata, live and persistent;
// answered by Stamped. An empty lease takes the permission back: a migration
// that starts later is refused by the destination's hook. The attempt stays.
type Stamp struct {
	VM      VMID
	Attempt Attempt
	Lease   LeaseID
	From    HostID
	To      HostID // "" with an empty lease
}

// StampOwned writes the finished move into the VM's metadata at the destination:
// last host, time, and the list for the cool-down. It must be done at most once
// an attempt, whatever is repeated: it is asked for until libvirt shows the VM
// without the attempt's lease, as CopyAppeared, which answers it.
type StampOwned struct {
	VM      VMID
	Attempt Attempt
	From    HostID
}

// StartMigration starts libvirt's peer-to-peer migration; answered by
// MigrationDone. Paused asks for VIR_MIGRATE_PAUSED.
type StartMigration struct {
	VM      VMID
	To      HostID
	Attempt Attempt
	Lease   LeaseID
	Guard   Guard
	Paused  bool
}

// AbortMigration asks libvirt to abort the job; no answer but MigrationDone.
type AbortMigration struct{ VM VMID }

// QueryLocal asks libvirt at the source; answered by LocalState or
// MigrationStillRunning.
type QueryLocal struct {
	VM    VMID
	Query uint64
}

// ResumeLocal resumes the VM at the source if it is paused; answered by LocalState.
type ResumeLocal struct {
	VM    VMID
	Query uint64
}

// DestroyLocal destroys the stopped VM at the source, and never a running one:
// look first. The definition goes too. Answered by LocalState.
type DestroyLocal struct {
	VM    VMID
	Query uint64
}

// QueryCopy asks libvirt at the destination; answered by CopyAppeared, CopyGone
// or CopyLost.
type QueryCopy struct {
	VM    VMID
	Query uint64
}

// ResumeCopy resumes the copy with this token; answered by CopyAppeared with
// CopyRunning, also when it ran already, or by ActFailed.
type ResumeCopy struct {
	VM      VMID
	Attempt Attempt
	Lease   LeaseID
	Query   uint64
}

// DestroyCopy destroys the copy with this token, and never a running one: look
// first. Answered by CopyGone, by CopyAppeared when it runs, or by ActFailed.
type DestroyCopy struct {
	VM      VMID
	Attempt Attempt
	Lease   LeaseID
	Query   uint64
}

// AllowPrepare tells the hook to exit 0.
type AllowPrepare struct {
	VM    VMID
	Lease LeaseID
}

// RefusePrepare tells the hook to exit 1: libvirt cancels the migration.
type RefusePrepare struct {
	VM     VMID
	Reason string
}

// ReleaseLease says that the slot is free again; the record before it says why.
type ReleaseLease struct {
	VM    VMID
	Lease LeaseID
}

// TimerKind names a timer; there is one of each for a VM.
type TimerKind string

// The timers.
const (
	TimerReserve TimerKind = "reserve" // source: no answer to Reserve
	TimerBind    TimerKind = "bind"    // source: the stamp takes too long
	TimerCopy    TimerKind = "copy"    // source: the copy takes too long
	TimerAsk     TimerKind = "ask"     // source: look and ask again
	TimerResend  TimerKind = "resend"  // source: say Commit or Abort again
	TimerLease   TimerKind = "lease"   // destination: a lease without a copy ends
	TimerPaused  TimerKind = "paused"  // destination: a copy waits for its Commit
	TimerRetry   TimerKind = "retry"   // destination: try an act again
)

// SetTimer asks for TimerFired after a while.
type SetTimer struct {
	Kind  TimerKind
	VM    VMID
	After time.Duration
}

// Alarm is for the operator: something waits for a decision or contradicts.
type Alarm struct {
	VM   VMID
	Text string
}

// Note is for the log.
type Note struct {
	VM   VMID
	Text string
}

// Outcome is how an attempt ended.
type Outcome string

// The outcomes.
const (
	OutcomeMoved   Outcome = "moved"   // the VM runs at the destination
	OutcomeRefused Outcome = "refused" // nobody took it; it runs here
	OutcomeAborted Outcome = "aborted" // given up; it is here
	OutcomeLost    Outcome = "lost"    // it runs nowhere; restart it from its disk
	OutcomeClosed  Outcome = "closed"  // ended by an operator's word
)

// CandidateResult is why a candidate did not get the VM.
type CandidateResult struct {
	Host    HostID  `json:"host"`
	Refusal Refusal `json:"refusal"`
}

// Done ends the attempt. The source is idle again.
type Done struct {
	VM      VMID
	Attempt Attempt
	Outcome Outcome
	To      HostID // last destination tried
	Reason  string
	Refused []CandidateResult
}

func (PersistSource) effect()      {}
func (PersistDestination) effect() {}
func (ForgetDestination) effect()  {}
func (Send) effect()               {}
func (Autostart) effect()          {}
func (Stamp) effect()              {}
func (StampOwned) effect()         {}
func (StartMigration) effect()     {}
func (AbortMigration) effect()     {}
func (QueryLocal) effect()         {}
func (ResumeLocal) effect()        {}
func (DestroyLocal) effect()       {}
func (QueryCopy) effect()          {}
func (ResumeCopy) effect()         {}
func (DestroyCopy) effect()        {}
func (AllowPrepare) effect()       {}
func (RefusePrepare) effect()      {}
func (ReleaseLease) effect()       {}
func (SetTimer) effect()           {}
func (Alarm) effect()              {}
func (Note) effect()               {}
func (Done) effect()               {}
