package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/hashicorp/serf/serf"
)

const (
	// joinRetry is the pause while no address answers, joinCheck the one
	// afterwards: halves of a cluster that started apart find each other by it.
	joinRetry = 5 * time.Second
	joinCheck = 30 * time.Second
)

// keepJoining tries the addresses that are not yet members.
func (m *Mesh) keepJoining(ctx context.Context) {
	addrs := m.otherSeeds()
	if len(addrs) == 0 {
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.serf.ShutdownCh():
			return
		case <-timer.C:
		}
		pause := joinCheck
		if !m.joinMissing(ctx, addrs) {
			pause = joinRetry
		}
		timer.Reset(pause + rand.N(pause/5)) // hosts that started together must not stay in step
	}
}

func (m *Mesh) otherSeeds() []string {
	var out []string
	for _, a := range m.cfg.Join {
		if a != m.cfg.Bind && a != m.cfg.Advertise {
			out = append(out, a)
		}
	}
	return out
}

// joinMissing says whether this host is in company, after having tried.
func (m *Mesh) joinMissing(ctx context.Context, addrs []string) bool {
	alive, others := m.aliveAddrs()
	var last error
	for _, addr := range addrs {
		// A name cannot be compared with addresses: it is tried only when alone.
		host, _, _ := net.SplitHostPort(addr)
		if alive[addr] || others && net.ParseIP(host) == nil {
			continue
		}
		if ctx.Err() != nil {
			return false
		}
		// Old events are ignored: they are hints of a time that is over.
		if _, err := m.serf.Join([]string{addr}, true); err != nil {
			last = fmt.Errorf("join %s: %w", addr, joinReason(err))
			m.log.Debug("an address of mesh.join does not answer", "addr", addr, "err", err)
			continue
		}
		// It may have brought the other addresses.
		alive, _ = m.aliveAddrs()
		others = true
	}
	if others {
		last = nil
	}
	m.noteJoin(last)
	return others
}

// aliveAddrs are the gossip addresses of live members, and whether one of them is
// another host's.
func (m *Mesh) aliveAddrs() (map[string]bool, bool) {
	alive := map[string]bool{}
	others := false
	for _, s := range m.serf.Members() {
		if s.Status == serf.StatusAlive {
			alive[net.JoinHostPort(s.Addr.String(), strconv.Itoa(int(s.Port)))] = true
			others = others || s.Name != string(m.cfg.ID)
		}
	}
	return alive, others
}

// joinReason finds the operator's mistake behind memberlist's error, which is
// text alone. Tests hold its words to ours.
func joinReason(err error) error {
	var tries *multierror.Error
	if errors.As(err, &tries) {
		tries.ErrorFormat = inOneLine
	}
	text := err.Error()
	switch {
	case strings.Contains(text, "no installed keys could decrypt"),
		strings.Contains(text, "remote state is not encrypted"),
		strings.Contains(text, "remote state is encrypted and encryption is not configured"):
		return fmt.Errorf("%w (%w)", ErrKeyDiffers, err)
	// The peer closes unread what has another label.
	case strings.Contains(text, io.EOF.Error()), strings.Contains(text, "connection reset by peer"),
		strings.Contains(text, io.ErrClosedPipe.Error()), strings.Contains(text, "broken pipe"):
		return fmt.Errorf("%w (%w)", ErrOtherCluster, err)
	}
	return fmt.Errorf("%w (%w)", ErrUnreachable, err)
}

// inOneLine renders the errors of a name's addresses for status and log.
func inOneLine(errs []error) string {
	var texts []string
	for _, err := range errs {
		texts = append(texts, err.Error())
	}
	return strings.Join(texts, "; ")
}

// noteJoin remembers how joining goes, and tells changes.
func (m *Mesh) noteJoin(err error) {
	m.mu.Lock()
	was := m.joinErr
	m.joinErr = err
	m.mu.Unlock()
	switch {
	case err != nil && (was == nil || cause(was) != cause(err)):
		m.log.Warn("no address of mesh.join could be joined; trying again", "err", err)
		m.tell(Event{Kind: EventJoinFailed, Host: m.cfg.ID, Name: m.cfg.Name, Text: err.Error()})
	case err == nil && was != nil:
		m.log.Info("joined the cluster")
		m.tell(Event{Kind: EventJoined, Host: m.cfg.ID, Name: m.cfg.Name, Text: "joined the cluster"})
	}
}

// cause is the sentinel within a join error: texts differ by port numbers.
func cause(err error) error {
	for _, s := range []error{ErrKeyDiffers, ErrOtherCluster, ErrUnreachable} {
		if errors.Is(err, s) {
			return s
		}
	}
	return nil
}
