package history

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func ids(t *testing.T, s *Store, kind string, since time.Time, limit int) string {
	t.Helper()
	records, err := s.Records(kind, since, limit)
	must(t, err)
	var out []string
	for _, r := range records {
		out = append(out, r.ID)
	}
	return strings.Join(out, " ")
}

func TestRecordsComeNewestFirst(t *testing.T) {
	s := openTest(t, t.TempDir(), &clock{now: epoch}, nil)
	for i := range 10 {
		must(t, s.PutRecord("decision", epoch.Add(time.Duration(i)*time.Minute), fmt.Sprint("d", i), []byte{byte(i)}))
		must(t, s.PutRecord("decisions", epoch.Add(time.Duration(i)*time.Hour), fmt.Sprint("x", i), nil))
	}
	for _, tt := range []struct {
		since time.Time
		limit int
		want  string
	}{
		{epoch.Add(7 * time.Minute), 0, "d9 d8 d7"},
		{time.Time{}, 2, "d9 d8"},
		{epoch.Add(time.Hour), 0, ""},
	} {
		if got := ids(t, s, "decision", tt.since, tt.limit); got != tt.want {
			t.Errorf("since %v limit %d: %q, want %q", tt.since, tt.limit, got, tt.want)
		}
	}
	if got := ids(t, s, "nothing", time.Time{}, 0); got != "" {
		t.Errorf("a kind without records has %q", got)
	}
}

func TestARecordIsReplacedByItsIDAlsoAtAnotherTime(t *testing.T) {
	s := openTest(t, t.TempDir(), &clock{now: epoch}, nil)
	must(t, s.PutRecord("decision", epoch, "d", []byte("first")))
	must(t, s.PutRecord("decision", epoch.Add(time.Hour), "d", []byte("with verdict")))
	must(t, s.PutRecord("decision", epoch, "other", []byte("stays")))
	if got := ids(t, s, "decision", time.Time{}, 0); got != "d other" {
		t.Errorf("records %q", got)
	}
	got, ok, err := s.Record("decision", "d")
	must(t, err)
	want := Record{"decision", epoch.Add(time.Hour), "d", []byte("with verdict")}
	if diff := cmp.Diff(want, got); diff != "" || !ok {
		t.Error(ok, diff)
	}
	if _, ok, err := s.Record("decision", "absent"); ok || err != nil {
		t.Error(ok, err)
	}
}

func TestRecordsAreBoundedInAgeAndNumber(t *testing.T) {
	c := &clock{now: epoch.Add(48 * time.Hour)}
	s := openTest(t, t.TempDir(), c, func(o *Options) { o.KeepRecords, o.MaxRecords = 24*time.Hour, 3 })
	must(t, s.PutRecord("decision", epoch, "old", nil))
	must(t, s.PutRecord("verdict", epoch, "old", nil))
	for i := range 5 {
		must(t, s.PutRecord("decision", c.Now().Add(time.Duration(i)*time.Second), fmt.Sprint("d", i), nil))
	}
	must(t, s.Sweep())
	if got := ids(t, s, "decision", time.Time{}, 0); got != "d4 d3 d2" {
		t.Errorf("decisions %q", got)
	}
	if got := ids(t, s, "verdict", time.Time{}, 0); got != "" {
		t.Errorf("verdicts %q", got)
	}
	left := 0
	must(t, s.scanKeys([]byte{prefixIndex}, func([]byte) { left++ }))
	if left != 3 {
		t.Errorf("%d index entries, want 3", left)
	}
}

