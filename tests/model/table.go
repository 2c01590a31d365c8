package model

import "strings"

// Rule is one row of the protocol's table: what may lead from one state to
// another, and what may be done on the way. It is written from the design's table
// of the hand-over, not from the code, and tests compare the two: whatever the
// code does on any event must be a rule, and each rule must be used.
type Rule struct {
	Side   string   // source or destination
	From   string   // phases of the source, or states of the lease; several by «|»
	Events string   // what makes the step, several by «|»
	To     string   // where it may lead, several by «|»
	Acts   []string // what may be done; nothing else is
	// Rare rules need an operator, or more faults than the bounds of the
	// exhaustive search hold: stepping every state meets them.
	Rare bool
}

// quiet are acts that promise nothing and change no VM: questions, refusals and
// confirmations of what is in the journal already.
var quiet = []string{"send status", "send status_reply", "send refused", "send ack", "refuse_prepare"}

// Protocol is the table. An event that a state has no rule for changes nothing,
// and does at most what is quiet.
var Protocol = []Rule{
	// Row 2, reserve: the VM is untouched until binding is over.
	{"source", "idle", "start", "reserving|idle", []string{"record reserving", "send reserve"}, false},
	{"source", "reserving", "granted", "binding", nil, false},
	{"source", "reserving", "refused", "reserving|idle", []string{"record reserving", "record aborted", "send reserve"}, false},
	{"source", "reserving", "timer_reserve", "reserving|idle", []string{"record reserving", "record aborted", "send reserve", "send abort"}, false},
	{"source", "reserving", "cancel", "idle", []string{"record aborted", "send abort"}, false},
	// Row 3, bind: the stamp, the record, and only then the migration.
	{"source", "binding", "stamped", "migrating|aborting", []string{"record migrating", "record aborted", "start_migration", "send abort"}, false},
	{"source", "binding", "stamped_failed|timer_bind|cancel", "aborting", []string{"record aborted", "send abort"}, false},
	// Row 4, copy: it may be aborted, and libvirt decides what comes of that.
	{"source", "migrating", "timer_copy|cancel", "migrating", []string{"abort_migration"}, false},
	{"source", "migrating", "migrated", "committing", []string{"record committed", "send commit"}, false},
	{"source", "migrating", "migrated_failed", "deciding", nil, false},
	{"source", "migrating", "local_running|local_paused|local_unknown|local_gone|local_migrated", "deciding", nil, false},
	{"source", "deciding", "still_running", "migrating", nil, false},
	// Row 6, decide: on what libvirt says on both sides, never on a time-out.
	{"source", "deciding", "unstamped|unstamped_failed", "deciding", nil, false},
	{"source", "deciding", "local_running", "deciding|aborting", []string{"record aborted", "send abort"}, false},
	{"source", "deciding", "local_paused", "deciding|aborting", []string{"record migrating", "record aborted", "destroy_local", "resume_local", "send abort"}, false},
	{"source", "deciding", "local_gone|local_migrated", "deciding|committing|aborting", []string{"record committed", "record aborted", "send commit", "send abort"}, false},
	{"source", "deciding", "status_reply", "deciding|committing|aborting",
		[]string{"record migrating", "record committed", "record aborted", "destroy_local", "resume_local", "send commit", "send abort"}, false},
	{"source", "deciding", "override_commit", "deciding|committing", []string{"record migrating", "record committed", "destroy_local", "send commit"}, true},
	{"source", "deciding|committing", "override_abort", "aborting", []string{"record aborted", "resume_local", "send abort"}, true},
	// Row 7, commit: again until it is acknowledged; not while the VM is here.
	{"source", "committing", "timer_resend|local_gone|local_migrated", "committing", []string{"send commit"}, false},
	{"source", "committing", "ack|override_close", "idle", []string{"record committed"}, true},
	{"source", "committing", "refused", "idle|committing", []string{"record committed"}, false},
	// Row 8, abort: the VM is resumed if it was stopped, and told again until heard.
	{"source", "aborting", "timer_resend", "aborting", []string{"send abort"}, false},
	{"source", "aborting", "ack|local_running|override_close", "idle|aborting", []string{"record aborted"}, true},
	{"source", "aborting", "local_paused", "aborting|deciding", []string{"resume_local", "record migrating", "record aborted", "destroy_local"}, true},
	{"source", "aborting", "local_gone|local_migrated", "idle|aborting|committing|deciding", []string{"record aborted", "record committed", "send commit"}, true},
	// A grant that comes too late is given back.
	{"source", "idle|reserving|binding|migrating|deciding|committing|aborting", "granted", "", []string{"send abort"}, false},

	// Row 2 at the destination: the record is durable before the grant goes out.
	{"destination", "none|released|owned", "reserve", "held", []string{"record held", "send granted"}, false},
	{"destination", "held", "reserve", "held", []string{"record held", "send granted"}, false},
	{"destination", "incoming", "reserve", "incoming", []string{"send granted"}, false},
	{"destination", "held", "timer_lease", "released", []string{"record released"}, false},
	// Row 3: the hook lets in what is held.
	{"destination", "held", "prepare", "incoming", []string{"record incoming", "allow_prepare"}, false},
	{"destination", "held|released", "copy_incoming|copy_paused|copy_running", "incoming", []string{"record incoming"}, false},
	// Rows 4 and 5: a lease lasts as long as its copy.
	{"destination", "incoming", "copy_gone", "released", []string{"record released"}, false},
	// Row 7: only a durable Commit lets the copy run.
	{"destination", "held|incoming", "commit|override_commit", "committed|owned", []string{"record committed", "record owned", "resume_copy"}, true},
	{"destination", "committed", "copy_paused", "committed", []string{"resume_copy"}, false},
	{"destination", "committed", "commit", "committed", nil, false},
	{"destination", "committed", "copy_running", "owned", []string{"record owned"}, false},
	{"destination", "committed", "copy_gone", "released", []string{"record released"}, false},
	{"destination", "aborting", "override_commit", "committed|owned", []string{"record committed", "record owned", "resume_copy"}, true},
	{"destination", "committed", "override_commit", "committed|owned", []string{"record committed", "record owned", "resume_copy"}, true},
	// Row 8: only a durable Abort lets it go, and never a running one.
	{"destination", "held|released", "abort", "released", []string{"record released"}, false},
	{"destination", "incoming", "abort", "aborting", []string{"record aborting", "destroy_copy"}, false},
	{"destination", "aborting", "abort|copy_incoming|copy_paused", "aborting", []string{"destroy_copy"}, false},
	{"destination", "aborting", "copy_gone", "released", []string{"record released"}, false},
	{"destination", "aborting", "copy_running", "incoming", []string{"record incoming"}, true},
	{"destination", "released", "copy_incoming|copy_paused", "released", []string{"destroy_copy"}, false},
	{"destination", "held", "override_abort|override_close", "released", []string{"record released"}, true},
	{"destination", "incoming|committed|aborting", "override_close", "released", []string{"record released"}, true},
	{"destination", "incoming|committed|aborting", "override_abort", "aborting", []string{"record aborting", "destroy_copy"}, true},
}

// has reports whether a list by «|» holds a word.
func has(list, word string) bool {
	for w := range strings.SplitSeq(list, "|") {
		if w == word {
			return true
		}
	}
	return false
}
