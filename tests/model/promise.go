package model

import (
	"fmt"

	"headroom/planner/negotiate"
)

// PromiseRecorded is the part of JournalBeforeAct that is about messages: a promise
// is sent only from the journal. src and dst are what the sender's disk holds of the
// message's VM, zero where it holds nothing. The error says what stands there instead.
func PromiseRecorded(m negotiate.Message, src negotiate.SourceRecord, dst negotiate.DestRecord) error {
	ok := true
	switch m.Kind {
	case negotiate.Reserve:
		ok = src.State == negotiate.SourceReserving && src.Attempt == m.Attempt
	case negotiate.Commit:
		ok = src.State == negotiate.SourceCommitted && src.Attempt == m.Attempt && src.Lease == m.Lease
	case negotiate.Abort: // of another attempt it promises nothing
		own := m.Lease != "" && src.Attempt == m.Attempt && src.Lease == m.Lease
		ok = !own || src.State == negotiate.SourceAborted
	case negotiate.Granted:
		ok = dst.Attempt == m.Attempt && dst.Lease == m.Lease && (dst.State == negotiate.DestHeld || dst.State == negotiate.DestIncoming)
	}
	if ok {
		return nil
	}
	return fmt.Errorf("%s of %d/%s for %s with a journal of source %s %d/%s, destination %s %d/%s", m.Kind,
		m.Attempt, m.Lease, m.VM, src.State, src.Attempt, src.Lease, dst.State, dst.Attempt, dst.Lease)
}
