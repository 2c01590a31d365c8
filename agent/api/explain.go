package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Plan is what the agent would do now: a round on trial, with a live probe of the
// peers, that starts nothing and is not recorded.
type Plan struct {
	At       time.Time `json:"at"`
	Decision Decision  `json:"decision"`
	// Text tells the decision in whole sentences.
	Text    []string `json:"text"`
	Learned Learned  `json:"learned"`
}

// Explanation tells why one decision was made, or why a VM stays or moved.
type Explanation struct {
	Decision Decision `json:"decision"`
	// VM is the one that was asked about; empty when a decision was.
	VM   string   `json:"vm,omitempty"`
	Text []string `json:"text"`
	// Deciding is what tipped the decision.
	Deciding *Deciding `json:"deciding"`
	// Verdict is what the check some time later found; null before that, and
	// VerdictDue is when it is due.
	Verdict    *Verdict   `json:"verdict"`
	VerdictDue *time.Time `json:"verdict_due"`
	Learned    Learned    `json:"learned"`
}

// Deciding is what tipped a decision, and how far away the opposite was.
type Deciding struct {
	By     string   `json:"by"`
	Have   *float64 `json:"have"`
	Need   *float64 `json:"need"`
	Unit   string   `json:"unit,omitempty"`
	Factor *float64 `json:"factor"` // need / have
	// Term is the largest cost term.
	Term            string  `json:"term,omitempty"`
	TermCoreSeconds float64 `json:"term_core_seconds,omitempty"`
	Would           string  `json:"would"`
}

// Verdict compares a decision with what was measured after it.
type Verdict struct {
	Finding   string  `json:"finding"`
	Text      string  `json:"text"`
	Predicted float64 `json:"predicted_core_seconds"`
	Measured  float64 `json:"measured_core_seconds"`
}

// Learned is what earlier migrations from this host taught: by which factor the
// predictions are corrected, and how fast the way to each peer is.
type Learned struct {
	Migrations     int           `json:"migrations"`
	CopyFactor     float64       `json:"copy_factor"`
	BlackoutFactor float64       `json:"blackout_factor"`
	Links          []LearnedLink `json:"links"`
	// Moves and Failed are those of the last 24 hours.
	Moves  int `json:"moves"`
	Failed int `json:"failed"`
}

// LearnedLink is the bandwidth of copies to one peer.
type LearnedLink struct {
	Peer    string  `json:"peer"`
	MiBPerS float64 `json:"mib_per_s"`
	Samples int     `json:"samples"`
}

func (s *Server) explain(get func(string, func(*http.Request) (any, error))) {
	get("/plan", func(r *http.Request) (any, error) { return s.source.Plan(r.Context()) })
	get("/explain/{what}", func(r *http.Request) (any, error) { return s.source.Explain(r.PathValue("what")) })
}

// Plan asks what the agent would do now.
func (c *Client) Plan(ctx context.Context) (Plan, error) { return get[Plan](ctx, c, "/plan", nil) }

// Explain asks why a VM (name or UUID) stays or moved, or why a decision was made.
func (c *Client) Explain(ctx context.Context, what string) (Explanation, error) {
	return get[Explanation](ctx, c, "/explain/"+url.PathEscape(what), nil)
}
