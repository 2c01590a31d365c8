package history

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// spoil overwrites the stored value of a key.
func spoil(t *testing.T, db *database, key []byte) {
	t.Helper()
	must(t, db.Update(func(txn *badger.Txn) error { return txn.Set(key, []byte("no frame at all")) }))
}

func TestDamagedValuesAreSkippedAndCounted(t *testing.T) {
	c := &clock{now: epoch}
	dir := t.TempDir()
	s := openTest(t, dir, c, nil)
	k := Key{"vm1", CPUUsed}
	for i := range 600 {
		c.Set(epoch.Add(time.Duration(i) * time.Second))
		must(t, s.Append(c.Now(), k, 1))
		must(t, s.Flush())
	}
	must(t, s.PutRecord("decision", epoch, "bad", []byte("x")))
	must(t, s.PutRecord("decision", epoch, "good", []byte("y")))
	must(t, s.PutBlob("state", []byte("z")))
	spoil(t, s.db, chunkKey(1, epoch.Unix()/chunkPoints+1, 1))
	spoil(t, s.db, recordKey("decision", epoch, "bad"))
	spoil(t, s.db, blobKey("state"))

	got, err := s.Range(k, epoch, epoch.Add(time.Hour), 0)
	must(t, err)
	if len(got) != 480 {
		t.Errorf("%d points, want the 480 of the other chunks", len(got))
	}
	records, err := s.Records("decision", time.Time{}, 0)
	must(t, err)
	if len(records) != 1 || records[0].ID != "good" {
		t.Errorf("records %v", records)
	}
	for name, get := range map[string]func() (bool, error){
		"record": func() (bool, error) { _, ok, err := s.Record("decision", "bad"); return ok, err },
		"blob":   func() (bool, error) { _, ok, err := s.Blob("state"); return ok, err },
	} {
		if ok, err := get(); ok || err != nil {
			t.Errorf("a damaged %s is there: %v, %v", name, ok, err)
		}
	}
	if n := s.Stats().Corrupt; n != 4 {
		t.Errorf("%d counted, want 4", n)
	}

	// Damage in what is read at the start costs those points, not the start.
	spoil(t, s.db, logKey(1, s.logs[0][len(s.logs[0])-1].sequence))
	spoil(t, s.db, vmKey(77))
	must(t, s.Close())
	s = openTest(t, dir, c, nil)
	if st := s.Stats(); st.Corrupt != 2 || st.Damaged || st.VMs != 1 {
		t.Errorf("%+v", st)
	}
}

func TestADatabaseThatDoesNotOpenIsMovedAside(t *testing.T) {
	c := &clock{now: epoch}
	dir := filepath.Join(t.TempDir(), "history")
	s := openTest(t, dir, c, nil)
	must(t, s.PutBlob("state", []byte("z")))
	must(t, s.Close())
	must(t, os.WriteFile(filepath.Join(dir, "MANIFEST"), []byte("not a manifest"), 0o600))
	s = openTest(t, dir, c, nil)
	if !s.Stats().Damaged {
		t.Error("the damage is not reported")
	}
	if _, ok, err := s.Blob("state"); ok || err != nil {
		t.Errorf("%v %v", ok, err)
	}
	must(t, s.PutBlob("state", []byte("new")))
	if b, err := os.ReadFile(filepath.Join(dir+".damaged", "MANIFEST")); err != nil || string(b) != "not a manifest" {
		t.Errorf("the damaged files are not kept: %q, %v", b, err)
	}
}

func TestASecondProcessIsToldWhoHoldsTheDirectory(t *testing.T) {
	dir := t.TempDir()
	c := &clock{now: epoch}
	openTest(t, dir, c, nil)
	_, err := Open(Options{Dir: dir, Logger: quiet(), MinFree: 1})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) {
		t.Errorf("store: %v", err)
	}
	jdir := t.TempDir()
	j, err := OpenJournal(jdir)
	must(t, err)
	defer j.Close()
	if _, err := OpenJournal(jdir); !errors.Is(err, ErrLocked) {
		t.Errorf("journal: %v", err)
	}
}

