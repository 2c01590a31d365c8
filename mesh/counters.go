package mesh

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"
)

// counters counts what was refused, by reason. The reasons are the package's own
// words, so their number is bounded.
type counters struct {
	log *slog.Logger

	mu     sync.Mutex
	n      map[string]uint64    // guarded by mu
	from   map[string]string    // last address; guarded by mu
	warned map[string]time.Time // guarded by mu
}

func newCounters(log *slog.Logger) *counters {
	return &counters{log: log, n: map[string]uint64{}, from: map[string]string{}, warned: map[string]time.Time{}}
}

// warnEvery bounds the log: whoever reaches the port could fill the disk.
const warnEvery = time.Minute

// refuse counts a refusal of what came from an address ("" if that is not known)
// and warns, once a minute for each reason.
func (c *counters) refuse(reason, from string, detail any) {
	now := time.Now()
	c.mu.Lock()
	c.n[reason]++
	n := c.n[reason]
	if from != "" {
		c.from[reason] = from
	}
	last, known := c.warned[reason]
	quiet := known && now.Sub(last) < warnEvery
	if !quiet {
		c.warned[reason] = now
	}
	c.mu.Unlock()
	level := slog.LevelWarn
	if quiet {
		level = slog.LevelDebug
	}
	c.log.Log(context.Background(), level, "refused", "reason", reason, "from", from, "count", n, "detail", detail)
}

func (c *counters) copy() (n map[string]uint64, from map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.n), maps.Clone(c.from)
}

// logSink takes the log of Serf and memberlist: lines go to the agent's log, and
// those of refused packets and streams are counted. The log is their only trace:
// memberlist has no metric and no hook for them. Tests hold its words to ours.
type logSink struct {
	log    *slog.Logger
	counts *counters
}

// refusedLines are parts of memberlist's and Serf's messages about what they
// turned away; the first that fits counts. Labels come first, because they are
// quoted in the message and so could hold any word.
var refusedLines = []struct{ part, reason string }{
	{"unacceptable label", "gossip_label"},
	{"label header", "gossip_label"},
	{"decode label", "gossip_label"},
	{"decrypt", "gossip_key"}, // «Decrypt packet failed», «no installed keys could decrypt the message»
	{"not encrypted", "gossip_key"},
	{"failed to decode", "gossip_malformed"},
	{"failed to decompress", "gossip_malformed"},
	{"failed to receive", "gossip_malformed"},
	{"failed to read remote state", "gossip_malformed"},
	{"udp packet too short", "gossip_malformed"},
	{"missing message type", "gossip_malformed"},
	{"invalid checksum", "gossip_malformed"},
	{"truncated messages", "gossip_malformed"},
	{"msg type", "gossip_malformed"},
	{"message type", "gossip_malformed"},
	{"msgtype", "gossip_malformed"},
	{"serf: error decoding", "gossip_malformed"},
	{"message of unknown type", "gossip_malformed"},
	{"remote state has bad type", "gossip_malformed"},
}

// refusalOf names the reason of a log line, or "".
func refusalOf(text string) string {
	if !strings.Contains(text, "[ERR") && !strings.Contains(text, "[WARN]") {
		return ""
	}
	lower := strings.ToLower(text)
	for _, l := range refusedLines {
		if strings.Contains(lower, l.part) {
			return l.reason
		}
	}
	return ""
}

// Write takes one line of log.
func (s *logSink) Write(line []byte) (int, error) {
	text := string(bytes.TrimSpace(line))
	// The line begins with a date of its own.
	if i := strings.IndexByte(text, '['); i >= 0 {
		text = text[i:]
	}
	if reason := refusalOf(text); reason != "" {
		s.counts.refuse(reason, addressIn(text), text)
		return len(line), nil
	}
	level := slog.LevelDebug
	if strings.Contains(text, "[ERR") || strings.Contains(text, "[WARN]") {
		level = slog.LevelWarn
	}
	s.log.Log(context.Background(), level, text)
	return len(line), nil
}

// addressIn reads «from=ip:port» at the end of a line.
func addressIn(text string) string {
	_, after, found := strings.Cut(text, " from=")
	if !found {
		return ""
	}
	addr, _, _ := strings.Cut(after, " ")
	return addr
}
