package model

import (
	"testing"

	"headroom/planner/negotiate"
)

func TestPromiseRecorded(t *testing.T) {
	src := func(s negotiate.SourceState, a negotiate.Attempt, l negotiate.LeaseID) negotiate.SourceRecord {
		return negotiate.SourceRecord{State: s, Attempt: a, Lease: l}
	}
	dst := func(s negotiate.DestState, a negotiate.Attempt, l negotiate.LeaseID) negotiate.DestRecord {
		return negotiate.DestRecord{State: s, Attempt: a, Lease: l}
	}
	for _, c := range []struct {
		name string
		kind negotiate.Kind
		src  negotiate.SourceRecord
		dst  negotiate.DestRecord
		ok   bool
	}{
		{"reserve from the journal", negotiate.Reserve, src(negotiate.SourceReserving, 2, ""), negotiate.DestRecord{}, true},
		{"reserve from nothing", negotiate.Reserve, negotiate.SourceRecord{}, negotiate.DestRecord{}, false},
		{"reserve of an older attempt's record", negotiate.Reserve, src(negotiate.SourceReserving, 1, ""), negotiate.DestRecord{}, false},
		{"commit from the journal", negotiate.Commit, src(negotiate.SourceCommitted, 2, "l"), negotiate.DestRecord{}, true},
		{"commit while it migrates", negotiate.Commit, src(negotiate.SourceMigrating, 2, "l"), negotiate.DestRecord{}, false},
		{"commit of another lease", negotiate.Commit, src(negotiate.SourceCommitted, 2, "k"), negotiate.DestRecord{}, false},
		{"commit of another attempt", negotiate.Commit, src(negotiate.SourceCommitted, 3, "l"), negotiate.DestRecord{}, false},
		{"abort from the journal", negotiate.Abort, src(negotiate.SourceAborted, 2, "l"), negotiate.DestRecord{}, true},
		{"abort of what was committed", negotiate.Abort, src(negotiate.SourceCommitted, 2, "l"), negotiate.DestRecord{}, false},
		{"abort of a lease that was not wanted", negotiate.Abort, src(negotiate.SourceMigrating, 2, "k"), negotiate.DestRecord{}, true},
		{"abort of an older attempt", negotiate.Abort, src(negotiate.SourceMigrating, 3, "l"), negotiate.DestRecord{}, true},
		{"granted from the journal", negotiate.Granted, negotiate.SourceRecord{}, dst(negotiate.DestHeld, 2, "l"), true},
		{"granted again", negotiate.Granted, negotiate.SourceRecord{}, dst(negotiate.DestIncoming, 2, "l"), true},
		{"granted after its release", negotiate.Granted, negotiate.SourceRecord{}, dst(negotiate.DestReleased, 2, "l"), false},
		{"granted for another lease", negotiate.Granted, negotiate.SourceRecord{}, dst(negotiate.DestHeld, 2, "k"), false},
		{"granted for another attempt", negotiate.Granted, negotiate.SourceRecord{}, dst(negotiate.DestHeld, 1, "l"), false},
		{"a question promises nothing", negotiate.Status, negotiate.SourceRecord{}, negotiate.DestRecord{}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := PromiseRecorded(negotiate.Message{Kind: c.kind, VM: "vm", Attempt: 2, Lease: "l"}, c.src, c.dst)
			if (err == nil) != c.ok {
				t.Errorf("got %v, want ok %t", err, c.ok)
			}
		})
	}
}
