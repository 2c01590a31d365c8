package negotiate_test

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"headroom/planner/negotiate"
)

var update = flag.Bool("update", false, "rewrite the expected lines of testdata/*.txt")

// script is a transcript being played: one source, one destination, and the last
// record of each, for restarts. Messages are delivered by hand.
type script struct {
	source     negotiate.Source
	dest       negotiate.Destination
	srcRecord  negotiate.SourceRecord
	dstRecords map[negotiate.VMID]negotiate.DestRecord
	now        time.Duration
	out        strings.Builder
}

// TestScripts plays testdata/*.txt: lines that begin with «>» are commands,
// «#» are comments, the rest is what came of it.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := &script{dstRecords: map[negotiate.VMID]negotiate.DestRecord{}}
			s.source = negotiate.NewSource("A", negotiate.Timing{})
			s.dest = negotiate.NewDestination("B", negotiate.Limits{})
			lines := bufio.NewScanner(strings.NewReader(string(want)))
			for lines.Scan() {
				line := lines.Text()
				switch {
				case strings.HasPrefix(line, ">"):
					fmt.Fprintln(&s.out, line)
					if err := s.do(strings.Fields(line[1:])); err != nil {
						t.Fatalf("%s: %v", line, err)
					}
				case strings.HasPrefix(line, "#"), line == "":
					fmt.Fprintln(&s.out, line)
				}
			}
			if *update {
				if err := os.WriteFile(file, []byte(s.out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(want), s.out.String()); diff != "" {
				t.Errorf("transcript differs (-want +got; go test -run TestScripts -update accepts):\n%s", diff)
			}
		})
	}
}

// do performs a command: a side (source, dest), a word, and key=value arguments.
func (s *script) do(words []string) error {
	side, word, args := words[0], "", arguments(words[1:])
	if len(words) > 1 && !strings.Contains(words[1], "=") {
		word = words[1]
	}
	if side == "wait" {
		d, err := time.ParseDuration(word)
		s.now += d
		return err
	}
	if word == "restart" {
		return s.restart(side, args)
	}
	at := negotiate.Moment{Now: s.now, Random: 0xabc}
	switch side {
	case "source":
		ev, err := sourceEvent(word, args)
		if err != nil {
			return err
		}
		var effects []negotiate.Effect
		s.source, effects = s.source.Step(at, ev)
		s.show(effects, "source is "+orIdle(string(s.source.Phase)))
	case "dest":
		ev, err := destEvent(word, args)
		if err != nil {
			return err
		}
		var effects []negotiate.Effect
		s.dest, effects = s.dest.Step(at, ev)
		s.show(effects, "")
	default:
		return fmt.Errorf("unknown side %q", side)
	}
	return nil
}

func (s *script) restart(side string, _ map[string]string) error {
	at := negotiate.Moment{Now: s.now, Random: 0xdef}
	var effects []negotiate.Effect
	if side == "source" {
		s.source, effects = negotiate.RecoverSource("A", negotiate.Timing{}, s.srcRecord)
		s.show(effects, "source is "+orIdle(string(s.source.Phase)))
		return nil
	}
	var records []negotiate.DestRecord
	for _, r := range s.dstRecords {
		records = append(records, r)
	}
	s.dest, effects = negotiate.RecoverDestination("B", negotiate.Limits{}, records, at)
	s.show(effects, "")
	return nil
}

// show writes the effects as a transcript, and keeps the records.
func (s *script) show(effects []negotiate.Effect, state string) {
	for _, e := range effects {
		switch e := e.(type) {
		case negotiate.PersistSource:
			s.srcRecord = e.Record
		case negotiate.PersistDestination:
			s.dstRecords[e.Record.VM] = e.Record
		}
		fmt.Fprintln(&s.out, "  "+transcript(e))
	}
	if len(effects) == 0 {
		fmt.Fprintln(&s.out, "  nothing")
	}
	if state != "" {
		fmt.Fprintln(&s.out, "  "+state)
	}
}

func orIdle(phase string) string {
	if phase == "" {
		return "idle"
	}
	return phase
}

func arguments(words []string) map[string]string {
	args := map[string]string{}
	for _, w := range words {
		k, v, _ := strings.Cut(w, "=")
		args[k] = v
	}
	return args
}

