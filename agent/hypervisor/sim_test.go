package hypervisor_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"headroom/agent/hypervisor"
)

// driverMethods is what the agent uses of either driver.
type driverMethods interface {
	Domains(ctx context.Context) ([]hypervisor.Domain, error)
	Lookup(ctx context.Context, id string) (hypervisor.Domain, bool, error)
	Memory(ctx context.Context) (map[string]hypervisor.MemoryStats, error)
	HostInfo(ctx context.Context) (hypervisor.HostInfo, error)
	Migrate(ctx context.Context, r hypervisor.MigrateRequest) (hypervisor.MigrateResult, error)
	Progress(ctx context.Context, id string) (hypervisor.JobProgress, error)
	DirtyRate(ctx context.Context, id string) (float64, error)
	AbortJob(ctx context.Context, id string) error
	SetMetadata(ctx context.Context, id string, m hypervisor.Metadata) error
	SetAutostart(ctx context.Context, id string, on bool) error
	Resume(ctx context.Context, id string) error
	Destroy(ctx context.Context, id string) error
	Events() <-chan hypervisor.Event
	Connected() (bool, error)
	Close() error
}

var (
	_ driverMethods = (*hypervisor.Libvirt)(nil)
	_ driverMethods = (*hypervisor.Sim)(nil)
)

func vmOf(name string, vcpus int, memoryMiB float64) hypervisor.Domain {
	return hypervisor.Domain{ID: "id-" + name, Name: name, VCPUs: vcpus, MemoryMiB: memoryMiB, MaxMemoryMiB: memoryMiB}
}

func constant(cores float64) func(time.Duration) float64 {
	return func(time.Duration) float64 { return cores }
}

// simPair is a world of two hosts of one core, with VM «a» of 100 MiB on h0 that
// wants 0.3 cores; a host's network carries 100 MiB/s.
func simPair(t *testing.T) (*hypervisor.World, []*hypervisor.Sim) {
	t.Helper()
	w := hypervisor.NewWorld()
	w.BytesPerSecond = 100 << 20
	hosts := []*hypervisor.Sim{w.AddHost("h0", 1, 1024), w.AddHost("h1", 1, 1024)}
	if err := w.AddVM("h0", vmOf("a", 1, 100), constant(0.3)); err != nil {
		t.Fatal(err)
	}
	return w, hosts
}

func move(paused bool) hypervisor.MigrateRequest {
	return hypervisor.MigrateRequest{ID: "id-a", DestURI: "sim://h1", Live: true, Paused: paused}
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-6 }

func counters(t *testing.T, s *hypervisor.Sim, id string) (used, waited float64) {
	t.Helper()
	u, w, ok := s.Counters(id)
	if !ok {
		t.Fatalf("%s is not on the host", id)
	}
	return u.Seconds(), w.Seconds()
}

func TestContentionShowsAsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, hosts := simPair(t)
		for _, name := range []string{"b", "c"} {
			if err := w.AddVM("h0", vmOf(name, 1, 100), constant(2)); err != nil { // bounded by its one vCPU
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		for name, want := range map[string][2]float64{"a": {3, 0}, "b": {3.5, 6.5}, "c": {3.5, 6.5}} {
			used, waited := counters(t, hosts[0], "id-"+name)
			if !near(used, want[0]) || !near(waited, want[1]) {
				t.Errorf("%s used %.3f and waited %.3f s, want %v", name, used, waited, want)
			}
		}
		if demanded, done, lost, ok := w.Work("id-b"); !ok || !near(demanded, 10) || !near(done, 3.5) || !near(lost, 6.5) {
			t.Errorf("b's work: %.3f asked, %.3f done, %.3f lost", demanded, done, lost)
		}
	})
}

// TestCPUIsConserved: no host serves more than it has, none idles while a VM
// waits, and what is wanted is either used or waited for.
func TestCPUIsConserved(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		want := rapid.SliceOfN(rapid.Float64Range(0, 3), 1, 8).Draw(rt, "demand")
		capacity := rapid.Float64Range(0.1, 4).Draw(rt, "capacity")
		now := time.Unix(0, 0)
		w := hypervisor.NewWorld()
		w.Clock = func() time.Time { return now }
		s := w.AddHost("h", capacity, 1024)
		for i, d := range want {
			if err := w.AddVM("h", vmOf(fmt.Sprint(i), 2, 10), constant(d)); err != nil {
				rt.Fatal(err)
			}
		}
		now = now.Add(time.Second)
		var used, waited, wanted float64
		for i, d := range want {
			u, x, _ := s.Counters("id-" + fmt.Sprint(i))
			used, waited, wanted = used+u.Seconds(), waited+x.Seconds(), wanted+min(d, 2)
			if got := u.Seconds() + x.Seconds(); !near(got, min(d, 2)) {
				rt.Fatalf("VM %d wanted %.4f, used and waited %.4f", i, min(d, 2), got)
			}
		}
		if used > capacity+1e-6 || (waited > 1e-6 && used < capacity-1e-6) {
			rt.Fatalf("capacity %.4f, wanted %.4f, used %.4f, waited %.4f", capacity, wanted, used, waited)
		}
	})
}

