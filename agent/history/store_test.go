package history

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
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

func (c *clock) Add(d time.Duration) { c.Set(c.Now().Add(d)) }

// epoch begins a bucket and a chunk in every default tier but the coarsest, in which
// it begins a bucket.
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
	t.Cleanup(func() { s.Close() })
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// crash copies the files of an open database, which is what a process leaves that
// is killed: what it wrote is in the kernel's hands. A kill takes all files at one
// moment and a copy does not, so it is repeated when Badger's own work came between.
func crash(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "crashed")
	for range 100 {
		before := listing(dir)
		err := os.CopyFS(to, os.DirFS(dir))
		if err == nil && before == listing(dir) {
			must(t, os.Remove(filepath.Join(to, "LOCK")))
			return to
		}
		must(t, os.RemoveAll(to))
	}
	t.Fatal("the database never rests")
	return ""
}

// listing names the files of a database that tell whether Badger moved data.
func listing(dir string) string {
	out := ""
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		out += e.Name() + " "
	}
	if fi, err := os.Stat(filepath.Join(dir, "MANIFEST")); err == nil {
		out += fmt.Sprint(fi.Size())
	}
	return out
}

func approx() cmp.Option { return cmpopts.EquateApprox(1e-9, 1e-9) }

func TestSamplesAreReadInEachResolution(t *testing.T) {
	c := &clock{now: epoch}
	s := openTest(t, t.TempDir(), c, nil)
	k := Key{"vm1", CPUUsed}
	for i := range 1000 {
		at := epoch.Add(time.Duration(i) * time.Second)
		c.Set(at)
		must(t, s.Append(at, k, float64(i%100)/10))
		must(t, s.Flush())
	}
	to := epoch.Add(time.Hour)
	fine, err := s.Range(k, epoch, to, 0)
	must(t, err)
	if len(fine) != 1000 || fine[7].Mean != 0.7 || fine[7].N != 1 || !fine[7].At.Equal(epoch.Add(7*time.Second)) {
		t.Fatalf("%d points, the eighth is %+v", len(fine), fine[7])
	}
	ten, err := s.Range(k, epoch, to, 10*time.Second)
	must(t, err)
	want := Point{At: epoch.Add(20 * time.Second), Min: 2, Mean: 2.45, Max: 2.9, P95: 2.9, N: 10}
	if diff := cmp.Diff(want, ten[2], approx()); diff != "" || len(ten) != 100 {
		t.Errorf("%d points of 10 s: %s", len(ten), diff)
	}
	// 300 samples: each of 0.0..9.9 three times; the nearest rank of 95 % is 9.4.
	five, err := s.Range(k, epoch, to, 5*time.Minute)
	must(t, err)
	want = Point{At: epoch, Min: 0, Mean: 4.95, Max: 9.9, P95: 9.4, N: 300}
	if diff := cmp.Diff(want, five[0], approx()); diff != "" || len(five) != 4 {
		t.Errorf("%d points of 5 min: %s", len(five), diff)
	}
	// A step between two tiers is made from the finer one.
	half, err := s.Range(k, epoch, to, 25*time.Second)
	must(t, err)
	if len(half) != 34 || half[0].N != 30 {
		t.Errorf("25 s is rounded up to 30 s: %d points, the first of %d samples", len(half), half[0].N)
	}
}

func TestASubsecondWindowKeepsExtremesAndPercentile(t *testing.T) {
	c := &clock{now: epoch}
	s := openTest(t, t.TempDir(), c, nil)
	k := Key{"vm1", CPUWait}
	for i := range 20 {
		must(t, s.Append(epoch.Add(time.Duration(i)*50*time.Millisecond), k, float64(i)))
	}
	got, err := s.Range(k, epoch, epoch.Add(time.Second), 0)
	must(t, err)
	want := []Point{{At: epoch, Min: 0, Mean: 9.5, Max: 19, P95: 18, N: 20}}
	if diff := cmp.Diff(want, got, approx()); diff != "" {
		t.Error(diff)
	}
}

