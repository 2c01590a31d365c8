package hypervisor

import (
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"time"
)

// MetadataURI is the XML namespace of headroom's part of a domain's metadata,
// and metadataKey its prefix.
const (
	MetadataURI = "urn:headroom:1"
	metadataKey = "headroom"
	// maxMetadata bounds what is read of a domain's metadata: anyone who may
	// edit the domain may write it.
	maxMetadata = 16 << 10
	maxListed   = 256
)

// ErrMetadata says that a domain's headroom metadata cannot be understood.
var ErrMetadata = errors.New("malformed headroom metadata: correct it with `virsh metadata DOMAIN " + MetadataURI + "`")

// metadataXML is the written form.
type metadataXML struct {
	XMLName xml.Name    `xml:"urn:headroom:1 vm"`
	Move    *moveXML    `xml:"move"`
	Past    []momentXML `xml:"past>moved"`
	Policy  *policyXML  `xml:"policy"`
}

type moveXML struct {
	Attempt  uint64 `xml:"attempt,attr"`
	Lease    string `xml:"lease,attr,omitempty"`
	From     string `xml:"from,attr,omitempty"`
	To       string `xml:"to,attr,omitempty"`
	LastFrom string `xml:"last-from,attr,omitempty"`
	MovedAt  string `xml:"moved-at,attr,omitempty"`
}

type momentXML struct {
	At string `xml:"at,attr"`
}

type policyXML struct {
	Mode         string    `xml:"mode,attr,omitempty"`
	Pin          string    `xml:"pin,attr,omitempty"`
	Affinity     []wishXML `xml:"affinity"`
	AntiAffinity []wishXML `xml:"anti-affinity"`
	Hosts        []hostXML `xml:"host"`
	Partners     []string  `xml:"partner"`
}

// wishXML is one VM of an affinity; no level is «must».
type wishXML struct {
	Level string `xml:"level,attr,omitempty"`
	VM    string `xml:",chardata"`
}

// hostXML is one host of a rule; no rule is «must».
type hostXML struct {
	Rule string `xml:"rule,attr,omitempty"`
	Host string `xml:",chardata"`
}

// The words of levels and rules.
const (
	levelMust      = "must"
	levelShould    = "should"
	levelMustNot   = "must-not"
	levelShouldNot = "should-not"
)

// wishes writes those that must hold and those that should.
func wishes(must, should []string) (out []wishXML) {
	for _, vm := range must {
		out = append(out, wishXML{VM: vm})
	}
	for _, vm := range should {
		out = append(out, wishXML{Level: levelShould, VM: vm})
	}
	return out
}

// sorted reads what wishes wrote.
func sorted(list []wishXML) (must, should []string, err error) {
	for _, w := range list {
		switch w.Level {
		case "", levelMust:
			must = append(must, w.VM)
		case levelShould:
			should = append(should, w.VM)
		default:
			return nil, nil, fmt.Errorf("%w: level %q: use must or should", ErrMetadata, w.Level)
		}
	}
	return must, should, nil
}

// Encode returns the metadata as the XML element that libvirt stores. What would
// not be read back the same (a control character, a time of the year 10000) is an
// error that wraps ErrMetadata.
func (m Metadata) Encode() (string, error) {
	text, err := m.encode()
	if err != nil {
		return "", err
	}
	back, err := DecodeMetadata(text)
	if err != nil {
		return "", err
	}
	if !back.equal(m) {
		return "", fmt.Errorf("%w: a value cannot be written as XML", ErrMetadata)
	}
	return text, nil
}

func (m Metadata) equal(o Metadata) bool {
	return m.Attempt == o.Attempt && m.Lease == o.Lease && m.From == o.From && m.To == o.To && m.LastFrom == o.LastFrom &&
		m.MovedAt.Equal(o.MovedAt) && slices.EqualFunc(m.Moves, o.Moves, time.Time.Equal) &&
		m.Mode == o.Mode && m.Pin == o.Pin && slices.Equal(m.Affinity, o.Affinity) && slices.Equal(m.AntiAffinity, o.AntiAffinity) &&
		slices.Equal(m.Near, o.Near) && slices.Equal(m.Apart, o.Apart) && slices.Equal(m.Hosts, o.Hosts) && slices.Equal(m.Partners, o.Partners)
}

// clone shares nothing with m.
func (m Metadata) clone() Metadata {
	m.Moves, m.Affinity, m.AntiAffinity = slices.Clone(m.Moves), slices.Clone(m.Affinity), slices.Clone(m.AntiAffinity)
	m.Near, m.Apart, m.Hosts, m.Partners = slices.Clone(m.Near), slices.Clone(m.Apart), slices.Clone(m.Hosts), slices.Clone(m.Partners)
	return m
}

