package mesh

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// maxTags keeps the encoded tags below Serf's 512 bytes: a length of up to two
// bytes stands before each key and each value.
const maxTags = 440

// encode returns the tags as Serf carries them.
func (t Tags) encode() (map[string]string, error) {
	m := map[string]string{"v": strconv.Itoa(t.Version)}
	for k, v := range map[string]string{"n": t.Name, "rpc": t.RPCAddr, "fp": t.CertFingerprint,
		"cpu": t.CPUModel, "p": t.Pools, "z": t.Zone} {
		if v != "" {
			m[k] = v
		}
	}
	if t.Draining {
		m["drain"] = "1"
	}
	if t.PauseVersion > 0 {
		m["o"] = orderTag(t.PauseVersion, t.Paused)
	}
	size := 0
	for k, v := range m {
		size += len(k) + len(v) + 4
	}
	if size > maxTags {
		return nil, fmt.Errorf("name, addresses, CPU model, pools and zone take %d bytes, at most %d fit: shorten mesh.name or mesh.zone", size, maxTags)
	}
	return m, nil
}

// decodeTags reads a member's tags. Whatever a peer sends, the result is usable:
// an unknown version shows as such.
func decodeTags(m map[string]string) Tags {
	version, err := strconv.Atoi(m["v"])
	if err != nil || version < 0 {
		version = 0
	}
	order, paused := readOrderTag(m["o"])
	return Tags{PauseVersion: order, Paused: paused, Version: version, Name: printable(m["n"]), RPCAddr: printable(m["rpc"]),
		CertFingerprint: printable(m["fp"]), CPUModel: printable(m["cpu"]), Pools: printable(m["p"]),
		Zone: printable(m["z"]), Draining: m["drain"] == "1"}
}

// orderTag is the letter p (paused) or r (resumed) and the order's version.
func orderTag(version uint64, paused bool) string {
	if paused {
		return "p" + strconv.FormatUint(version, 10)
	}
	return "r" + strconv.FormatUint(version, 10)
}

// readOrderTag reads what orderTag wrote; anything else is no order.
func readOrderTag(tag string) (version uint64, paused bool) {
	if tag == "" || tag[0] != 'p' && tag[0] != 'r' {
		return 0, false
	}
	version, err := strconv.ParseUint(tag[1:], 10, 64)
	if err != nil || version == 0 {
		return 0, false
	}
	return version, tag[0] == 'p'
}

// fingerprintEvery is how often the tags are held to the certificate in use,
// which may be renewed at any time.
const fingerprintEvery = time.Minute

type tagRequest struct {
	tags  Tags
	reply chan error
}

// SetTags tells the cluster this host's slow-changing facts; version, name,
// address and fingerprint are filled in. It costs gossip: call it on change only.
// It waits for the news to be sent, a second and a half at most.
func (m *Mesh) SetTags(t Tags) error {
	r := tagRequest{tags: t, reply: make(chan error, 1)}
	select {
	case m.tagCh <- r:
		return <-r.reply
	case <-m.run.Done():
		return ErrClosed
	case <-m.serf.ShutdownCh():
		return ErrClosed
	}
}

// ownTags is the only caller of Serf's SetTags, which is not safe to call
// concurrently. Every request that it takes is answered.
func (m *Mesh) ownTags(ctx context.Context) {
	current := m.tags
	tick := time.NewTicker(fingerprintEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.serf.ShutdownCh():
			return
		case r := <-m.tagCh:
			t := m.identify(r.tags)
			err := m.applyTags(t)
			if err == nil {
				current = t
			}
			r.reply <- err
		case <-tick.C:
			t := m.identify(current)
			if t == current {
				continue
			}
			if err := m.applyTags(t); err != nil {
				m.log.Warn("the renewed certificate's fingerprint is not told", "err", err)
				continue
			}
			current = t
		}
	}
}

// identify fills in what is not the caller's to say.
func (m *Mesh) identify(t Tags) Tags {
	t.Version, t.Name, t.RPCAddr = ProtocolVersion, m.cfg.Name, m.rpc.addr
	cert, _ := m.identity.current()
	t.CertFingerprint = fingerprint(cert.Certificate[0])
	return t
}

func (m *Mesh) applyTags(t Tags) error {
	encoded, err := t.encode()
	if err != nil {
		return err
	}
	// Serf refuses what is too long, which encode has excluded; what remains is
	// that the broadcast still waits in its queue.
	if err := m.serf.SetTags(encoded); err != nil {
		m.log.Info("tags are set, and are told to the peers later", "err", err)
	}
	return nil
}