func TestSameWorldTwiceGivesTheSameBits(t *testing.T) {
	play := func() string {
		now := time.Unix(0, 0)
		w := hypervisor.NewWorld()
		w.Clock = func() time.Time { return now }
		s := w.AddHost("h", 1.7, 1024)
		for i := range 12 {
			wave := func(at time.Duration) float64 { return 0.3 + 0.29*math.Sin(at.Seconds()/float64(i+1)) }
			if err := w.AddVM("h", vmOf(fmt.Sprint(i), 1, 10), wave); err != nil {
				t.Fatal(err)
			}
		}
		out := ""
		for range 5 {
			now = now.Add(7 * time.Second)
			for i := range 12 {
				u, x, _ := s.Counters("id-" + fmt.Sprint(i))
				out += fmt.Sprintf("%d %d,", u, x)
			}
		}
		return out
	}
	first := play()
	for range 5 {
		if again := play(); again != first {
			t.Fatalf("%s\nthen\n%s", first, again)
		}
	}
}

func TestSimulatedMoveTakesWhatMemoryAndDirtyingAsk(t *testing.T) {
	for _, c := range []struct {
		dirty          float64 // MiB/s
		copy, blackout time.Duration
	}{
		{0, 1150 * time.Millisecond, 150 * time.Millisecond}, // 100 MiB at 100 MiB/s, and the switch
		{20, 1350 * time.Millisecond, 350 * time.Millisecond},
		{50, 1900 * time.Millisecond, 400 * time.Millisecond}, // a second round of 50 MiB leaves 25
	} {
		synctest.Test(t, func(t *testing.T) {
			w, hosts := simPair(t)
			w.SetDirtyRate("id-a", c.dirty*(1<<20))
			begun := time.Now()
			r, err := hosts[0].Migrate(t.Context(), move(false))
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); (took-c.copy).Abs() > 50*time.Millisecond || (r.CopyTime-c.copy).Abs() > 50*time.Millisecond ||
				(r.Blackout-c.blackout).Abs() > 20*time.Millisecond {
				t.Errorf("dirtying %v MiB/s: took %v, told %v with a blackout of %v; want %v and %v", c.dirty, took, r.CopyTime, r.Blackout, c.copy, c.blackout)
			}
			if at := w.Runners("id-a"); !slices.Equal(at, []string{"h1"}) {
				t.Errorf("it runs on %v", at)
			}
			time.Sleep(time.Second)
			demanded, done, lost, _ := w.Work("id-a")
			if !near(demanded, done+lost) || math.Abs(lost-0.3*r.Blackout.Seconds()) > 0.03 {
				t.Errorf("asked %.3f, done %.3f, lost %.3f; want the blackout lost", demanded, done, lost)
			}
		})
	}
}

func TestFastDirtyingNeverConvergesUntilAborted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, hosts := simPair(t)
		w.SetDirtyRate("id-a", 200<<20)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := hosts[0].Migrate(ctx, move(false)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a move that cannot converge ended with %v", err)
		}
		aborted(t, w, hosts)
	})
}

// aborted checks that the VM runs at the source as if nothing had been.
func aborted(t *testing.T, w *hypervisor.World, hosts []*hypervisor.Sim) {
	t.Helper()
	if at := w.Runners("id-a"); !slices.Equal(at, []string{"h0"}) {
		t.Errorf("it runs on %v, want h0", at)
	}
	if _, ok, err := hosts[1].Lookup(t.Context(), "id-a"); ok || err != nil {
		t.Errorf("the copy stayed (%v)", err)
	}
	if p, err := hosts[0].Progress(t.Context(), "id-a"); err != nil || p.Active {
		t.Errorf("a job is left: %+v, %v", p, err)
	}
}