// policy writes the owner's rules; nil when there is none.
func (m Metadata) policy() *policyXML {
	p := policyXML{Mode: m.Mode, Pin: m.Pin, Affinity: wishes(m.Affinity, m.Near), AntiAffinity: wishes(m.AntiAffinity, m.Apart), Partners: m.Partners}
	for _, h := range m.Hosts {
		p.Hosts = append(p.Hosts, hostXML{Rule: h.Word, Host: h.Host})
	}
	if p.Mode+p.Pin == "" && len(p.Affinity)+len(p.AntiAffinity)+len(p.Hosts)+len(p.Partners) == 0 {
		return nil
	}
	return &p
}

// setPolicy reads the owner's rules.
func (m *Metadata) setPolicy(p *policyXML) (err error) {
	m.Mode, m.Pin, m.Partners = p.Mode, p.Pin, p.Partners
	if m.Affinity, m.Near, err = sorted(p.Affinity); err != nil {
		return err
	}
	if m.AntiAffinity, m.Apart, err = sorted(p.AntiAffinity); err != nil {
		return err
	}
	for _, h := range p.Hosts {
		word := h.Rule
		if word == "" {
			word = levelMust
		}
		m.Hosts = append(m.Hosts, HostRule{Host: h.Host, Word: word})
	}
	return nil
}

func (m Metadata) encode() (string, error) {
	x := metadataXML{}
	if m.Attempt > 0 || m.Lease+m.From+m.To+m.LastFrom != "" || !m.MovedAt.IsZero() {
		x.Move = &moveXML{Attempt: m.Attempt, Lease: m.Lease, From: m.From, To: m.To, LastFrom: m.LastFrom}
		if !m.MovedAt.IsZero() {
			x.Move.MovedAt = m.MovedAt.UTC().Format(time.RFC3339Nano)
		}
	}
	for _, at := range m.Moves {
		x.Past = append(x.Past, momentXML{at.UTC().Format(time.RFC3339Nano)})
	}
	x.Policy = m.policy()
	b, err := xml.Marshal(x)
	if err != nil {
		return "", fmt.Errorf("encode metadata: %w", err)
	}
	if len(b) > maxMetadata {
		return "", fmt.Errorf("%w: %d bytes, at most %d", ErrMetadata, len(b), maxMetadata)
	}
	return string(b), nil
}

// DecodeMetadata reads the XML element; an empty text is the zero Metadata. The
// error wraps ErrMetadata.
func DecodeMetadata(text string) (Metadata, error) {
	if text == "" {
		return Metadata{}, nil
	}
	if len(text) > maxMetadata {
		return Metadata{}, fmt.Errorf("%w: %d bytes, at most %d are read", ErrMetadata, len(text), maxMetadata)
	}
	var x metadataXML
	if err := xml.Unmarshal([]byte(text), &x); err != nil {
		return Metadata{}, fmt.Errorf("%w: %w", ErrMetadata, err)
	}
	var m Metadata
	var err error
	if v := x.Move; v != nil {
		m.Attempt, m.Lease, m.From, m.To, m.LastFrom = v.Attempt, v.Lease, v.From, v.To, v.LastFrom
		if m.MovedAt, err = moment(v.MovedAt); err != nil {
			return Metadata{}, err
		}
	}
	if len(x.Past) > maxListed {
		return Metadata{}, fmt.Errorf("%w: %d past moves, at most %d are read", ErrMetadata, len(x.Past), maxListed)
	}
	for _, p := range x.Past {
		at, err := moment(p.At)
		if err != nil {
			return Metadata{}, err
		}
		m.Moves = append(m.Moves, at)
	}
	if p := x.Policy; p != nil {
		if err := m.setPolicy(p); err != nil {
			return Metadata{}, err
		}
	}
	return m, m.check()
}

func moment(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: time %q: %w", ErrMetadata, text, err)
	}
	return at.UTC(), nil
}

func (m Metadata) check() error {
	switch m.Mode {
	case "", "advise", "approve", "auto":
	default:
		return fmt.Errorf("%w: mode %q: use advise, approve or auto", ErrMetadata, m.Mode)
	}
	for _, h := range m.Hosts {
		switch h.Word {
		case levelMust, levelShould, levelShouldNot, levelMustNot:
		default:
			return fmt.Errorf("%w: rule %q for host %q: use must, should, should-not or must-not", ErrMetadata, h.Word, h.Host)
		}
	}
	if max(len(m.Affinity), len(m.AntiAffinity), len(m.Near), len(m.Apart), len(m.Hosts), len(m.Partners)) > maxListed {
		return fmt.Errorf("%w: more than %d affinities, hosts or partners", ErrMetadata, maxListed)
	}
	return nil
}
