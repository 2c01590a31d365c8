package mesh

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// Digest hints at a host's free capacity. It is at most 64 bytes on the wire,
// replaces the host's former one, and expires by itself.
type Digest struct {
	Seq      uint32
	ValidFor time.Duration // from its arrival, in whole seconds
	Free     [4]uint8      // shadow slots per class, in the order of the configuration
	Pressure uint8         // hundredths of usable CPU at the forecast p90, at most 2.55
	Incoming uint8         // leases and arriving VMs
	Flags    uint8
}

// maxDigest bounds a digest on the wire, the sender's id included.
const maxDigest = 64

const (
	digestVersion = 1
	maxHostID     = 40
	maxValid      = time.Hour
)

// ErrDigest says that a digest cannot be understood.
var ErrDigest = errors.New("malformed digest")

// encodeDigest writes version, sender, sequence, validity and the fixed fields.
func encodeDigest(from HostID, d Digest) ([]byte, error) {
	if from == "" || len(from) > maxHostID {
		return nil, fmt.Errorf("%w: host id of %d bytes, want 1..%d", ErrDigest, len(from), maxHostID)
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
		return "", d, fmt.Errorf("%w: %d bytes", ErrDigest, len(b))
	}
	if b[0] != digestVersion {
		return "", d, fmt.Errorf("%w: version %d, this agent knows %d", ErrDigest, b[0], digestVersion)
	}
	n := int(b[1])
	if n == 0 || n > maxHostID || len(b) < 2+n+13 {
		return "", d, fmt.Errorf("%w: %d bytes with an id of %d", ErrDigest, len(b), n)
	}
	from, rest := HostID(b[2:2+n]), b[2+n:]
	d.Seq = binary.BigEndian.Uint32(rest)
	d.ValidFor = time.Duration(binary.BigEndian.Uint16(rest[4:])) * time.Second
	copy(d.Free[:], rest[6:10])
	d.Pressure, d.Incoming, d.Flags = rest[10], rest[11], rest[12]
	if d.ValidFor > maxValid {
		return "", d, fmt.Errorf("%w: valid for %v, at most %v", ErrDigest, d.ValidFor, maxValid)
	}
	return from, d, nil
}

// pressureStep is the change of pressure, in hundredths, that is worth a digest.
const pressureStep = 5

// differs says whether next tells enough new to be sent.
func (d Digest) differs(next Digest) bool {
	diff := int(d.Pressure) - int(next.Pressure)
	return d.Free != next.Free || d.Incoming != next.Incoming || d.Flags != next.Flags ||
		diff >= pressureStep || diff <= -pressureStep
}

// Budget is how many user events of so many bytes the gossip of n hosts carries
// per second, for the whole cluster: each host sends 15 packets of 1390 bytes a
// second and repeats each event 4*ceil(log10(n+1)) times.
func Budget(payload, n int) float64 {
	repeats := 4 * math.Ceil(math.Log10(float64(max(1, n)+1)))
	return 15 * math.Floor(1390/float64(payload+35)) / repeats
}

// digestShare is the part of the budget that all hosts' digests may use together.
const digestShare = 0.25

// minInterval is how long a host of n waits between two digests.
func minInterval(n int) time.Duration {
	perHost := Budget(maxDigest, n) * digestShare / float64(max(1, n))
	return time.Duration(float64(time.Second) / perHost)
}