func TestRangePicksTheTierThatStillHoldsTheStart(t *testing.T) {
	c := &clock{now: epoch}
	s := openTest(t, t.TempDir(), c, nil)
	now := epoch
	for _, tt := range []struct {
		back, step time.Duration
		want       int
	}{
		{30 * time.Minute, 0, 0},
		{30 * time.Minute, 5 * time.Second, 0},
		{30 * time.Minute, 10 * time.Second, 1},
		{30 * time.Minute, time.Hour, 2},
		{time.Hour, 0, 0},
		{time.Hour + time.Second, 0, 1},
		{25 * time.Hour, time.Second, 2},
		{1000 * time.Hour * 24, time.Second, 2},
	} {
		if got := s.pickTier(now, now.Add(-tt.back), tt.step); got != tt.want {
			t.Errorf("%v back, step %v: tier %d, want %d", tt.back, tt.step, got, tt.want)
		}
	}
}

func TestLateSamplesAndAClockSetBackAreMerged(t *testing.T) {
	c := &clock{now: epoch}
	s := openTest(t, t.TempDir(), c, nil)
	k := Key{"vm1", NetRx}
	put := func(second int, v float64) {
		t.Helper()
		c.Set(epoch.Add(time.Duration(second) * time.Second))
		must(t, s.Append(c.Now(), k, v))
		must(t, s.Flush())
	}
	for i := range 400 {
		put(i, 1)
	}
	for i := 50; i < 60; i++ { // the clock is set back into a chunk that is sealed
		put(i, 2)
	}
	for i := 60; i < 800; i++ {
		put(i, 3)
	}
	got, err := s.Range(k, epoch, epoch.Add(time.Hour), 0)
	must(t, err)
	if len(got) != 800 {
		t.Fatalf("%d points, want 800", len(got))
	}
	for i, p := range got {
		want := 3.0
		if i < 50 {
			want = 1
		} else if i < 60 {
			want = 2
		}
		if p.Mean != want {
			t.Fatalf("second %d is %v, want %v", i, p.Mean, want)
		}
	}
}

