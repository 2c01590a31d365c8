package hook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"headroom/agent/api"
	"headroom/agent/hypervisor"
)

// agent is a scripted agent; ask nil is a dead one.
type agent struct {
	ask   func(api.IncomingRequest) (api.IncomingReply, error)
	asked []api.IncomingRequest
}

func (a *agent) Incoming(ctx context.Context, r api.IncomingRequest) (api.IncomingReply, error) {
	a.asked = append(a.asked, r)
	if a.ask == nil {
		return api.IncomingReply{}, api.ErrNoAgent
	}
	return a.ask(r)
}

func allow(api.IncomingRequest) (api.IncomingReply, error) {
	return api.IncomingReply{Allow: true}, nil
}
func deny(api.IncomingRequest) (api.IncomingReply, error) {
	return api.IncomingReply{Reason: "the lease expired"}, nil
}

// hang is an agent that takes the question and never answers.
type hang struct{}

func (hang) Incoming(ctx context.Context, _ api.IncomingRequest) (api.IncomingReply, error) {
	<-ctx.Done()
	return api.IncomingReply{}, ctx.Err()
}

const vmID = "00000000-0000-4000-8000-000000000001"

// describe is a VM's XML as libvirt gives it to its hook, with a stamp.
func describe(t *testing.T, m hypervisor.Metadata) string {
	t.Helper()
	stamp := ""
	if m.Attempt > 0 {
		text, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		stamp = "<metadata>" + text + "</metadata>"
	}
	return "<domain type='kvm'><name>web</name><uuid>" + vmID + "</uuid><memory unit='KiB'>1048576</memory>" + stamp + "</domain>"
}

var (
	stamped   = hypervisor.Metadata{Attempt: 7, Lease: "3-00ab", From: "s", To: "d"}
	withdrawn = hypervisor.Metadata{Attempt: 7, From: "s"}
	moved     = hypervisor.Metadata{Attempt: 7, From: "s", To: "d", LastFrom: "s"}
)

var begin = []string{"web", "migrate", "begin", "-"}

// TestHookRefusesStale: without the agent's word a VM that headroom moves stays out.
func TestHookRefusesStale(t *testing.T) {
	for _, c := range []struct {
		name   string
		stamp  hypervisor.Metadata
		agent  *agent
		byHand ByHand
		says   string // "" for a VM that is let in
	}{
		{"lease held", stamped, &agent{ask: allow}, ByHandAllow, ""},
		{"lease refused", stamped, &agent{ask: deny}, ByHandAllow, "the lease expired"},
		{"lease, agent dead", stamped, &agent{}, ByHandAllow, "does not confirm the lease"},
		{"stamp taken back, agent dead", withdrawn, &agent{}, ByHandAllow, "gave up attempt 7"},
		{"stamp taken back, agent allows", withdrawn, &agent{ask: allow}, ByHandAllow, ""},
		{"by hand", hypervisor.Metadata{}, &agent{ask: allow}, ByHandAllow, ""},
		{"by hand, agent refuses", hypervisor.Metadata{}, &agent{ask: deny}, ByHandAllow, "the lease expired"},
		{"by hand, agent dead", hypervisor.Metadata{}, &agent{}, ByHandAllow, ""},
		{"by hand after a move, agent dead", moved, &agent{}, ByHandAllow, ""},
		{"by hand, agent dead, refused by policy", hypervisor.Metadata{}, &agent{}, ByHandRefuse, "handover.by_hand"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Judge(t.Context(), begin, strings.NewReader(describe(t, c.stamp)), c.agent, c.byHand)
			if c.says == "" && err != nil {
				t.Errorf("refused: %v", err)
			}
			if c.says != "" && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%v, want a refusal that says %q", err, c.says)
			}
			want := []api.IncomingRequest{{VM: vmID, Name: "web", Attempt: c.stamp.Attempt, Lease: c.stamp.Lease, From: c.stamp.From, To: c.stamp.To}}
			if diff := cmp.Diff(want, c.agent.asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
	for name, text := range map[string]string{"no XML": "", "half a VM": "<domain><name>web", "no UUID": "<domain><name>web</name></domain>",
		"a stamp that is not understood": strings.Replace(describe(t, stamped), `attempt="7"`, `attempt="x"`, 1)} {
		if err := Judge(t.Context(), begin, strings.NewReader(text), &agent{ask: allow}, ByHandAllow); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
}

// TestHookAnswersInTime: whatever hangs, the answer comes within the limit.
func TestHookAnswersInTime(t *testing.T) {
	for name, c := range map[string]struct {
		description io.Reader
		refuses     bool
	}{
		"the agent hangs on a lease":   {strings.NewReader(describe(t, stamped)), true},
		"the agent hangs on a VM":      {strings.NewReader(describe(t, hypervisor.Metadata{})), false},
		"the description does not end": {nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, w := io.Pipe()
				defer w.Close()
				if c.description == nil {
					c.description = r
				}
				begun := time.Now()
				err := Judge(t.Context(), begin, c.description, hang{}, ByHandAllow)
				if took := time.Since(begun); took > Limit {
					t.Errorf("took %v, at most %v", took, Limit)
				}
				if errors.Is(err, ErrRefused) != c.refuses {
					t.Errorf("%v, want a refusal: %v", err, c.refuses)
				}
			})
		})
	}
}

