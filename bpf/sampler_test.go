package bpf

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// fakeReader is a tier whose passes a test writes.
type fakeReader struct {
	walks []*walk
	read  func(w *walk)
	err   error
	lacks []Absence
	shut  int
	now   time.Duration
}

func (f *fakeReader) assign(walks []*walk) error { f.walks = walks; return nil }
func (f *fakeReader) absent() []Absence          { return f.lacks }
func (f *fakeReader) close() error               { f.shut++; return nil }

func (f *fakeReader) pass(walks []*walk) (time.Duration, error) {
	f.now += time.Second
	for _, w := range walks {
		if w.gone == "" {
			f.read(w)
		}
	}
	return f.now, f.err
}

// reads makes one thread of the name use cpu ns more in each pass.
func reads(name string, cpu uint64) func(*walk) {
	used := map[*walk]uint64{}
	return func(w *walk) {
		used[w] += cpu
		w.trouble = ""
		w.account.begin()
		w.account.observe(&threadReading{tid: 1, born: 1, cpu: used[w], name: makeComm(name)})
		w.account.end(&processReading{live: 1})
	}
}

func fakeSampler(f *fakeReader) *Sampler {
	s := newSampler(Options{MaxTargets: 3, ProcRoot: "/proc"})
	s.use(TierProcfs, f)
	return s
}

func TestSetTargetsKeepsWhoStays(t *testing.T) {
	f := &fakeReader{read: reads("CPU 0/KVM", 10)}
	s := fakeSampler(f)
	self, parent := os.Getpid(), os.Getppid()
	set := func(targets ...Target) {
		t.Helper()
		if err := s.SetTargets(targets); err != nil {
			t.Fatal(err)
		}
	}
	pass := func() []Sample {
		t.Helper()
		list, err := s.Sample(nil)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	set(Target{ID: "a", PID: self}, Target{ID: "b", PID: parent})
	pass()
	pass()
	set(Target{ID: "b", PID: self}, Target{ID: "a", PID: self})
	got := pass()
	if got[1].ID != "a" || got[1].VCPU != 20 || got[1].Since != time.Second {
		t.Errorf("the one that stays is %+v", got[1])
	}
	if got[0].ID != "b" || got[0].VCPU != 0 || got[0].Since != 3*time.Second {
		t.Errorf("the one with a new PID is %+v", got[0])
	}
	set()
	if got := pass(); len(got) != 0 {
		t.Errorf("samples of nothing: %+v", got)
	}
}

func TestNeverZeroAsData(t *testing.T) {
	f := &fakeReader{read: func(w *walk) {
		w.trouble = "fake trouble"
	}}
	s := fakeSampler(f)
	err := s.SetTargets([]Target{{ID: "no process"}, {ID: "no such", PID: 1 << 30}, {ID: "unreadable", PID: os.Getpid()}})
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.Sample(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"no process", "", "fake trouble"} {
		if list[i].Valid || list[i].Reason == "" || !strings.Contains(list[i].Reason, want) || list[i].Has(SignalWait) {
			t.Errorf("%s: %+v", list[i].ID, list[i])
		}
	}
	f.err = errors.New("fake failure")
	if list, err := s.Sample(list); !errors.Is(err, f.err) || len(list) != 0 {
		t.Errorf("a failed pass gives %v, %v", list, err)
	}
}

func TestSetTargetsRefusals(t *testing.T) {
	f := &fakeReader{read: reads("qemu", 1)}
	s := fakeSampler(f)
	if err := s.SetTargets([]Target{{ID: "a"}, {ID: "a"}}); !errors.Is(err, ErrDuplicateTarget) {
		t.Errorf("two of one ID: %v", err)
	}
	var many []Target
	for i := range 4 {
		many = append(many, Target{ID: fmt.Sprint(i)})
	}
	if err := s.SetTargets(many); !errors.Is(err, ErrTooManyTargets) {
		t.Errorf("four where three are allowed: %v", err)
	}
	for range 2 {
		if err := s.Close(); err != nil || f.shut != 1 {
			t.Errorf("close: %v, tier closed %d times", err, f.shut)
		}
	}
	if err := s.SetTargets(nil); !errors.Is(err, ErrClosed) {
		t.Errorf("targets after close: %v", err)
	}
	if _, err := s.Sample(nil); !errors.Is(err, ErrClosed) {
		t.Errorf("sample after close: %v", err)
	}
}

func TestAbsentTellsWhatTheVMLacks(t *testing.T) {
	f := &fakeReader{lacks: []Absence{{SignalSwitches, "tier"}}}
	named := reads("CPU 0/KVM", 1)
	unnamed := reads("qemu-system-x86", 1)
	f.read = func(w *walk) {
		if w.pid == os.Getpid() {
			named(w)
		} else {
			unnamed(w)
			w.ioDenied = true
		}
	}
	s := fakeSampler(f)
	if err := s.SetTargets([]Target{{ID: "vm", PID: os.Getpid()}, {ID: "other", PID: os.Getppid()}}); err != nil {
		t.Fatal(err)
	}
	list, err := s.Sample(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, lacks := range [][]Signal{{SignalSwitches}, {SignalSwitches, SignalRoles, SignalIO}} {
		if len(list[i].Absent) != len(lacks) {
			t.Errorf("%s lacks %v, want %v", list[i].ID, list[i].Absent, lacks)
		}
		for _, signal := range lacks {
			if list[i].Has(signal) {
				t.Errorf("%s is said to have %s", list[i].ID, signal)
			}
		}
		if !list[i].Has(SignalWait) {
			t.Errorf("%s is said to lack wait", list[i].ID)
		}
	}
}

func TestOpenTellsEveryRefusal(t *testing.T) {
	_, err := Open(Options{Tiers: []Tier{"magic", TierProcfs}, ProcRoot: t.TempDir()})
	if err == nil || !errors.Is(err, ErrNotSupported) || !strings.Contains(err.Error(), "magic") {
		t.Errorf("no tier works, yet: %v", err)
	}
	s, err := Open(Options{Tiers: []Tier{"magic", TierProcfs}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if r := s.Refused(); s.Tier() != TierProcfs || len(r) != 1 || r[0].Tier != "magic" || r[0].Err == nil {
		t.Errorf("tier %s, refused %+v", s.Tier(), r)
	}
}

func TestBindGuardsAgainstReuse(t *testing.T) {
	w := openWalk(os.Getpid())
	defer w.close()
	for range 2 {
		if !w.bind(42) {
			t.Fatal("refuses the process itself")
		}
	}
	if w.bind(43) || w.ok() || !strings.Contains(w.reason(), "belongs to another") {
		t.Errorf("takes another process for it: %q", w.reason())
	}
}
