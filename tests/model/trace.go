package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"headroom/planner/negotiate"
)

// ErrTrace says that a run did what the protocol's table does not allow.
var ErrTrace = errors.New("trace leaves the protocol")

// Match finds the rules that a transition uses, as indexes into Protocol. A step
// that stays where it was and does only what is quiet needs none. The error wraps
// ErrTrace.
func Match(t negotiate.Transition) ([]int, error) {
	var used []int
	to, acts := false, slices.Clone(quiet)
	for i, r := range Protocol {
		if r.Side != t.Side || !has(r.From, t.From) || !has(r.Events, t.Event) {
			continue
		}
		used = append(used, i)
		to = to || has(r.To, t.To)
		acts = append(acts, r.Acts...)
	}
	if t.From != t.To && !to {
		return nil, fmt.Errorf("%w: no rule leads there: %s", ErrTrace, t)
	}
	for _, a := range t.Acts {
		if !slices.Contains(acts, a) {
			return nil, fmt.Errorf("%w: %q is not allowed there: %s", ErrTrace, a, t)
		}
	}
	return used, nil
}

// Trace checks the steps of one run, of all its hosts, in the order in which they
// happened: each by the table, each state machine going on where it was, attempts
// that only grow, and no Commit that its source has not recorded.
type Trace struct {
	Steps     int
	at        map[machine]negotiate.Transition // the last step of each
	committed map[token]bool
}

type machine struct {
	side string
	host negotiate.HostID
	vm   negotiate.VMID
}

type token struct {
	vm      negotiate.VMID
	attempt negotiate.Attempt
	lease   negotiate.LeaseID
}

// Add takes the next step. A step of the event «restart» begins anew at its From.
func (c *Trace) Add(t negotiate.Transition) error {
	if c.at == nil {
		c.at, c.committed = map[machine]negotiate.Transition{}, map[token]bool{}
	}
	c.Steps++
	m := machine{t.Side, t.Host, t.VM}
	last, known := c.at[m]
	c.at[m] = t
	k := token{t.VM, t.Attempt, t.Lease}
	if t.Event == negotiate.EventRestart {
		if t.To == string(negotiate.PhaseCommitting) {
			c.committed[k] = true // the record survived the agent that wrote it
		}
		return nil
	}
	if _, err := Match(t); err != nil {
		return err
	}
	if known && last.To != t.From && t.From != "none" { // a finished lease may be forgotten
		return fmt.Errorf("%w: it was %s before: %s", ErrTrace, last.To, t)
	}
	if known && t.Attempt < last.Attempt && t.To != "none" {
		return fmt.Errorf("%w: attempt %d was known before: %s", ErrTrace, last.Attempt, t)
	}
	if t.Side == negotiate.SideSource && slices.Contains(t.Acts, "record committed") {
		c.committed[k] = true
	}
	decided := slices.Contains(t.Acts, "record committed") || slices.Contains(t.Acts, "record owned")
	if t.Side == negotiate.SideDestination && t.Event == "commit" && decided && !c.committed[k] {
		return fmt.Errorf("%w: no source has recorded this Commit: %s", ErrTrace, t)
	}
	return nil
}

// ReadTrace checks a trace of JSON lines, one transition each, and returns the
// number of its steps.
func ReadTrace(r io.Reader) (int, error) {
	var c Trace
	d := json.NewDecoder(r)
	for {
		var t negotiate.Transition
		err := d.Decode(&t)
		if errors.Is(err, io.EOF) {
			return c.Steps, nil
		}
		if err != nil {
			return c.Steps, fmt.Errorf("step %d of the trace: %w", c.Steps+1, err)
		}
		if err := c.Add(t); err != nil {
			return c.Steps, fmt.Errorf("step %d: %w", c.Steps, err)
		}
	}
}