func number(args map[string]string, key string, def uint64) uint64 {
	if n, err := strconv.ParseUint(args[key], 10, 64); err == nil {
		return n
	}
	return def
}

func text(args map[string]string, key, def string) string {
	if v, ok := args[key]; ok {
		return strings.ReplaceAll(v, "_", " ")
	}
	return def
}

// theLease is what the first grant of a script is called.
const theLease = "1-0000000000000abc"

func received(word string, args map[string]string) negotiate.Received {
	m := negotiate.Message{Version: 1, Kind: negotiate.Kind(word), VM: "vm",
		Attempt: negotiate.Attempt(number(args, "attempt", 1)), Lease: negotiate.LeaseID(text(args, "lease", theLease))}
	r := negotiate.Received{From: negotiate.HostID(text(args, "from", "B"))}
	switch m.Kind {
	case negotiate.Reserve:
		m.Lease, m.Guard = "", negotiate.Guard(text(args, "guard", "paused"))
		m.Need = &negotiate.Need{Cores: 1, MemoryMiB: 1024}
		m.VM = negotiate.VMID(text(args, "vm", "vm"))
		m.Autostart = args["autostart"] == "true"
		if k := args["admission"]; k != "" {
			r.Admission = &negotiate.Refusal{Kind: negotiate.RefusalKind(k)}
		}
	case negotiate.Granted:
		m.TTLMS = 30_000
	case negotiate.Refused:
		m.Refusal = &negotiate.Refusal{Kind: negotiate.RefusalKind(args["kind"])}
		if m.Refusal.Kind != negotiate.RefusedCopyMissing && m.Refusal.Kind != negotiate.RefusedCopyRunning {
			m.Lease = ""
		}
	case negotiate.StatusReply:
		m.Copy, m.NeverRan = negotiate.CopyState(args["copy"]), args["never_ran"] == "true"
	}
	r.Message = m
	return r
}

func sourceEvent(word string, args map[string]string) (negotiate.SourceEvent, error) {
	switch word {
	case "start":
		var list []negotiate.Candidate
		for _, h := range strings.Split(args["to"], ",") {
			list = append(list, negotiate.Candidate{Host: negotiate.HostID(h), Guard: negotiate.Guard(text(args, "guard", "paused"))})
		}
		return negotiate.Start{VM: "vm", Candidates: list, LastAttempt: negotiate.Attempt(number(args, "last", 0)),
			Autostart: args["autostart"] == "true", Operator: args["operator"],
			CopyLimit: time.Duration(number(args, "limit", 0)) * time.Second}, nil
	case "stamped":
		return negotiate.Stamped{VM: "vm", Attempt: negotiate.Attempt(number(args, "attempt", 1)),
			Lease: negotiate.LeaseID(text(args, "lease", theLease)), Err: text(args, "err", "")}, nil
	case "migrated":
		return negotiate.MigrationDone{VM: "vm", Err: text(args, "err", "")}, nil
	case "running-job":
		return negotiate.MigrationStillRunning{VM: "vm", Query: number(args, "query", 1)}, nil
	case "local":
		return negotiate.LocalState{VM: "vm", Query: number(args, "query", 1), State: negotiate.LocalRun(args["state"])}, nil
	case "timer":
		return negotiate.TimerFired{Kind: negotiate.TimerKind(args["kind"]), VM: "vm"}, nil
	case "cancel":
		return negotiate.Cancel{VM: "vm", Reason: "cancelled"}, nil
	case "override":
		return negotiate.Override{VM: "vm", Action: negotiate.OverrideAction(args["action"]), By: text(args, "by", "ann"),
			Evidence: text(args, "evidence", "B is fenced")}, nil
	case "journal-fails":
		return negotiate.PersistFailed{VM: "vm", Err: "disk full"}, nil
	case "granted", "refused", "status_reply", "ack":
		return received(word, args), nil
	}
	return nil, fmt.Errorf("unknown event %q", word)
}