func TestAppendRefusesWhatIsNoSample(t *testing.T) {
	c := &clock{now: epoch}
	s := openTest(t, t.TempDir(), c, func(o *Options) { o.MaxVMs = 1 })
	for name, err := range map[string]error{
		"NaN":            s.Append(epoch, Key{"a", CPUUsed}, math.NaN()),
		"infinity":       s.Append(epoch, Key{"a", CPUUsed}, math.Inf(1)),
		"too large":      s.Append(epoch, Key{"a", NetRx}, 1e300),
		"unknown signal": s.Append(epoch, Key{"a", 200}, 1),
		"before 1970":    s.Append(time.Unix(-1, 0), Key{"a", CPUUsed}, 1),
	} {
		if !errors.Is(err, ErrBadSample) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Append(epoch, Key{"", CPUUsed}, 1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("empty VM: %v", err)
	}
	must(t, s.Append(epoch, Key{"a", CPUUsed}, 1))
	if err := s.Append(epoch, Key{"b", CPUUsed}, 1); !errors.Is(err, ErrTooMany) {
		t.Errorf("a second VM: %v", err)
	}
	if st := s.Stats(); st.Appended != 1 || st.Refused != 1 {
		t.Errorf("%+v", st)
	}
}

func TestForgetLeavesNothingAndReusesNoNumber(t *testing.T) {
	c := &clock{now: epoch}
	dir := t.TempDir()
	s := openTest(t, dir, c, nil)
	for i := range 300 {
		c.Set(epoch.Add(time.Duration(i) * time.Second))
		must(t, s.Append(c.Now(), Key{"stays", CPUUsed}, 2))
		must(t, s.Append(c.Now(), Key{"gone", CPUUsed}, 1))
		must(t, s.Flush())
	}
	must(t, s.Forget("gone"))
	must(t, s.Forget("never seen"))
	must(t, s.Close())
	// The log still names the forgotten VM's number, which was the highest; a VM that
	// is new after a restart must not inherit what stands there.
	s = openTest(t, dir, c, nil)
	must(t, s.Append(c.Now(), Key{"new", CPUUsed}, 3))
	must(t, s.Close())
	s = openTest(t, dir, c, nil)
	for vm, want := range map[string]int{"gone": 0, "stays": 300, "new": 1} {
		got, err := s.Range(Key{vm, CPUUsed}, epoch, epoch.Add(time.Hour), 0)
		must(t, err)
		if len(got) != want {
			t.Errorf("%s has %d points, want %d", vm, len(got), want)
		}
	}
	keys, err := s.Keys()
	must(t, err)
	if len(keys) != 2 {
		t.Errorf("keys %v", keys)
	}
}

// A late sample that comes while its chunk is being written must not vanish with the
// chunk's place in memory.
func TestASampleThatComesDuringSealingIsKept(t *testing.T) {
	c := &clock{now: epoch}
	s := openTest(t, t.TempDir(), c, nil)
	k := Key{"vm1", NetRx}
	must(t, s.Append(epoch, k, 1))
	must(t, s.Flush())
	c.Add(10 * time.Minute)
	_, _, err := s.collect() // ends the idle buckets
	must(t, err)
	work := s.sealable()
	if len(work) == 0 {
		t.Fatal("nothing is to be sealed")
	}
	for second := range 2 {
		must(t, s.Append(epoch.Add(time.Duration(5+second)*time.Second), k, 2))
	}
	must(t, s.writeChunks(work))
	got, err := s.Range(k, epoch, epoch.Add(time.Minute), 0)
	must(t, err)
	if len(got) != 3 {
		t.Errorf("%d points, want 3: %v", len(got), got)
	}
}

func TestTiersThatCannotWorkAreRefused(t *testing.T) {
	for name, tiers := range map[string][]Tier{
		"none":               {},
		"five":               make([]Tier, 5),
		"less than a second": {{100 * time.Millisecond, time.Hour}},
		"no multiple":        {{2 * time.Second, time.Hour}, {3 * time.Second, time.Hour}},
		"too far apart":      {{time.Second, 2 * time.Hour}, {2 * time.Hour, 4 * time.Hour}},
		"kept for nothing":   {{time.Minute, time.Second}},
	} {
		if s, err := Open(Options{Dir: t.TempDir(), Tiers: tiers}); err == nil {
			s.Close()
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestConcurrentUseIsSafe(t *testing.T) {
	c := &clock{now: epoch}
	s := openTest(t, t.TempDir(), c, nil)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			k := Key{fmt.Sprint("vm", g%2), CPUUsed}
			for i := range 200 {
				c.Add(time.Second)
				if err := s.Append(c.Now(), k, float64(i)); err != nil {
					t.Error(err)
				}
				switch g {
				case 0:
					if err := s.Flush(); err != nil {
						t.Error(err)
					}
				case 1:
					if _, err := s.Range(k, epoch, c.Now(), 0); err != nil {
						t.Error(err)
					}
				case 2:
					s.Stats()
					if err := s.PutRecord("decision", c.Now(), fmt.Sprint(i), []byte("{}")); err != nil {
						t.Error(err)
					}
				case 3:
					if i%50 == 0 {
						if err := errors.Join(s.Sweep(), s.Forget("vm0")); err != nil {
							t.Error(err)
						}
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestAClosedStoreSaysSo(t *testing.T) {
	c := &clock{now: epoch}
	s := openTest(t, t.TempDir(), c, nil)
	must(t, s.Close())
	_, rangeErr := s.Range(Key{"a", CPUUsed}, epoch, epoch.Add(time.Hour), 0)
	_, keysErr := s.Keys()
	for name, err := range map[string]error{
		"append": s.Append(epoch, Key{"a", CPUUsed}, 1), "flush": s.Flush(), "close": s.Close(), "forget": s.Forget("a"),
		"record": s.PutRecord("k", epoch, "id", nil), "blob": s.PutBlob("b", nil), "range": rangeErr, "keys": keysErr,
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
