package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"headroom/planner/negotiate"
)

func TestReadLogs(t *testing.T) {
	line := func(second int, s negotiate.Transition) string {
		s.VM, s.Attempt, s.Lease = "vm", 1, "l"
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"time":"2026-01-01T00:00:%02d.5Z","level":"DEBUG","msg":"hand-over step","step":%s}`+"\n", second, b)
	}
	src := func(second int) string {
		return line(second, negotiate.Transition{Side: negotiate.SideSource, Host: "a", From: string(negotiate.PhaseMigrating), Event: "migrated",
			To: string(negotiate.PhaseCommitting), Acts: []string{"record committed", "send commit"}})
	}
	dst := func(second int) string {
		return line(second, negotiate.Transition{Side: negotiate.SideDestination, Host: "b", From: "incoming", Event: "commit",
			To: "committed", Acts: []string{"record committed"}})
	}
	const other = `{"time":"2026-01-01T00:00:01Z","level":"INFO","msg":"joined"}` + "\n" + "panic: not JSON\n"
	for _, c := range []struct {
		name  string
		logs  []string
		steps int
		want  string // part of the error
		table bool   // the error is the table's
	}{
		{"nothing", []string{"", other}, 0, "", false},
		{"commit after its record, in the other log", []string{dst(2), other + src(1)}, 2, "", false},
		{"commit before its record", []string{dst(1), src(2)}, 1, "no source has recorded this Commit", true},
		{"commit without a record", []string{dst(1), other}, 1, "at 00:00:01.5", true},
		{"a torn line", []string{src(1), dst(2)[:80] + "\n"}, 0, "log line", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var logs [][]byte
			for _, l := range c.logs {
				logs = append(logs, []byte(l))
			}
			steps, err := ReadLogs(logs...)
			if steps != c.steps || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) || errors.Is(err, ErrTrace) != c.table {
				t.Errorf("got %d steps, %v; want %d, %q", steps, err, c.steps, c.want)
			}
		})
	}
}