func TestPausedCopyWaitsAndCarriesItsMetadata(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, hosts := simPair(t)
		if err := hosts[0].SetMetadata(t.Context(), "id-a", hypervisor.Metadata{Attempt: 4, Lease: "l"}); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := hosts[0].Migrate(t.Context(), move(true))
			done <- err
		}()
		time.Sleep(500 * time.Millisecond)
		if dom, ok, _ := hosts[1].Lookup(t.Context(), "id-a"); !ok || !dom.Incoming || dom.State != hypervisor.Paused || dom.Metadata.Lease != "l" {
			t.Errorf("half-way the copy is %+v", dom)
		}
		if err := hosts[1].Resume(t.Context(), "id-a"); err == nil {
			t.Error("an incomplete copy was resumed")
		}
		p, err := hosts[0].Progress(t.Context(), "id-a")
		if percent, ok := p.Percent(); err != nil || !ok || math.Abs(percent-50) > 6 {
			t.Errorf("half-way the progress is %.0f %% (%v)", percent, err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if at := w.Runners("id-a"); len(at) != 0 {
			t.Errorf("before the resume it runs on %v", at)
		}
		if err := hosts[1].Resume(t.Context(), "id-a"); err != nil {
			t.Fatal(err)
		}
		if at := w.Runners("id-a"); !slices.Equal(at, []string{"h1"}) {
			t.Errorf("after the resume it runs on %v", at)
		}
		if _, ok, _ := hosts[0].Lookup(t.Context(), "id-a"); ok {
			t.Error("the source still has it")
		}
	})
}

func TestMovesShareTheNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, hosts := simPair(t)
		if err := w.AddVM("h0", vmOf("b", 1, 100), constant(0.1)); err != nil {
			t.Fatal(err)
		}
		done := make(chan time.Duration, 2)
		for _, id := range []string{"id-a", "id-b"} {
			go func() {
				r, err := hosts[0].Migrate(t.Context(), hypervisor.MigrateRequest{ID: id, DestURI: "sim://h1"})
				if err != nil {
					t.Error(err)
				}
				done <- r.CopyTime
			}()
		}
		if a, b := <-done, <-done; min(a, b) < 2*time.Second {
			t.Errorf("two moves of 100 MiB over 100 MiB/s took %v and %v, want over 2 s each", a, b)
		}
	})
}

func TestSimulatedFailures(t *testing.T) {
	for name, c := range map[string]struct {
		before func(*hypervisor.World, []*hypervisor.Sim)
		during func(*hypervisor.World, []*hypervisor.Sim)
		paused bool
		is     error // what the error wraps; nil: any
		after  func(*testing.T, *hypervisor.World, []*hypervisor.Sim)
	}{
		"the link breaks": {before: func(w *hypervisor.World, _ []*hypervisor.Sim) { w.Fail("id-a", hypervisor.FailCopy) }, after: aborted},
		"the hook refuses": {before: func(w *hypervisor.World, _ []*hypervisor.Sim) {
			w.SetHook("h1", func(_ context.Context, d hypervisor.Domain) error { return errors.New("no lease for " + d.Name) })
		}, after: aborted},
		"the destination is down":         {before: func(w *hypervisor.World, _ []*hypervisor.Sim) { w.SetDown("h1", true) }, after: revived("h1")},
		"the destination's libvirtd dies": {during: func(w *hypervisor.World, _ []*hypervisor.Sim) { w.SetDown("h1", true) }, after: revived("h1")},
		"our libvirtd dies": {during: func(w *hypervisor.World, _ []*hypervisor.Sim) { w.SetDown("h0", true) },
			is: hypervisor.ErrUnknownOutcome, after: revived("h0")},
		"the VM hangs":  {before: func(w *hypervisor.World, _ []*hypervisor.Sim) { w.SetHung("id-a", true) }, is: hypervisor.ErrTimeout},
		"it is aborted": {during: func(_ *hypervisor.World, s []*hypervisor.Sim) { _ = s[0].AbortJob(context.Background(), "id-a") }, after: aborted},
		"the copy is destroyed": {during: func(_ *hypervisor.World, s []*hypervisor.Sim) {
			_ = s[1].Destroy(context.Background(), "id-a")
		}, after: aborted},
		"the connection breaks": {before: func(w *hypervisor.World, _ []*hypervisor.Sim) { w.Fail("id-a", hypervisor.FailCall) }, paused: true,
			is: hypervisor.ErrUnknownOutcome, after: func(t *testing.T, w *hypervisor.World, s []*hypervisor.Sim) {
				time.Sleep(2 * time.Second) // the copy goes on without the caller
				if dom, ok, _ := s[1].Lookup(t.Context(), "id-a"); !ok || dom.Incoming || dom.State != hypervisor.Paused || len(w.Runners("id-a")) != 0 {
					t.Errorf("after the move the copy is %+v, it runs on %v", dom, w.Runners("id-a"))
				}
			}},
		"the finish is lost": {before: func(w *hypervisor.World, _ []*hypervisor.Sim) { w.Fail("id-a", hypervisor.FailFinish) }, paused: true,
			after: func(t *testing.T, w *hypervisor.World, s []*hypervisor.Sim) {
				if dom, ok, _ := s[1].Lookup(t.Context(), "id-a"); !ok || dom.State != hypervisor.Paused || !slices.Equal(w.Runners("id-a"), []string{"h0"}) {
					t.Errorf("the copy is %+v, it runs on %v; want it paused, and the source running", dom, w.Runners("id-a"))
				}
			}},
		"the finish is lost without a guard": {before: func(w *hypervisor.World, _ []*hypervisor.Sim) { w.Fail("id-a", hypervisor.FailFinish) },
			after: func(t *testing.T, w *hypervisor.World, _ []*hypervisor.Sim) {
				if at := w.Runners("id-a"); len(at) != 2 {
					t.Errorf("it runs on %v: the world must be able to show the double run that the guard prevents", at)
				}
			}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, hosts := simPair(t)
				if c.before != nil {
					c.before(w, hosts)
				}
				done := make(chan error, 1)
				go func() {
					_, err := hosts[0].Migrate(t.Context(), move(c.paused))
					done <- err
				}()
				time.Sleep(300 * time.Millisecond)
				if c.during != nil {
					c.during(w, hosts)
				}
				if err := <-done; err == nil || (c.is != nil && !errors.Is(err, c.is)) || (c.is == nil && errors.Is(err, hypervisor.ErrUnknownOutcome)) {
					t.Errorf("the move ended with %v, want %v", err, c.is)
				}
				if c.after != nil {
					c.after(t, w, hosts)
				}
			})
		})
	}
}

