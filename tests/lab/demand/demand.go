// Package demand is the lab's language for a guest's CPU demand over time:
// what a VM would use if nothing held it back, in cores, as a function of the
// time since its script began.
//
// The guest (which plays the script) and the host (which knows how much work
// the guest should have had) evaluate the same Script with the same grid, so
// that the two agree to the last request. The package is pure: no clock, no
// randomness but a seeded hash, no I/O, and it imports nothing outside the
// standard library, because it is compiled into the guest's init.
package demand

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Limits on a script: it travels on a kernel command line.
const (
	MaxLength = 512  // bytes of a script's text
	MaxParts  = 16   // parts joined by "+"
	MaxCores  = 64.0 // magnitude of any core figure
)

// Grid is the step of integration: demand is taken as linear between the
// grid's points, on the host and in the guest alike.
const Grid = 10 * time.Millisecond

// ErrSyntax is wrapped by every error of Parse.
var ErrSyntax = errors.New("demand script not understood")

// Script is a sum of parts. The zero Script demands nothing.
type Script struct {
	text  string
	parts []part
}

// part is one term of the sum: cores at a time since the start, in seconds.
type part struct {
	kind string
	args []float64
}

// Parse reads a script: parts joined by "+", each one of
//
//	constant:CORES
//	ramp:FROM,TO,AFTER,DURATION      cores, cores, time, time
//	sine:MEAN,AMPLITUDE,PERIOD       cores, cores, time
//	burst:BASE,PEAK,PERIOD,WIDTH     cores, cores, time, time
//	noise:SD[,SEED]                  cores; a new draw each second
//
// Times are Go durations ("25s"). The sum is never below zero.
func Parse(text string) (Script, error) {
	if len(text) > MaxLength {
		return Script{}, fmt.Errorf("%w: longer than %d bytes", ErrSyntax, MaxLength)
	}
	s := Script{text: text}
	for _, word := range strings.Split(text, "+") {
		p, err := parsePart(word)
		if err != nil {
			return Script{}, err
		}
		if s.parts = append(s.parts, p); len(s.parts) > MaxParts {
			return Script{}, fmt.Errorf("%w: more than %d parts", ErrSyntax, MaxParts)
		}
	}
	return s, nil
}

// MustParse is Parse for scripts written in source; it panics on an error.
func MustParse(text string) Script {
	s, err := Parse(text)
	if err != nil {
		panic(err)
	}
	return s
}

// shapes gives each kind's arguments: c is a core figure, d a time, s a seed;
// after "|" they are optional.
var shapes = map[string]string{
	"constant": "c",
	"ramp":     "ccdd",
	"sine":     "ccd",
	"burst":    "ccdd",
	"noise":    "c|s",
}

func parsePart(word string) (part, error) {
	kind, list, _ := strings.Cut(word, ":")
	shape, known := shapes[kind]
	if !known {
		return part{}, fmt.Errorf("%w: %q: want constant, ramp, sine, burst or noise, then \":\" and its figures", ErrSyntax, word)
	}
	must, may, _ := strings.Cut(shape, "|")
	words := strings.Split(list, ",")
	if len(words) < len(must) || len(words) > len(must)+len(may) {
		return part{}, fmt.Errorf("%w: %q: %s takes %d figures", ErrSyntax, word, kind, len(must))
	}
	p := part{kind: kind}
	for i, w := range words {
		v, err := parseFigure((must + may)[i], w)
		if err != nil {
			return part{}, fmt.Errorf("%w: %q: %v", ErrSyntax, word, err)
		}
		p.args = append(p.args, v)
	}
	return p, p.check(word)
}

func parseFigure(shape byte, word string) (float64, error) {
	switch shape {
	case 'd':
		d, err := time.ParseDuration(word)
		if err != nil || d < 0 || d > 365*24*time.Hour {
			return 0, fmt.Errorf("%q is no time such as 25s, from 0 to a year", word)
		}
		return d.Seconds(), nil
	case 's':
		n, err := strconv.ParseUint(word, 10, 32)
		if err != nil {
			return 0, fmt.Errorf("%q is no seed from 0 to 4294967295", word)
		}
		return float64(n), nil
	default:
		v, err := strconv.ParseFloat(word, 64)
		if err != nil || !(math.Abs(v) <= MaxCores) {
			return 0, fmt.Errorf("%q is no figure of cores up to %g", word, MaxCores)
		}
		return v, nil
	}
}

// check refuses what would divide by zero.
func (p part) check(word string) error {
	switch {
	case (p.kind == "sine" || p.kind == "burst") && p.args[2] <= 0:
		return fmt.Errorf("%w: %q: the period must be above zero", ErrSyntax, word)
	case p.kind == "noise" && p.args[0] < 0:
		return fmt.Errorf("%w: %q: the standard deviation must not be negative", ErrSyntax, word)
	}
	return nil
}

// String is the text that Parse read.
func (s Script) String() string { return s.text }

// At is the demand in cores, at a time since the script's start; never
// negative, and zero before the start.
func (s Script) At(t time.Duration) float64 {
	if t < 0 {
		return 0
	}
	var sum float64
	for _, p := range s.parts {
		sum += p.at(t.Seconds())
	}
	return max(sum, 0)
}

func (p part) at(sec float64) float64 {
	a := p.args
	switch p.kind {
	case "constant":
		return a[0]
	case "ramp":
		if sec < a[2] {
			return a[0]
		}
		if sec >= a[2]+a[3] {
			return a[1]
		}
		return a[0] + (a[1]-a[0])*(sec-a[2])/a[3]
	case "sine":
		return a[0] + a[1]*math.Sin(2*math.Pi*sec/a[2])
	case "burst":
		// A period begins with its burst.
		if math.Mod(sec, a[2]) < a[3] {
			return a[1]
		}
		return a[0]
	default: // noise
		seed := uint64(1)
		if len(a) > 1 {
			seed = uint64(a[1])
		}
		return a[0] * normal(seed, uint64(sec))
	}
}

// normal is a standard normal draw that depends on its arguments alone
// (SplitMix64, then Box and Muller).
func normal(seed, n uint64) float64 {
	u1 := unit(mix(seed<<32 ^ 2*n))
	u2 := unit(mix(seed<<32 ^ (2*n + 1)))
	return math.Sqrt(-2*math.Log(u1)) * math.Cos(2*math.Pi*u2)
}

// unit maps a hash to (0, 1]; zero is left out, for its logarithm.
func unit(h uint64) float64 { return (float64(h>>11) + 1) / (1 << 53) }

func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