func TestBlobsSurviveReopeningAndAreBounded(t *testing.T) {
	dir, c := t.TempDir(), &clock{now: epoch}
	s := openTest(t, dir, c, nil)
	big := bytes.Repeat([]byte("weights "), 100_000)
	must(t, s.PutBlob("vm1/cpu", big))
	must(t, s.PutBlob("vm1/mem", []byte("m")))
	must(t, s.PutBlob("vm2/cpu", []byte("c")))
	if err := s.PutBlob("huge", make([]byte, maxBlob+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("huge: %v", err)
	}
	must(t, s.DeleteBlobs("vm2/"))
	if err := s.DeleteBlobs(""); err == nil {
		t.Error("everything can be deleted by mistake")
	}
	must(t, s.Close())
	s = openTest(t, dir, c, nil)
	for name, want := range map[string][]byte{"vm1/cpu": big, "vm1/mem": []byte("m"), "vm2/cpu": nil, "": nil} {
		got, ok, err := s.Blob(name)
		must(t, err)
		if ok != (want != nil) || !bytes.Equal(got, want) {
			t.Errorf("%q: %v, %d bytes", name, ok, len(got))
		}
	}
}

func TestJournalKeepsRecordsInOrderAndReportsDamage(t *testing.T) {
	dir := t.TempDir()
	j, err := OpenJournal(dir)
	must(t, err)
	for _, k := range []string{"src/b", "src/a", "dst/a", "gone"} {
		must(t, j.Put(k, []byte("of "+k)))
	}
	must(t, j.Delete("gone"))
	must(t, j.Delete("never there"))
	must(t, j.Put("src/a", []byte("newer")))
	must(t, j.Close())
	j, err = OpenJournal(dir)
	must(t, err)
	defer j.Close()
	var got []string
	each := func() error {
		got = nil
		return j.Each(func(k string, v []byte) error { got = append(got, k+"="+string(v)); return nil })
	}
	must(t, each())
	if diff := cmp.Diff([]string{"dst/a=of dst/a", "src/a=newer", "src/b=of src/b"}, got); diff != "" {
		t.Error(diff)
	}
	if _, ok, err := j.Get("gone"); ok || err != nil {
		t.Error(ok, err)
	}

	spoil(t, j.db, []byte("src/a"))
	if _, _, err := j.Get("src/a"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a damaged record must not look absent: %v", err)
	}
	if err := each(); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), `"src/a"`) || len(got) != 2 {
		t.Errorf("%v %v", got, err)
	}
	stop := errors.New("stop")
	if err := j.Each(func(string, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the callback's error: %v", err)
	}
	for name, err := range map[string]error{
		"empty key": j.Put("", nil), "long key": j.Put(strings.Repeat("k", maxName+1), nil),
		"large value": j.Put("k", make([]byte, maxJournalValue+1)),
	} {
		if !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A journal that rotates its log must go on reserving blocks and stay readable.
func TestJournalSurvivesManyRewrites(t *testing.T) {
	dir := t.TempDir()
	j, err := OpenJournal(dir)
	must(t, err)
	value, random := make([]byte, 60<<10), rand.NewChaCha8([32]byte{1})
	for range 100 {
		random.Read(value)
		must(t, j.Put("one", value))
	}
	if size := j.db.allocated(); size > 64<<20 {
		t.Errorf("one record takes %d bytes of disk", size)
	}
	must(t, j.Close())
	j, err = OpenJournal(dir)
	must(t, err)
	defer j.Close()
	if got, ok, err := j.Get("one"); !ok || err != nil || !bytes.Equal(got, value) {
		t.Errorf("%v %v, %d bytes", ok, err, len(got))
	}
}

func TestSignalsHaveNamesUnitsAndResolutions(t *testing.T) {
	if len(Signals()) != numSignals-1 {
		t.Fatalf("%d signals", len(Signals()))
	}
	for _, s := range Signals() {
		back, err := ParseSignal(s.String())
		if err != nil || back != s || s.Unit() == "" || !(s.Resolution() > 0) {
			t.Errorf("%d: %q %q %v %v", s, s.String(), s.Unit(), s.Resolution(), err)
		}
	}
	if _, err := ParseSignal("nonsense"); err == nil {
		t.Error("nonsense is a signal")
	}
	// Numbers are part of the file format.
	if CPUUsed != 1 || DiskRead != 5 || NetTx != 8 || PressureIO != 14 {
		t.Error("a signal's number changed: stored series would be read as another signal")
	}
}
