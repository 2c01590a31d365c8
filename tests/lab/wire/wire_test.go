package wire_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"headroom/tests/lab/wire"
)

func TestParamsTravelAmongTheKernels(t *testing.T) {
	for _, want := range []wire.Params{
		{Demand: "ramp:0.1,0.4,25s,35s+noise:0.1", Rate: 127300000},
		{Calibrate: true},
	} {
		got, err := wire.ParseParams("console=ttyS0 quiet x " + want.String() + " panic=-1")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("parameters changed on the way (-sent +read):\n%s", diff)
		}
	}
}

func TestParamsWithoutRateAreRefused(t *testing.T) {
	for _, line := range []string{"", "lab_demand=constant:1", "lab_rate=0", "lab_rate=x", "lab_rate=NaN", "lab_rate=1e300"} {
		if _, err := wire.ParseParams(line); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("ParseParams(%q) = %v, want ErrMalformed", line, err)
		}
	}
}

func TestReportSurvivesAConsole(t *testing.T) {
	want := wire.Report{Seq: 7, Elapsed: 6123 * time.Millisecond, Demanded: 1.2345, Done: 1.2, Lost: 0.03}
	// A line torn by a migration stands before it.
	console := "\nlab 6 5123 1.0" + want.String()
	var got []wire.Report
	for line := range strings.Lines(console) {
		if r, err := wire.ParseReport(line); err == nil {
			got = append(got, r)
		}
	}
	if diff := cmp.Diff([]wire.Report{want}, got); diff != "" {
		t.Errorf("reports of the console (-sent +read):\n%s", diff)
	}
}

func TestEveryTornReportIsRefused(t *testing.T) {
	line := strings.TrimSpace(wire.Report{Seq: 12, Elapsed: time.Second, Demanded: 1, Done: 0.5, Lost: 0.25}.String())
	for n := range len(line) {
		if r, err := wire.ParseReport(line[:n]); err == nil {
			t.Errorf("the torn line %q reads as %+v", line[:n], r)
		}
	}
}

func TestCalibration(t *testing.T) {
	if n, err := wire.ParseCalibration(strings.TrimSpace(wire.Calibration(1 << 40))); err != nil || n != 1<<40 {
		t.Errorf("calibration reads as %d, %v", n, err)
	}
	for _, line := range []string{"", "cal", "cal 12", "cal x ;", "cal -1 ;", "lab 1 ;"} {
		if _, err := wire.ParseCalibration(line); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("ParseCalibration(%q) = %v, want ErrMalformed", line, err)
		}
	}
}

func FuzzParseReport(f *testing.F) {
	f.Add("lab 1 1000 0.2 0.1 0 ;")
	f.Add("lab 1 99999999999999999 NaN Inf -1 ;")
	f.Fuzz(func(t *testing.T, line string) {
		r, err := wire.ParseReport(line)
		if err != nil {
			if !errors.Is(err, wire.ErrMalformed) {
				t.Fatalf("ParseReport(%q) = %v, want ErrMalformed", line, err)
			}
			return
		}
		if r.Elapsed < 0 || !(r.Demanded >= 0) || !(r.Done >= 0) || !(r.Lost >= 0) {
			t.Fatalf("ParseReport(%q) = %+v", line, r)
		}
	})
}

func FuzzParseParams(f *testing.F) {
	f.Add("quiet lab_demand=constant:0.2 lab_rate=1000")
	f.Fuzz(func(t *testing.T, line string) {
		p, err := wire.ParseParams(line)
		if err == nil && !p.Calibrate && !(p.Rate >= 1) {
			t.Fatalf("ParseParams(%q) = %+v", line, p)
		}
	})
}
