package mesh

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Digest hints at a host's free capacity. It is at most 64 bytes on the wire,
// replaces the host's former one, and expires by itself.
type Digest struct {
	Seq      uint32        // set by PublishDigest
	ValidFor time.Duration // from its arrival, in whole seconds, at most an hour
	Free     [4]uint8      // shadow slots per class, in the order of the configuration
	Pressure uint8         // hundredths of usable CPU at the forecast p90, at most 2.55
	Incoming uint8         // leases and arriving VMs
	Flags    uint8         // reserved: sent as given
}

// maxDigest bounds a digest on the wire, the sender's id included.
const maxDigest = 64

const (
	digestVersion = 1
	digestFixed   = 13 // bytes after the id
	maxHostID     = 40
	maxValid      = time.Hour
)

var (
	// errDigest says that a digest cannot be understood.
	errDigest = errors.New("malformed digest")
	// errDigestVersion says that it is of a later program.
	errDigestVersion = errors.New("digest of an unknown version")
)

// encodeDigest writes version, length and id of the sender, sequence, validity in
// seconds and the fixed fields; integers are big-endian.
func encodeDigest(from HostID, d Digest) ([]byte, error) {
	if from == "" || len(from) > maxHostID {
		return nil, fmt.Errorf("%w: host id of %d bytes, want 1..%d", errDigest, len(from), maxHostID)
	}
	b := append(make([]byte, 0, maxDigest), digestVersion, byte(len(from)))
	b = append(b, from...)
	b = binary.BigEndian.AppendUint32(b, d.Seq)
	b = binary.BigEndian.AppendUint16(b, uint16(min(maxValid, max(0, d.ValidFor))/time.Second))
	b = append(b, d.Free[:]...)
	return append(b, d.Pressure, d.Incoming, d.Flags), nil
}

// decodeDigest reads what encodeDigest wrote. Bytes after the known fields are
// of a later minor version and are ignored.
func decodeDigest(b []byte) (HostID, Digest, error) {
	var d Digest
	if len(b) < 2 || len(b) > maxDigest {
		return "", d, fmt.Errorf("%w: %d bytes", errDigest, len(b))
	}
	if b[0] != digestVersion {
		return "", d, fmt.Errorf("%w: %d, this agent knows %d", errDigestVersion, b[0], digestVersion)
	}
	n := int(b[1])
	if n == 0 || n > maxHostID || len(b) < 2+n+digestFixed {
		return "", d, fmt.Errorf("%w: %d bytes with an id of %d", errDigest, len(b), n)
	}
	from, rest := HostID(b[2:2+n]), b[2+n:]
	d.Seq = binary.BigEndian.Uint32(rest)
	d.ValidFor = time.Duration(binary.BigEndian.Uint16(rest[4:])) * time.Second
	copy(d.Free[:], rest[6:10])
	d.Pressure, d.Incoming, d.Flags = rest[10], rest[11], rest[12]
	if d.ValidFor > maxValid {
		return "", d, fmt.Errorf("%w: valid for %v, at most %v", errDigest, d.ValidFor, maxValid)
	}
	return from, d, nil
}

// pressureStep is the change of pressure, in hundredths, that is worth a digest.
const pressureStep = 5

// differs says whether next tells enough new to be sent. One slot of many is
// noise; the first and the last one are not.
func (d Digest) differs(next Digest) bool {
	for i, was := range d.Free {
		is := next.Free[i]
		if (was == 0) != (is == 0) || apart(was, is) > int(max(was, is))/8 {
			return true
		}
	}
	return d.Incoming != next.Incoming || d.Flags != next.Flags || apart(d.Pressure, next.Pressure) >= pressureStep
}

func apart(a, b uint8) int { return max(int(a), int(b)) - min(int(a), int(b)) }
