package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxAnswerBytes bounds what the client reads of one answer.
const maxAnswerBytes = 32 << 20

// ErrNoAgent means that no agent answers on the socket.
var ErrNoAgent = errors.New("no agent answers")

// Client asks a local agent. Its methods return errors that wrap ErrNoAgent,
// ErrNotFound, ErrConflict or ErrInvalid where these apply.
type Client struct {
	path string
	http *http.Client
}

// NewClient returns a client of the agent at the unix socket path. It does not
// connect yet.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &Client{path: path, http: &http.Client{Transport: &http.Transport{DialContext: dial}}}
}

// Status asks for the agent's status.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return get[Status](ctx, c, "/status", nil)
}

// VMs asks for the host's VMs.
func (c *Client) VMs(ctx context.Context) ([]VM, error) { return get[[]VM](ctx, c, "/vms", nil) }

// Forecast asks for the forecast of one VM, by name or UUID.
func (c *Client) Forecast(ctx context.Context, vm string) (VMForecast, error) {
	return get[VMForecast](ctx, c, "/vms/"+url.PathEscape(vm)+"/forecast", nil)
}

// History asks for what the agent has kept of one VM's CPU demand for the time
// back, in means over step or the next longer step that is kept; 0: the agent's
// choice.
func (c *Client) History(ctx context.Context, vm string, back, step time.Duration) (History, error) {
	q := url.Values{"back_s": {strconv.FormatFloat(back.Seconds(), 'f', -1, 64)}, "step_s": {strconv.FormatFloat(step.Seconds(), 'f', -1, 64)}}
	return get[History](ctx, c, "/vms/"+url.PathEscape(vm)+"/history", q)
}

// Slots asks for the host's shadow slots.
func (c *Client) Slots(ctx context.Context) ([]Slot, error) {
	return get[[]Slot](ctx, c, "/slots", nil)
}

// Members asks for the hosts of the cluster.
func (c *Client) Members(ctx context.Context) ([]Member, error) {
	return get[[]Member](ctx, c, "/members", nil)
}

// Offers asks for the latest offers given and received.
func (c *Client) Offers(ctx context.Context, q Query) ([]Offer, error) {
	return get[[]Offer](ctx, c, "/offers", q.values())
}

// Decisions asks for the latest decisions, newest first.
func (c *Client) Decisions(ctx context.Context, q Query) ([]Decision, error) {
	return get[[]Decision](ctx, c, "/decisions", q.values())
}

// Decision asks for one decision with its whole record.
func (c *Client) Decision(ctx context.Context, id string) (Decision, error) {
	return get[Decision](ctx, c, "/decisions/"+url.PathEscape(id), nil)
}

// Migrations asks for the latest migrations, newest first.
func (c *Client) Migrations(ctx context.Context, q Query) ([]Migration, error) {
	return get[[]Migration](ctx, c, "/migrations", q.values())
}

// Migrate asks the agent to move a VM; an empty to lets the agent choose.
func (c *Client) Migrate(ctx context.Context, vm, to string) (MigrateReply, error) {
	return post[MigrateReply](ctx, c, "/vms/"+url.PathEscape(vm)+"/migrate", MigrateRequest{To: to})
}

// Orphans asks for the hand-overs that wait for the other host or an operator.
func (c *Client) Orphans(ctx context.Context) ([]Orphan, error) {
	return get[[]Orphan](ctx, c, "/orphans", nil)
}

// Override ends a hand-over on an operator's word.
func (c *Client) Override(ctx context.Context, vm string, r OverrideRequest) error {
	_, err := post[OverrideReply](ctx, c, "/vms/"+url.PathEscape(vm)+"/override", r)
	return err
}

// Incoming asks whether a VM may come in by migration, as libvirt's hook does.
func (c *Client) Incoming(ctx context.Context, r IncomingRequest) (IncomingReply, error) {
	return post[IncomingReply](ctx, c, "/incoming", r)
}

// Events calls fn for each event until ctx ends, the agent goes away or fn
// returns an error, which is then returned.
func (c *Client) Events(ctx context.Context, fn func(Event) error) error {
	resp, err := c.send(ctx, http.MethodGet, "/events", nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return decodeError(resp)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var ev Event
		if err := json.Unmarshal([]byte(data), &ev); err != nil {
			return fmt.Errorf("decode event: %w", err)
		}
		if err := fn(ev); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	return fmt.Errorf("%w any more: the event stream ended", ErrNoAgent)
}

func (q Query) values() url.Values {
	v := url.Values{}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.VM != "" {
		v.Set("vm", q.VM)
	}
	return v
}

func get[T any](ctx context.Context, c *Client, path string, q url.Values) (T, error) {
	var out T
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := c.do(ctx, http.MethodGet, path, q, nil, &out)
	return out, err
}

func post[T any](ctx context.Context, c *Client, path string, request any) (T, error) {
	var out T
	body, err := json.Marshal(request)
	if err != nil {
		return out, fmt.Errorf("encode request: %w", err)
	}
	err = c.do(ctx, http.MethodPost, path, nil, body, &out)
	return out, err
}

func (c *Client) do(ctx context.Context, method, path string, q url.Values, body []byte, out any) error {
	resp, err := c.send(ctx, method, path, q, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return decodeError(resp)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswerBytes)).Decode(out); err != nil {
		return fmt.Errorf("decode the agent's answer: %w", err)
	}
	return nil
}

func (c *Client) send(ctx context.Context, method, path string, q url.Values, body []byte) (*http.Response, error) {
	target := "http://headroom/" + Version + path // path is escaped already
	if len(q) > 0 {
		target += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("build request: %w", err)
	}
	resp, err := c.http.Do(req)
	if err == nil {
		return resp, nil
	}
	switch {
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%w on %s: permission denied; join the socket's group or use sudo", ErrNoAgent, c.path)
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w on %s; start it with `systemctl start headroom` or name its socket with --socket", ErrNoAgent, c.path)
	}
	return nil, fmt.Errorf("ask the agent on %s: %w", c.path, err)
}

// remoteError is an error as the agent reported it; kind is the sentinel that
// its code stands for.
type remoteError struct {
	text string
	kind error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }

func decodeError(resp *http.Response) error {
	var r ErrorReply
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxRequestBytes)).Decode(&r); err != nil {
		return fmt.Errorf("the agent answered %s", resp.Status)
	}
	e := &remoteError{text: r.Message}
	switch r.Code {
	case "not_found":
		e.kind = ErrNotFound
	case "conflict":
		e.kind = ErrConflict
	case "invalid":
		e.kind = ErrInvalid
	}
	return e
}
