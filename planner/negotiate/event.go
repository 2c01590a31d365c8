package negotiate

import "time"

// SourceEvent is something that a Source reacts to.
type SourceEvent interface{ sourceEvent() }

// DestinationEvent is something that a Destination reacts to.
type DestinationEvent interface{ destinationEvent() }

// Candidate is a destination to try, with the guard that protects the VM on the
// way there.
type Candidate struct {
	Host  HostID `json:"host"`
	Guard Guard  `json:"guard"`
}

// MaxCandidates is how many candidates of a Start are tried; the rest is dropped.
const MaxCandidates = 16

// Start begins an attempt. The VM must run here. The candidates are tried in
// order, once each.
type Start struct {
	VM          VMID
	Candidates  []Candidate
	LastAttempt Attempt       // the higher of the VM's metadata and [Destination.LastAttempt]; 0 for none
	Autostart   bool          // libvirt's autostart flag is on
	Need        Need          // what the destination has to book
	CopyLimit   time.Duration // AbortMigration after so long; 0: none
	Operator    string        // who asked for this move; "" when the agent decided; a plain guard needs it
}

// Received is a message, with the authenticated sender. For a Reserve the caller
// judges in the same turn whether the VM fits, by its own books and
// [Destination.Leases] less one of the same VM, and gives the refusal in Admission;
// nil admits. While this host's own Source of the VM is busy the refusal must be
// RefusedBusy: the VM may come back only when its leaving is acknowledged.
type Received struct {
	From      HostID
	Message   Message
	Admission *Refusal
}

// Stamped answers Stamp, and an Autostart that came before it. Err is "" on
// success. Attempt and Lease repeat the effect's.
type Stamped struct {
	VM      VMID
	Attempt Attempt
	Lease   LeaseID
	Err     string
}

// MigrationDone says that libvirt's migrate call returned. Err is "" on success.
type MigrationDone struct {
	VM  VMID
	Err string
}

// MigrationStillRunning answers QueryLocal: libvirt has an outgoing migration
// job for the VM.
type MigrationStillRunning struct {
	VM    VMID
	Query uint64 // repeats the effect's
}

// LocalRun is the run state of the VM at the source, while no migration job runs.
type LocalRun string

// The run states. Gone and Migrated differ in what the destination's copy is
// worth: libvirt resumes the source by itself when Finish is lost, so after a
// crash a complete copy may be older than the disk. Only a source that libvirt
// itself handed over proves that it is not.
const (
	LocalUnknown  LocalRun = "unknown"
	LocalRunning  LocalRun = "running"
	LocalPaused   LocalRun = "paused"   // any stopped state of a live QEMU
	LocalGone     LocalRun = "gone"     // defined, no QEMU: crashed, shut off, host rebooted
	LocalMigrated LocalRun = "migrated" // not defined any more, or shut off with reason «migrated»
)

// LocalState answers QueryLocal, ResumeLocal and DestroyLocal with what libvirt
// says now. LocalUnknown when libvirt does not answer.
type LocalState struct {
	VM    VMID
	Query uint64 // repeats the effect's
	State LocalRun
}

// TimerFired says that a timer ran out.
type TimerFired struct {
	Kind TimerKind
	VM   VMID
}

// Cancel asks to give up the attempt, as far as that is still safe.
type Cancel struct {
	VM     VMID
	Reason string
}

// OverrideAction is what an operator forces.
type OverrideAction string

// The overrides. Each is taken at the operator's word: the evidence (that the
// other host is fenced, say) is written to the record and not checked.
const (
	// OverrideCommit: the copy at the destination is the VM.
	OverrideCommit OverrideAction = "commit"
	// OverrideAbort: the VM at the source is the VM; no copy will ever run.
	OverrideAbort OverrideAction = "abort"
	// OverrideClose: stop telling the other side; it is gone for good.
	OverrideClose OverrideAction = "close"
)

// Override ends what cannot be decided. By and Evidence must not be empty.
type Override struct {
	VM       VMID
	Action   OverrideAction
	By       string
	Evidence string
}

// PersistFailed says that a Persist could not be made durable, that the rest of
// its effects was dropped, and that the state is the one before.
type PersistFailed struct {
	VM  VMID
	Err string
}

// PrepareCheck is libvirt's hook at «migrate begin»: may this VM come in? It is
// answered in the same step by AllowPrepare or RefusePrepare. The token is read
// from the stamp in the incoming XML.
type PrepareCheck struct {
	VM      VMID
	Source  HostID
	Attempt Attempt
	Lease   LeaseID
}

// CopyAppeared says that libvirt at the destination has the VM, in this state,
// with this token in its stamp: on each change, with Query 0, and as an answer to
// QueryCopy, ResumeCopy and DestroyCopy, with their Query.
type CopyAppeared struct {
	VM      VMID
	Attempt Attempt
	Lease   LeaseID
	State   CopyState // CopyIn, CopyPaused or CopyRunning
	Query   uint64
}

// CopyGone says that libvirt at the destination has no live QEMU of the VM. Query
// is as in CopyAppeared.
type CopyGone struct {
	VM    VMID
	Query uint64
}

// CopyLost says that libvirt at the destination does not answer: nothing is known.
// Feed it for each entry too whenever the connection to libvirt was lost, since
// changes may have been missed; and feed changes before later answers.
type CopyLost struct {
	VM    VMID
	Query uint64
}

// ActFailed answers a ResumeCopy or DestroyCopy that libvirt refused.
type ActFailed struct {
	VM  VMID
	Err string
}

func (Start) sourceEvent()                 {}
func (Received) sourceEvent()              {}
func (Stamped) sourceEvent()               {}
func (MigrationDone) sourceEvent()         {}
func (MigrationStillRunning) sourceEvent() {}
func (LocalState) sourceEvent()            {}
func (TimerFired) sourceEvent()            {}
func (Cancel) sourceEvent()                {}
func (Override) sourceEvent()              {}
func (PersistFailed) sourceEvent()         {}

func (Received) destinationEvent()      {}
func (PrepareCheck) destinationEvent()  {}
func (CopyAppeared) destinationEvent()  {}
func (CopyGone) destinationEvent()      {}
func (CopyLost) destinationEvent()      {}
func (ActFailed) destinationEvent()     {}
func (TimerFired) destinationEvent()    {}
func (Override) destinationEvent()      {}
func (PersistFailed) destinationEvent() {}
