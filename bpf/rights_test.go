package bpf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// helperTiers tells how each tier fares with the rights of this process.
func helperTiers(out io.Writer) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(out, err)
	}
	for _, tier := range allTiers {
		fmt.Fprintln(out, tier, tryTier(tier))
	}
	s, err := Open(Options{})
	if err != nil {
		fmt.Fprintln(out, err)
		return
	}
	defer s.Close()
	for _, f := range featureOrder {
		fmt.Fprintln(out, f, tryFeature(s, f))
	}
	fmt.Fprintln(out, "links", tryLinks())
}

func tryFeature(s *Sampler, f Feature) string {
	switch err := s.Enable(f); {
	case errors.Is(err, ErrNotPermitted):
		return "not permitted"
	case errors.Is(err, ErrNotSupported) && f == FeatureExits:
		return "works" // it would, if there were KVM
	case err != nil:
		return err.Error()
	}
	return "works"
}

func tryLinks() string {
	l, err := OpenLinks(Options{})
	if err != nil {
		return err.Error()
	}
	defer l.Close()
	if err := l.Read(); err != nil {
		return err.Error()
	}
	if _, ok := l.Stats("lo"); !ok {
		return "show no loopback"
	}
	for _, r := range l.Refused() {
		if !errors.Is(r.Err, ErrNotPermitted) || !strings.Contains(r.Err.Error(), "CAP_BPF and CAP_PERFMON") {
			return r.Err.Error()
		}
	}
	return "by " + string(l.Tier())
}

func tryTier(tier Tier) string {
	s, err := Open(Options{Tiers: []Tier{tier}})
	if errors.Is(err, ErrNotPermitted) && strings.Contains(err.Error(), "CAP_BPF and CAP_PERFMON") {
		return "not permitted"
	}
	if err != nil {
		return err.Error()
	}
	defer s.Close()
	// The test's own process is another user's.
	if err := s.SetTargets([]Target{{ID: "parent", PID: os.Getppid()}}); err != nil {
		return err.Error()
	}
	list, err := s.Sample(nil)
	switch {
	case err != nil:
		return err.Error()
	case !list[0].Valid:
		return list[0].Reason
	case !list[0].Has(SignalIO):
		return "works without io"
	}
	return "works"
}

// runAsNobody runs this binary as uid 65534 with the given capabilities alone.
func runAsNobody(t *testing.T, caps ...uintptr) string {
	t.Helper()
	if os.Geteuid() != 0 {
		skipOr(t, "needs root to become another user")
	}
	dir, err := os.MkdirTemp("", "headroom-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "helper")
	if err := os.WriteFile(binary, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary)
	cmd.Dir = "/"
	cmd.Env = []string{helperEnv + "=tiers"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: 65534, Gid: 65534},
		AmbientCaps: caps,
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func TestTwoCapabilitiesSuffice(t *testing.T) {
	open(t, TierSyscall)
	got := runAsNobody(t, unix.CAP_BPF, unix.CAP_PERFMON)
	want := "syscall works\niter works\nprocfs works without io\n" +
		"block-io works\nwait-tail works\nkvm-exits works\nlinks by syscall\n"
	if got != want {
		t.Errorf("with CAP_BPF and CAP_PERFMON:\n%s\nwant:\n%s", got, want)
	}
}

func TestWithoutRightsProcfsIsLeft(t *testing.T) {
	for _, caps := range [][]uintptr{nil, {unix.CAP_PERFMON}, {unix.CAP_BPF}} {
		got := runAsNobody(t, caps...)
		want := "syscall not permitted\niter not permitted\nprocfs works without io\n" +
			"block-io not permitted\nwait-tail not permitted\nkvm-exits not permitted\nlinks by netlink\n"
		if got != want {
			t.Errorf("with capabilities %v:\n%s\nwant:\n%s", caps, got, want)
		}
	}
}