// revived brings the libvirtd back and checks that nothing happened to the VM.
func revived(host string) func(*testing.T, *hypervisor.World, []*hypervisor.Sim) {
	return func(t *testing.T, w *hypervisor.World, hosts []*hypervisor.Sim) {
		t.Helper()
		down := hosts[0]
		if host == "h1" {
			down = hosts[1]
		}
		if ok, err := down.Connected(); ok || !errors.Is(err, hypervisor.ErrNotConnected) {
			t.Errorf("%s connected %t, %v", host, ok, err)
		}
		if _, err := down.Domains(t.Context()); !errors.Is(err, hypervisor.ErrNotConnected) {
			t.Errorf("list: %v, want ErrNotConnected", err)
		}
		time.Sleep(100 * time.Millisecond)
		w.SetDown(host, false)
		aborted(t, w, hosts)
		var kinds []hypervisor.EventKind
		for len(down.Events()) > 0 {
			kinds = append(kinds, (<-down.Events()).Kind)
		}
		if !slices.Contains(kinds, hypervisor.EventLost) || !slices.Contains(kinds, hypervisor.EventConnected) {
			t.Errorf("events %v, want the loss and the connection", kinds)
		}
	}
}

func TestSecondMoveOfOneVMIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, hosts := simPair(t)
		done := make(chan error, 1)
		go func() {
			_, err := hosts[0].Migrate(t.Context(), move(false))
			done <- err
		}()
		time.Sleep(200 * time.Millisecond)
		if _, err := hosts[0].Migrate(t.Context(), move(false)); !errors.Is(err, hypervisor.ErrJobActive) {
			t.Errorf("a second move: %v, want ErrJobActive", err)
		}
		if _, err := hosts[0].DirtyRate(t.Context(), "id-a"); !errors.Is(err, hypervisor.ErrJobActive) {
			t.Errorf("dirty rate meanwhile: %v, want ErrJobActive", err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := hosts[0].Resume(t.Context(), "id-a"); !errors.Is(err, hypervisor.ErrNoSuchDomain) {
			t.Errorf("resume of a VM that left: %v", err)
		}
	})
}

func TestSimulationSaysSo(t *testing.T) {
	_, hosts := simPair(t)
	info, err := hosts[0].HostInfo(t.Context())
	if err != nil || info.Version != "simulated" || info.CPUModel != "simulated" {
		t.Errorf("host %+v, %v", info, err)
	}
}
