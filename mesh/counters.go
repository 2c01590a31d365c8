package mesh

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
)

// counters counts what was refused, by reason. The reasons are the package's own
// words, so their number is bounded.
type counters struct {
	mu sync.Mutex
	n  map[string]uint64 // guarded by mu
}

func (c *counters) add(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[reason]++
}

func (c *counters) copy() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string]uint64, len(c.n))
	for k, v := range c.n {
		out[k] = v
	}
	return out
}

// logSink takes the log of Serf and memberlist: lines go to the agent's log, and
// those of refused packets are counted, because there is no other trace of them.
type logSink struct{ m *Mesh }

// refusedLines are parts of memberlist's messages about packets and streams that
// it turned away; the first that fits counts.
var refusedLines = []struct{ part, reason string }{
	{"decrypt", "gossip_key"}, // «Decrypt packet failed», «no installed keys could decrypt»
	{"not encrypted", "gossip_key"},
	{"unacceptable label", "gossip_label"},
	{"label header", "gossip_label"},
	{"failed to decode", "gossip_malformed"},
	{"failed to decompress", "gossip_malformed"},
	{"failed to receive", "gossip_malformed"},
	{"missing message type", "gossip_malformed"},
	{"invalid checksum", "gossip_malformed"},
	{"truncated messages", "gossip_malformed"},
	{"msg type", "gossip_malformed"},
	{"message type", "gossip_malformed"},
	{"msgtype", "gossip_malformed"},
}

// Write takes one line of log.
func (s *logSink) Write(line []byte) (int, error) {
	text := string(bytes.TrimSpace(line))
	lower := strings.ToLower(text)
	for _, l := range refusedLines {
		if strings.Contains(lower, l.part) {
			s.m.counts.add(l.reason)
			break
		}
	}
	level := slog.LevelDebug
	if strings.Contains(text, "[ERR") || strings.Contains(text, "[WARN]") {
		level = slog.LevelWarn
	}
	// The line begins with a date of its own.
	if i := strings.IndexByte(text, '['); i >= 0 {
		text = text[i:]
	}
	s.m.log.Log(context.Background(), level, text)
	return len(line), nil
}