// others are the operations of libvirt's that are not the hook's business.
var others = [][]string{
	{"web", "prepare", "begin", "-"}, {"web", "start", "begin", "-"}, {"web", "started", "begin", "-"},
	{"web", "stopped", "end", "-"}, {"web", "release", "end", "-"}, {"web", "reconnect", "begin", "-"},
	{"web", "attach", "begin", "-"}, {"web", "restore", "begin", "-"}, {"web", "migrate", "end", "-"},
	{"migrate", "begin"}, {"migrate", "start", "begin", "-"}, {"web"}, {},
}

// TestHookSparesOthers: no other operation is ever refused or kept waiting, neither
// by the program nor by the file that libvirt runs, whatever is broken.
func TestHookSparesOthers(t *testing.T) {
	for _, args := range others {
		dead := &agent{}
		if err := Judge(t.Context(), args, failing{}, dead, ByHandRefuse); err != nil || len(dead.asked) > 0 {
			t.Errorf("%v: %v, asked %v", args, err, dead.asked)
		}
	}
	for name, program := range map[string]string{"gone": "/no/such/headroom", "broken": write(t, "#!/bin/sh\nexit 3\n")} {
		path := installed(t, program)
		for _, args := range others {
			if out, err := exec.Command(path, args...).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("program %s, %v: %v, %q", name, args, err, out)
			}
		}
	}
}

// failing fails the test's subject when it is read.
type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("it was read") }

