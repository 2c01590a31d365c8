package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Drain says whether operators want this host emptied, and how far that is.
type Drain struct {
	Draining bool       `json:"draining"`
	Since    *time.Time `json:"since"`
	Reason   string     `json:"reason,omitempty"`
	// VMs are still here, Outgoing of them on their way; Arriving are VMs that
	// were on their way here when the order came.
	VMs int `json:"vms"`
	// Known says that the agent has asked the hypervisor for its VMs: one that has
	// just started sees none.
	Known    bool `json:"known"`
	Outgoing int  `json:"outgoing"`
	Arriving int  `json:"arriving"`
	// Note is what the last round had to say, such as a VM that fits nowhere.
	Note string `json:"note,omitempty"`
}

// Done says whether the host is empty.
func (d Drain) Done() bool { return d.Draining && d.Known && d.VMs+d.Outgoing+d.Arriving == 0 }

// DrainRequest asks for this host to be emptied.
type DrainRequest struct {
	Reason string `json:"reason"`
}

// Pause is the cluster's last word on whether moves may begin.
type Pause struct {
	Paused bool `json:"paused"`
	// Version counts the orders; 0: there never was one.
	Version uint64     `json:"version"`
	Host    string     `json:"host,omitempty"` // where it was given
	Reason  string     `json:"reason,omitempty"`
	Since   *time.Time `json:"since"`
	Until   *time.Time `json:"until"` // null: until somebody resumes
	// Hosts are alive in this host's view; Aware of them tell of this order.
	Hosts int `json:"hosts"`
	Aware int `json:"aware"`
	// Held is why no move begins here now; empty when moves may begin.
	Held string `json:"held,omitempty"`
}

// PauseRequest asks the whole cluster to begin no move, for a time; ForS 0: until
// somebody resumes.
type PauseRequest struct {
	Reason string  `json:"reason"`
	ForS   float64 `json:"for_s"`
}

// AnswerReply says what an approval or rejection holds for.
type AnswerReply struct {
	Decision string    `json:"decision"`
	VM       string    `json:"vm"`
	VMName   string    `json:"vm_name"`
	Approved bool      `json:"approved"`
	Until    time.Time `json:"until"`
}

// maxPause bounds how long a pause may be ordered for.
const maxPause = 365 * 24 * time.Hour

func (s *Server) orders(mux *http.ServeMux) {
	handle := func(route string, fn func(w http.ResponseWriter, r *http.Request) (any, error)) {
		mux.HandleFunc(route, func(w http.ResponseWriter, r *http.Request) {
			v, err := fn(w, r)
			reply(w, http.StatusOK, v, err)
		})
	}
	handle("GET /"+Version+"/drain", func(http.ResponseWriter, *http.Request) (any, error) { return s.source.Drain(), nil })
	handle("PUT /"+Version+"/drain", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var req DrainRequest
		if err := decode(w, r, &req); err != nil {
			return nil, err
		}
		return s.source.SetDrain(true, req.Reason)
	})
	handle("DELETE /"+Version+"/drain", func(http.ResponseWriter, *http.Request) (any, error) { return s.source.SetDrain(false, "") })
	handle("GET /"+Version+"/pause", func(http.ResponseWriter, *http.Request) (any, error) { return s.source.Pause(), nil })
	handle("PUT /"+Version+"/pause", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var req PauseRequest
		if err := decode(w, r, &req); err != nil {
			return nil, err
		}
		if !(req.ForS >= 0 && req.ForS <= maxPause.Seconds()) {
			return nil, fmt.Errorf("%w: for_s %v: give seconds from 0 (until somebody resumes) to %.0f", ErrInvalid, req.ForS, maxPause.Seconds())
		}
		return s.source.SetPause(true, req.Reason, time.Duration(req.ForS*float64(time.Second)))
	})
	handle("DELETE /"+Version+"/pause", func(http.ResponseWriter, *http.Request) (any, error) { return s.source.SetPause(false, "", 0) })
	answer := func(approve bool) func(http.ResponseWriter, *http.Request) (any, error) {
		return func(_ http.ResponseWriter, r *http.Request) (any, error) {
			return s.source.Answer(r.PathValue("id"), approve)
		}
	}
	handle("POST /"+Version+"/decisions/{id}/approve", answer(true))
	handle("POST /"+Version+"/decisions/{id}/reject", answer(false))
}

// decode reads a request's body; fields that are not known are refused.
func decode(w http.ResponseWriter, r *http.Request, into any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequestBytes))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("%w: body: %w", ErrInvalid, err)
	}
	return nil
}

// Drain asks how far the emptying of this host is.
func (c *Client) Drain(ctx context.Context) (Drain, error) { return get[Drain](ctx, c, "/drain", nil) }

// SetDrain asks for this host to be emptied, or takes that back.
func (c *Client) SetDrain(ctx context.Context, on bool, reason string) (Drain, error) {
	if !on {
		return ask[Drain](ctx, c, http.MethodDelete, "/drain", nil)
	}
	return ask[Drain](ctx, c, http.MethodPut, "/drain", DrainRequest{Reason: reason})
}

// Pause asks whether moves may begin.
func (c *Client) Pause(ctx context.Context) (Pause, error) { return get[Pause](ctx, c, "/pause", nil) }

// SetPause lets no move begin in the whole cluster, for a time (0: until somebody
// resumes), or lets them begin again.
func (c *Client) SetPause(ctx context.Context, on bool, reason string, lasts time.Duration) (Pause, error) {
	if !on {
		return ask[Pause](ctx, c, http.MethodDelete, "/pause", nil)
	}
	return ask[Pause](ctx, c, http.MethodPut, "/pause", PauseRequest{Reason: reason, ForS: lasts.Seconds()})
}

// Answer approves or rejects a decision that waits for it.
func (c *Client) Answer(ctx context.Context, id string, approve bool) (AnswerReply, error) {
	word := "reject"
	if approve {
		word = "approve"
	}
	return ask[AnswerReply](ctx, c, http.MethodPost, "/decisions/"+url.PathEscape(id)+"/"+word, nil)
}

// ask sends a request that changes something; a nil body is none.
func ask[T any](ctx context.Context, c *Client, method, path string, body any) (T, error) {
	var out T
	var b []byte
	if body != nil {
		var err error
		if b, err = json.Marshal(body); err != nil {
			return out, fmt.Errorf("encode request: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	err := c.do(ctx, method, path, nil, b, &out)
	return out, err
}

// askLimit is how long the agent may take to write an order to its disk.
const askLimit = 10 * time.Second
