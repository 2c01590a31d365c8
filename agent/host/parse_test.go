package host

import (
	"math"
	"testing"
	"time"
)

func TestParseCPUList(t *testing.T) {
	for text, want := range map[string]int{
		"0\n": 1, "0-3": 4, "0-3,8": 5, "0,2,4-5": 4, "": 0, "\n": 0,
		"3-1": -1, "0-": -1, "-1": -1, "0,0": -1, "4,2": -1, "0-99999999": -1, "a": -1, "0,,1": -1,
	} {
		n, err := parseCPUList([]byte(text))
		if err != nil {
			n = -1
		}
		if n != want {
			t.Errorf("%q: %d, want %d (%v)", text, n, want, err)
		}
	}
}

func TestParseQuotas(t *testing.T) {
	const none, wrong = 0, -1
	for text, want := range map[string]float64{
		"max 100000\n": none, "150000 100000": 1.5, "0 100000": wrong, "100 0": wrong, "100": wrong, "": wrong, "a b": wrong, "1 2 3": wrong,
	} {
		got, ok, err := parseCPUMax([]byte(text))
		if err != nil {
			got = wrong
		}
		if got != want || ok != (want > 0) {
			t.Errorf("%q: %v %v, want %v (%v)", text, got, ok, want, err)
		}
	}
	if _, ok, err := quota("-1\n", "100000\n"); ok || err != nil {
		t.Error("v1 says -1 when there is no quota")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"0-3,8", "150000 100000", "9223372036854771712", "MemTotal: 1 kB\nMemAvailable: 1 kB\n",
		"some avg10=0.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=1", "0.20 0.18 0.12 1/80 11206",
		"1 (a b) S 1 1 1 0 -1 1 1 1 1 1 1 1 1 1 20 0 1 0 1 1 1", "10000",
	} {
		f.Add([]byte(s))
	}
	sane := func(t *testing.T, name string, values ...float64) {
		for _, v := range values {
			if !(v >= 0) || math.IsInf(v, 0) {
				t.Fatalf("%s gives %v", name, v)
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := parseCPUList(b); err == nil {
			sane(t, "cpu list", float64(n))
		}
		if v, ok, err := parseCPUMax(b); err == nil && ok && !(v > 0) {
			t.Fatalf("quota %v", v)
		}
		if v, _, err := parseLimit(b); err == nil {
			sane(t, "limit", v)
		}
		if m, err := parseMeminfo(b); err == nil {
			sane(t, "meminfo", m.TotalMiB-1e-9, m.AvailableMiB, m.SwapUsedMiB)
		}
		if p, err := parsePressure(b); err == nil {
			sane(t, "pressure", p.Some10, p.Some60, p.Some300, p.Full10, float64(p.SomeTotal), float64(p.FullTotal))
		}
		if l, err := parseLoadavg(b); err == nil {
			sane(t, "load", l.One, l.Five, l.Fifteen, float64(l.Runnable))
		}
		if o, err := parseOwn(b, 4096, 10*time.Millisecond); err == nil {
			sane(t, "own", float64(o.CPU), o.RSSMiB, float64(o.Threads))
		}
		if n, err := parseSpeed(b); err == nil && n <= 0 {
			t.Fatalf("speed %d", n)
		}
	})
}
