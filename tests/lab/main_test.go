package lab_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"headroom/tests/lab"
)

// childUp, in the environment, makes the test's binary make a lab of that name
// and wait: something to be killed.
const childUp = "HEADROOM_LAB_TEST_UP"

func TestMain(m *testing.M) {
	if name := os.Getenv(childUp); name != "" {
		_, err := lab.Up(context.Background(), lab.Options{Name: name, Hosts: 2, Rate: 1e8})
		fmt.Println("up:", err)
		select {}
	}
	os.Exit(m.Run())
}

// requireLab skips where no lab can be made, unless HEADROOM_REQUIRE says that
// one must be.
func requireLab(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("a lab takes a minute: skipped with -short")
	}
	err := lab.Available()
	if err == nil {
		return
	}
	for _, need := range strings.Split(os.Getenv("HEADROOM_REQUIRE"), ",") {
		if need == "lab" {
			t.Fatalf("HEADROOM_REQUIRE names lab: %v", err)
		}
	}
	t.Skipf("no lab on this machine: %v", err)
}

// labName is a name that no other run uses.
func labName(suffix string) string { return fmt.Sprintf("t%d-%s", os.Getpid(), suffix) }

func start(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	begun := time.Now()
	l, err := lab.Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(context.Background()); err != nil {
			t.Errorf("down: %v", err)
		}
	})
	t.Logf("up of %d hosts: %.1f s", o.Hosts, time.Since(begun).Seconds())
	return l
}

func create(t *testing.T, l *lab.Lab, h *lab.Host, name, script string) lab.VM {
	t.Helper()
	vm, err := l.CreateVM(t.Context(), h, lab.VMOptions{Name: name, Demand: script})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("VM %s on %s (%s): booted in %.1f s", name, h.Name(), script, vm.Boot.Seconds())
	return vm
}

func progress(t *testing.T, l *lab.Lab, vm string) lab.Progress {
	t.Helper()
	p, err := l.Progress(vm)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// await polls the real lab until a condition holds; what it watches are other
// processes, which no clock of the test can drive.
func await(t *testing.T, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v still not: %s", limit, what)
		}
	}
}

// awaitElapsed waits until a guest has played so much of its script.
func awaitElapsed(t *testing.T, l *lab.Lab, vm string, elapsed time.Duration) lab.Progress {
	t.Helper()
	await(t, fmt.Sprintf("%s has played %v", vm, elapsed), elapsed*3+20*time.Second, func() bool {
		return progress(t, l, vm).Elapsed >= elapsed
	})
	return progress(t, l, vm)
}

func virsh(t *testing.T, h *lab.Host, args ...string) string {
	t.Helper()
	out, err := h.Virsh(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}
