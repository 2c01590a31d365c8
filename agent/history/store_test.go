package history

import (
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"
)

// clock is a clock that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

// epoch is divisible by every default step and chunk length.
var epoch = time.Unix(1_764_000_000, 0).UTC()

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func openTest(t testing.TB, dir string, c *clock, change func(*Options)) *Store {
	t.Helper()
	o := Options{Dir: dir, Logger: quiet(), Now: c.Now, MinFree: 1 << 20}
	if change != nil {
		change(&o)
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAppendIsReadBackBeforeAndAfterReopening(t *testing.T) {
	dir, c := t.TempDir(), &clock{now: epoch}
	s := openTest(t, dir, c, nil)
	k := Key{"vm1", CPUUsed}
	for i := range 1000 {
		at := epoch.Add(time.Duration(i) * time.Second)
		c.Set(at)
		if err := s.Append(at, k, float64(i)/10); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string) {
		t.Helper()
		for _, step := range []time.Duration{0, 10 * time.Second, 5 * time.Minute} {
			got, err := s.Range(k, epoch, epoch.Add(time.Hour), step)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, p := range got {
				n += p.N
			}
			t.Log(what, step, len(got), n, got[len(got)-1])
			if n < 999 {
				t.Errorf("%s, step %v: %d samples, want 1000", what, step, n)
			}
		}
	}
	check("open")
	t.Logf("%+v", s.Stats())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, dir, c, nil)
	defer s.Close()
	check("reopened")
}