// TestHookFile: what libvirt runs hands the question on, and judges alone only where
// the program is missing.
func TestHookFile(t *testing.T) {
	seen := filepath.Join(t.TempDir(), "seen")
	script := fmt.Sprintf("#!/bin/sh\necho \"$@\" > %s\ncat >> %s\nexit $(cat %s.code)\n", seen, seen, seen)
	path := installed(t, write(t, script))
	for _, code := range []int{0, 1} {
		if err := os.WriteFile(seen+".code", fmt.Append(nil, code), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(path, begin...)
		cmd.Stdin = strings.NewReader("<domain/>")
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != code || len(out) > 0 {
			t.Errorf("exit %d, want %d: %v %q", cmd.ProcessState.ExitCode(), code, err, out)
		}
		got, err := os.ReadFile(seen)
		if want := "--socket /run/it's.sock hook run --by-hand=allow -- web migrate begin -\n<domain/>"; err != nil || string(got) != want {
			t.Errorf("the program was called with %q (%v), want %q", got, err, want)
		}
	}
	path = installed(t, "/no/such/headroom")
	for _, c := range []struct {
		stamp hypervisor.Metadata
		code  int
	}{{stamped, 1}, {hypervisor.Metadata{}, 0}, {moved, 0}} {
		cmd := exec.Command(path, begin...)
		cmd.Stdin = strings.NewReader(describe(t, c.stamp))
		if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != c.code {
			t.Errorf("without the program, stamp %+v: %v, %q; want exit %d", c.stamp, err, out, c.code)
		}
	}
}

func write(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func installed(t *testing.T, program string) string {
	t.Helper()
	p := Place{Dir: t.TempDir(), Version: 9_000_000, Program: program, Socket: "/run/it's.sock", ByHand: ByHandAllow}
	if _, _, err := p.Install(); err != nil {
		t.Fatal(err)
	}
	return p.Path()
}

// TestInstallBesideOthers: somebody else's hooks survive, and nothing is done twice.
func TestInstallBesideOthers(t *testing.T) {
	const foreign = "#!/bin/sh\nlogger \"$@\"\n"
	for _, c := range []struct {
		name    string
		version uint32
		other   string // a file that is there before, below the folder
		want    string
		first   bool
		err     error
	}{
		{"new libvirt, nothing there", 9_000_000, "", "qemu.d/headroom", true, nil},
		{"new libvirt, a hook", 9_000_000, "qemu", "qemu.d/headroom", false, nil},
		{"new libvirt, a hook beside", 6_005_000, "qemu.d/50-network", "qemu.d/headroom", false, nil},
		{"new libvirt, another's file of our name", 6_005_000, "qemu.d/headroom", "", false, ErrForeign},
		{"old libvirt, nothing there", 6_004_000, "", "qemu", true, nil},
		{"old libvirt, a hook", 6_004_000, "qemu", "", false, ErrForeign},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := Place{Dir: t.TempDir(), Version: c.version, Program: "/usr/bin/headroom", Socket: "/s", ByHand: ByHandAllow}
			other := filepath.Join(p.Dir, c.other)
			if c.other != "" {
				if err := errors.Join(os.MkdirAll(filepath.Dir(other), 0o755), os.WriteFile(other, []byte(foreign), 0o755)); err != nil {
					t.Fatal(err)
				}
			}
			changed, first, err := p.Install()
			if changed != (c.err == nil) || first != c.first || !errors.Is(err, c.err) {
				t.Fatalf("install: changed %v, first %v, %v", changed, first, err)
			}
			if c.err == nil {
				checkInstalled(t, p, filepath.Join(p.Dir, c.want))
			}
			gone, err := p.Remove()
			if want := map[bool]int{true: 1, false: 0}[c.err == nil]; err != nil || len(gone) != want {
				t.Errorf("remove: %v, %v", gone, err)
			}
			if gone, err := p.Remove(); err != nil || len(gone) > 0 {
				t.Errorf("remove again: %v, %v", gone, err)
			}
			if c.other != "" {
				if text, err := os.ReadFile(other); err != nil || string(text) != foreign {
					t.Errorf("another's hook: %q, %v", text, err)
				}
			}
		})
	}
}

// checkInstalled installs again, and then something newer.
func checkInstalled(t *testing.T, p Place, path string) {
	t.Helper()
	s, err := p.Status()
	if err != nil || !s.Installed || !s.Current || s.Path != path || s.Foreign {
		t.Errorf("status %+v, %v", s, err)
	}
	if changed, first, err := p.Install(); changed || first || err != nil {
		t.Errorf("install again: changed %v, first %v, %v", changed, first, err)
	}
	p.ByHand = ByHandRefuse
	if s, err := p.Status(); err != nil || !s.Installed || s.Current {
		t.Errorf("status of an older one: %+v, %v", s, err)
	}
	if changed, first, err := p.Install(); !changed || first || err != nil {
		t.Errorf("bring up to date: changed %v, first %v, %v", changed, first, err)
	}
	entries, err := os.ReadDir(p.Dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("left behind: %s (%v)", e.Name(), err)
		}
	}
}
