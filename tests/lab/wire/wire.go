// Package wire is what the lab's host side and its guests say to each other:
// parameters on the kernel command line one way, lines on the serial console
// the other way. It is pure and imports the standard library alone, because
// it is compiled into the guest's init.
package wire

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Request is the CPU time of one request at the calibrated rate; Deadline is
// the age at which an unfinished request is lost.
const (
	Request  = 10 * time.Millisecond
	Deadline = time.Second
)

// ErrMalformed is wrapped by every parsing error of this package.
var ErrMalformed = errors.New("malformed")

// Params is what a guest is told at its boot.
type Params struct {
	Calibrate bool    // spin and count, play nothing
	Demand    string  // the script's text
	Rate      float64 // iterations per core-second
}

// String is the parameters as words of a kernel command line.
func (p Params) String() string {
	if p.Calibrate {
		return "lab_calibrate=1"
	}
	return fmt.Sprintf("lab_demand=%s lab_rate=%.0f", p.Demand, p.Rate)
}

// ParseParams finds the parameters on a kernel command line; words that it
// does not know are the kernel's.
func ParseParams(cmdline string) (Params, error) {
	var p Params
	for _, word := range strings.Fields(cmdline) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "lab_calibrate":
			p.Calibrate = value == "1"
		case "lab_demand":
			p.Demand = value
		case "lab_rate":
			rate, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return Params{}, fmt.Errorf("%w lab_rate %q", ErrMalformed, value)
			}
			p.Rate = rate
		}
	}
	if !p.Calibrate && !(p.Rate >= 1 && p.Rate < 1e12) {
		return Params{}, fmt.Errorf("%w lab_rate %g: want iterations per core-second", ErrMalformed, p.Rate)
	}
	return p, nil
}

// Report is one line of a guest's progress. Work is in core-seconds at the
// calibrated rate; what is demanded and neither done nor lost is waiting.
type Report struct {
	Seq      uint64        // counts a guest's reports from 1
	Elapsed  time.Duration // since the script's start, by the guest's clock
	Demanded float64
	Done     float64
	Lost     float64
}

// String is the line. It begins with a line break, and ends with a mark: a
// line torn by a migration is then seen as such and spoils no other.
func (r Report) String() string {
	return fmt.Sprintf("\nlab %d %d %.4f %.4f %.4f ;\n", r.Seq, r.Elapsed.Milliseconds(), r.Demanded, r.Done, r.Lost)
}

// ParseReport reads a line of a console. Lines of the kernel and torn lines
// yield an error.
func ParseReport(line string) (Report, error) {
	f := strings.Fields(line)
	if len(f) != 7 || f[0] != "lab" || f[6] != ";" {
		return Report{}, fmt.Errorf("%w report %.80q", ErrMalformed, line)
	}
	seq, err1 := strconv.ParseUint(f[1], 10, 64)
	ms, err2 := strconv.ParseInt(f[2], 10, 64)
	r := Report{Seq: seq, Elapsed: time.Duration(ms) * time.Millisecond}
	err := errors.Join(err1, err2)
	for i, to := range []*float64{&r.Demanded, &r.Done, &r.Lost} {
		v, e := strconv.ParseFloat(f[3+i], 64)
		if e == nil && !(v >= 0 && !math.IsInf(v, 0)) {
			e = fmt.Errorf("%q is no amount of work", f[3+i])
		}
		*to, err = v, errors.Join(err, e)
	}
	if err != nil || ms < 0 || ms > math.MaxInt64/int64(time.Millisecond) {
		return Report{}, fmt.Errorf("%w report %.80q", ErrMalformed, line)
	}
	return r, nil
}

// Calibration is a calibrating guest's line: its iterations so far.
func Calibration(iterations uint64) string {
	return fmt.Sprintf("\ncal %d ;\n", iterations)
}

// ParseCalibration reads such a line.
func ParseCalibration(line string) (uint64, error) {
	f := strings.Fields(line)
	if len(f) != 3 || f[0] != "cal" || f[2] != ";" {
		return 0, fmt.Errorf("%w calibration %.80q", ErrMalformed, line)
	}
	n, err := strconv.ParseUint(f[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w calibration %.80q", ErrMalformed, line)
	}
	return n, nil
}
