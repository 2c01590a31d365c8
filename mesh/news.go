package mesh

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// News is told to every host, for people and their scripts.
type News struct {
	Kind    string `json:"kind"`
	VM      string `json:"vm,omitempty"`
	From    string `json:"from,omitempty"`
	To      string `json:"to,omitempty"`
	Detail  string `json:"detail,omitempty"`
	Attempt uint64 `json:"attempt,omitempty"`
	Version uint64 `json:"version,omitempty"` // of an order for the whole cluster
	Host    HostID `json:"host"`
}

// maxNews keeps a news in one packet: Serf takes 512 bytes, of which the event's
// name and the framing need up to 60.
const maxNews = 450

// encode shortens Detail, which is for people, as far as the packet demands.
func (n News) encode() ([]byte, error) {
	n.Detail = cut(n.Detail, maxNews)
	for {
		b, err := json.Marshal(n)
		if err != nil {
			return nil, fmt.Errorf("encode news: %w", err)
		}
		over := len(b) - maxNews
		if over <= 0 {
			return b, nil
		}
		if n.Detail == "" {
			return nil, fmt.Errorf("news of %d bytes, at most %d fit into a packet: shorten names", len(b), maxNews)
		}
		// JSON spends up to six bytes on one.
		n.Detail = cut(n.Detail, len(n.Detail)-(over+5)/6)
	}
}

// cut returns at most n bytes of s, in whole characters.
func cut(s string, n int) string {
	if n >= len(s) {
		return s
	}
	n = max(0, n)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// decodeNews reads a news from the network.
func decodeNews(b []byte) (News, error) {
	var n News
	if len(b) > maxNews {
		return n, fmt.Errorf("malformed news: %d bytes, at most %d are read", len(b), maxNews)
	}
	if err := json.Unmarshal(b, &n); err != nil {
		return n, fmt.Errorf("malformed news: %w", err)
	}
	for _, s := range []*string{&n.Kind, &n.VM, &n.From, &n.To, &n.Detail, (*string)(&n.Host)} {
		*s = printable(*s)
	}
	if n.Kind == "" || n.Host == "" {
		return n, errors.New("malformed news: no kind or host")
	}
	return n, nil
}

// printable replaces what could command a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