func destEvent(word string, args map[string]string) (negotiate.DestinationEvent, error) {
	attempt, lease := negotiate.Attempt(number(args, "attempt", 1)), negotiate.LeaseID(text(args, "lease", theLease))
	vm := negotiate.VMID(text(args, "vm", "vm"))
	switch word {
	case "prepare":
		return negotiate.PrepareCheck{VM: vm, Source: negotiate.HostID(text(args, "from", "A")), Attempt: attempt, Lease: lease}, nil
	case "copy":
		if args["state"] == "gone" {
			return negotiate.CopyGone{VM: vm, Query: number(args, "query", 0)}, nil
		}
		return negotiate.CopyAppeared{VM: vm, Attempt: attempt, Lease: lease, State: negotiate.CopyState(args["state"]), Query: number(args, "query", 0)}, nil
	case "libvirt-silent":
		return negotiate.CopyLost{VM: vm, Query: number(args, "query", 0)}, nil
	case "act-failed":
		return negotiate.ActFailed{VM: vm, Err: "cannot"}, nil
	case "timer":
		return negotiate.TimerFired{Kind: negotiate.TimerKind(args["kind"]), VM: vm}, nil
	case "override":
		return negotiate.Override{VM: vm, Action: negotiate.OverrideAction(args["action"]), By: text(args, "by", "ann"),
			Evidence: text(args, "evidence", "A is fenced")}, nil
	case "journal-fails":
		return negotiate.PersistFailed{VM: vm, Err: "disk full"}, nil
	case "reserve", "commit", "abort", "status":
		if _, ok := args["from"]; !ok {
			args["from"] = "A"
		}
		return received(word, args), nil
	}
	return nil, fmt.Errorf("unknown event %q", word)
}

// transcript is an effect in a line.
func transcript(e negotiate.Effect) string {
	name := strings.TrimPrefix(fmt.Sprintf("%T", e), "negotiate.")
	switch e := e.(type) {
	case negotiate.PersistSource:
		r := e.Record
		return line("persist source", string(r.State), fmt.Sprintf("attempt=%d lease=%s to=%s", r.Attempt, r.Lease, r.To),
			flagWord("discard", r.Discard), flagWord("resume", r.Resume), flagWord("closed", r.Closed), quoted(r.Reason), quoted(r.Override))
	case negotiate.PersistDestination:
		r := e.Record
		return line("persist dest", string(r.State), fmt.Sprintf("attempt=%d lease=%s from=%s", r.Attempt, r.Lease, r.Source),
			flagWord("aborted", r.Aborted), quoted(r.Reason), quoted(r.Override))
	case negotiate.Send:
		m := e.Message
		kind := ""
		if m.Refusal != nil {
			kind = string(m.Refusal.Kind)
		}
		if m.Copy != "" {
			kind = fmt.Sprintf("copy=%s record=%s never_ran=%t", m.Copy, m.Record, m.NeverRan)
		}
		return line("send to "+string(e.To), string(m.Kind), fmt.Sprintf("attempt=%d lease=%s", m.Attempt, m.Lease), kind)
	case negotiate.SetTimer:
		return fmt.Sprintf("timer %s in %s", e.Kind, e.After.Round(time.Millisecond))
	case negotiate.Alarm:
		return "ALARM " + e.Text
	case negotiate.Note:
		return "note " + e.Text
	case negotiate.Done:
		return line("done", string(e.Outcome), "to="+string(e.To), quoted(e.Reason), refusals(e.Refused))
	case negotiate.StartMigration:
		return fmt.Sprintf("start migration to=%s lease=%s guard=%s paused=%t", e.To, e.Lease, e.Guard, e.Paused)
	case negotiate.Stamp:
		return fmt.Sprintf("stamp attempt=%d lease=%s", e.Attempt, e.Lease)
	}
	return strings.ReplaceAll(fmt.Sprintf("%s%+v", name, e), "VM:vm ", "")
}

func line(words ...string) string {
	var kept []string
	for _, w := range words {
		if w != "" {
			kept = append(kept, w)
		}
	}
	return strings.Join(kept, " ")
}

func flagWord(name string, on bool) string {
	if on {
		return name
	}
	return ""
}

func quoted(s string) string {
	if s == "" {
		return ""
	}
	return strconv.Quote(s)
}

func refusals(list []negotiate.CandidateResult) string {
	var words []string
	for _, r := range list {
		words = append(words, fmt.Sprintf("%s:%s", r.Host, r.Refusal.Kind))
	}
	return strings.Join(words, " ")
}