func TestAFullDiskStopsWritingAndRecovers(t *testing.T) {
	c := &clock{now: epoch}
	var logged bytes.Buffer
	s := openTest(t, t.TempDir(), c, func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelInfo}))
	})
	k := Key{"vm1", CPUUsed}
	must(t, s.Append(c.Now(), k, 1))
	must(t, s.Flush())
	s.db.tune.minFree = 1 << 60 // as if the disk had become full
	for i := range 5000 {
		c.Add(time.Second)
		must(t, s.Append(c.Now(), k, 1))
		if i%10 == 0 {
			if err := s.Flush(); !errors.Is(err, ErrDiskFull) || !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("flush: %v", err)
			}
		}
	}
	if err := s.Err(); !errors.Is(err, ErrDiskFull) {
		t.Errorf("Err: %v", err)
	}
	for name, err := range map[string]error{
		"record": s.PutRecord("decision", c.Now(), "1", nil), "blob": s.PutBlob("b", nil),
	} {
		if !errors.Is(err, ErrDiskFull) {
			t.Errorf("%s: %v", name, err)
		}
	}
	st := s.Stats()
	if st.Lost == 0 || st.UnsealedPoints > 3*(dropHeads+1)*chunkPoints {
		t.Errorf("memory must stay bounded: %+v", st)
	}
	s.db.tune.minFree = 1
	for range 20 { // several flushes: the work is spread
		c.Add(time.Second)
		must(t, s.Flush())
	}
	got, err := s.Range(k, c.Now().Add(-10*time.Minute), c.Now(), 0)
	must(t, err)
	if len(got) < 570 || s.Err() != nil {
		t.Errorf("%d points of the last ten minutes, %v", len(got), s.Err())
	}
	// Hundreds of failed flushes must not fill what is left of the disk with logs.
	if text := logged.String(); strings.Count(text, "cannot be written") != 1 || strings.Count(text, "written again") != 1 {
		t.Errorf("logged:\n%s", text)
	}
}

// TestARealFullDiskEndsInAnErrorAndNotInASignal fills a small file system under an
// open store and journal. Badger's maps would turn this into SIGBUS.
func TestARealFullDiskEndsInAnErrorAndNotInASignal(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=96m"); err != nil {
		t.Skipf("needs the right to mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	c := &clock{now: epoch}
	s, err := Open(Options{Dir: filepath.Join(dir, "history"), Logger: quiet(), Now: c.Now, MinFree: 32 << 20})
	must(t, err)
	j, err := OpenJournal(filepath.Join(dir, "journal"))
	must(t, err)
	noise, random := make([]byte, 100<<10), rand.NewChaCha8([32]byte{1})
	full := false
	for i := 0; i < 2000 && !full; i++ {
		random.Read(noise) // incompressible
		err := s.PutRecord("decision", epoch.Add(time.Duration(i)), fmt.Sprint(i), noise)
		full = errors.Is(err, ErrDiskFull)
		if err != nil && !full {
			t.Fatal(err)
		}
	}
	if !full {
		t.Fatal("the disk never became full")
	}
	if err := s.Close(); !errors.Is(err, ErrDiskFull) { // its last flush
		t.Errorf("close: %v", err)
	}
	// A store that has nothing to compact: a compaction that is under way while the
	// disk fills is the case that doc.go gives up.
	must(t, os.RemoveAll(filepath.Join(dir, "history")))
	s, err = Open(Options{Dir: filepath.Join(dir, "history"), Logger: quiet(), Now: c.Now, MinFree: 16 << 20})
	must(t, err)
	// Another program takes all that is left.
	hog, err := os.Create(filepath.Join(dir, "hog"))
	must(t, err)
	for err == nil {
		_, err = hog.Write(noise)
	}
	must(t, hog.Close())
	must(t, s.Append(c.Now(), Key{"vm1", CPUUsed}, 1))
	if err := s.Flush(); !errors.Is(err, ErrDiskFull) {
		t.Errorf("flush: %v", err)
	}
	if err := j.Put("attempt", []byte("x")); !errors.Is(err, ErrDiskFull) {
		t.Errorf("journal: %v", err)
	}
	// The live logs have their blocks: even writes that were under way end well.
	s.db.tune.minFree, j.db.tune.minFree = -1<<40, -1<<40
	must(t, s.Flush())
	must(t, j.Put("attempt", noise[:50<<10]))
	if err := errors.Join(s.Close(), j.Close()); !errors.Is(err, ErrDiskFull) {
		t.Errorf("close: %v", err)
	}
}

// TestRunFlushesOnEachTickAndOnceMoreAtTheEnd drives the loop by its ticks.
func TestRunFlushesOnEachTickAndOnceMoreAtTheEnd(t *testing.T) {
	c := &clock{now: epoch}
	dir := t.TempDir()
	s := openTest(t, dir, c, nil)
	k := Key{"vm1", CPUUsed}
	ctx, cancel := context.WithCancel(t.Context())
	tick, done := make(chan time.Time), make(chan struct{})
	go func() { defer close(done); s.run(ctx, tick) }()
	must(t, s.Append(c.Now(), k, 1))
	tick <- c.Now()
	tick <- c.Now() // taken when the first tick's flush is done
	read := func(dir string) int {
		t.Helper()
		r := openTest(t, dir, c, nil)
		got, err := r.Range(k, epoch, epoch.Add(time.Hour), 0)
		must(t, err)
		return len(got)
	}
	if n := read(crash(t, dir)); n != 1 {
		t.Errorf("%d points after the first tick, want 1", n)
	}
	c.Add(time.Second)
	must(t, s.Append(c.Now(), k, 1))
	cancel()
	<-done
	if n := read(crash(t, dir)); n != 2 {
		t.Errorf("%d points after the end, want 2", n)
	}
}

// The child of the test below: writes samples and journal records, and says after
// each flush how far it came, until it is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("HISTORY_TEST_CHILD"); dir != "" {
		if err := child(dir); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func child(dir string) error {
	c := &clock{now: epoch}
	s, err := Open(Options{Dir: filepath.Join(dir, "history"), Logger: quiet(), Now: c.Now, MinFree: 1})
	if err != nil {
		return err
	}
	j, err := OpenJournal(filepath.Join(dir, "journal"))
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		c.Set(epoch.Add(time.Duration(i) * time.Second))
		if err := s.Append(c.Now(), Key{"vm1", NetRx}, float64(i)); err != nil {
			return err
		}
		if err := errors.Join(s.Flush(), j.Put(fmt.Sprintf("%06d", i), []byte("x"))); err != nil {
			return err
		}
		fmt.Println(i)
	}
}

func TestKillLosesNothingThatWasFlushed(t *testing.T) {
	for _, enough := range []int{3, 130, 700} {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), "HISTORY_TEST_CHILD="+dir)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		flushed := -1
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if _, err := fmt.Sscan(lines.Text(), &flushed); err != nil {
				t.Fatalf("child: %s", lines.Text())
			}
			if flushed == enough {
				must(t, cmd.Process.Kill())
			}
		}
		_ = cmd.Wait() // "signal: killed" is what was asked for

		c := &clock{now: epoch.Add(time.Duration(flushed) * time.Second)}
		s := openTest(t, filepath.Join(dir, "history"), c, nil)
		got, err := s.Range(Key{"vm1", NetRx}, epoch, epoch.Add(time.Hour), 0)
		must(t, err)
		if len(got) <= flushed || s.Stats().Damaged {
			t.Fatalf("%d points after %d flushes; %+v", len(got), flushed+1, s.Stats())
		}
		for i, p := range got {
			if p.Mean != float64(i) {
				t.Fatalf("second %d is %v", i, p.Mean)
			}
		}
		j, err := OpenJournal(filepath.Join(dir, "journal"))
		must(t, err)
		n := 0
		must(t, j.Each(func(key string, value []byte) error { n++; return nil }))
		must(t, j.Close())
		if n <= flushed {
			t.Fatalf("%d journal records after %d were put", n, flushed+1)
		}
	}
}
