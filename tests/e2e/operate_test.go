package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"headroom/agent/api"
	"headroom/mesh"
	"headroom/tests/cluster"
	"headroom/tests/lab"
)

// statusBudget is what `headroom status` may take while a migration runs.
const statusBudget = 50 * time.Millisecond

// TestOperatorsMove moves a VM on the operator's word, asks every host for its
// status meanwhile, kills an agent, and lets it come back.
func TestOperatorsMove(t *testing.T) {
	c := need(t, "advise", nil)
	create(t, c, 0, lab.VMOptions{Name: "app", Demand: "constant:0.10"})
	create(t, c, 1, lab.VMOptions{Name: "peer", Demand: "constant:0.10"})
	waitReady(t, c.Nodes[0].Client, c.Nodes[1].Client, c.Nodes[2].Client)
	reply, err := c.Nodes[0].Client.Migrate(t.Context(), "app", "h2")
	if err != nil {
		t.Fatal(err)
	}
	if reply.To != "h2" || reply.Attempt == 0 {
		t.Errorf("reply %+v", reply)
	}
	var took []time.Duration
	eventually(t, 30*time.Second, "app runs on h2 alone", func() bool {
		for _, n := range c.Nodes {
			begun := time.Now()
			if _, err := n.Client.Status(t.Context()); err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(begun))
		}
		where, err := c.Lab.Where("app")
		return err == nil && len(where) == 1 && where[0].Name() == "h2"
	})
	slices.Sort(took)
	median, worst := took[len(took)/2], took[len(took)-1]
	t.Logf("status during the move: median %v, worst %v of %d", median, worst, len(took))
	if median > statusBudget {
		t.Errorf("status takes %v, at most %v", median, statusBudget)
	}
	killAndReturn(t, c.Nodes[1], c.Nodes[0])
	for _, vm := range []string{"app", "peer"} {
		before, err := c.Lab.Progress(vm)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, 10*time.Second, vm+" works on", func() bool {
			p, err := c.Lab.Progress(vm)
			return err == nil && p.Live && p.Done > before.Done
		})
	}
}

// waitReady waits until agents measure and may plan.
func waitReady(t *testing.T, clients ...*api.Client) {
	t.Helper()
	eventually(t, 90*time.Second, "agents are ready", func() bool {
		for _, client := range clients {
			if s, err := client.Status(t.Context()); err != nil || !s.Ready {
				return false
			}
		}
		return true
	})
}

// killAndReturn kills one agent with -9, sees another one notice, and starts it
// again.
func killAndReturn(t *testing.T, victim, witness interface {
	Kill() error
	Start(context.Context) error
	Headroom(context.Context, ...string) (string, error)
}) {
	t.Helper()
	if err := victim.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the others see the agent fail", func() bool {
		out, err := witness.Headroom(t.Context(), "members")
		return err == nil && strings.Contains(out, string(mesh.StatusFailed))
	})
	if err := victim.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the agent is back", func() bool {
		out, err := witness.Headroom(t.Context(), "members")
		return err == nil && !strings.Contains(out, string(mesh.StatusFailed))
	})
}

// TestWhatFitsNowhereStays asks for a move that no host can take.
func TestWhatFitsNowhereStays(t *testing.T) {
	c := need(t, "advise", nil)
	create(t, c, 0, lab.VMOptions{Name: "big", Demand: "constant:0.30"})
	create(t, c, 1, lab.VMOptions{Name: "full1", Demand: "constant:0.50"})
	create(t, c, 2, lab.VMOptions{Name: "full2", Demand: "constant:0.50"})
	waitReady(t, c.Nodes[0].Client, c.Nodes[1].Client, c.Nodes[2].Client)
	_, err := c.Nodes[0].Client.Migrate(t.Context(), "big", "")
	if !errors.Is(err, api.ErrConflict) {
		t.Fatalf("migrate: %v, want a conflict", err)
	}
	for _, want := range []string{"h1", "h2", "above HIGH"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the reason %q does not name %s", err, want)
		}
	}
	if where, err := c.Lab.Where("big"); err != nil || len(where) != 1 || where[0].Name() != "h0" {
		t.Errorf("big runs on %v, %v", where, err)
	}
	out, err := c.Nodes[0].Headroom(t.Context(), "decisions")
	if err != nil || !strings.Contains(out, "VERDICT") {
		t.Errorf("decisions: %v\n%s", err, out)
	}
}

// TestStrangersAreRefused starts agents with another gossip key, and with a
// certificate of another cluster.
func TestStrangersAreRefused(t *testing.T) {
	c := need(t, "advise", nil)
	n := c.Nodes[2]
	keep := map[string][]byte{}
	for _, name := range []string{"gossip.key", "host.pem", "host.key", "ca.pem"} {
		b, err := os.ReadFile(filepath.Join(n.Dir(), name))
		if err != nil {
			t.Fatal(err)
		}
		keep[name] = b
	}
	restore := func() {
		for name, b := range keep {
			if err := os.WriteFile(filepath.Join(n.Dir(), name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	defer restore()
	if _, err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(n.Dir(), "gossip.key")
	if err := errors.Join(os.Remove(key), mesh.CreateKey(key)); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the wrong key is counted", func() bool {
		s, err := c.Nodes[0].Client.Status(t.Context())
		return err == nil && s.Mesh.Refused["gossip_key"] > 0
	})
	if _, err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	restore()
	other := t.TempDir()
	for _, name := range []string{"host.pem", "host.key", "ca.pem"} {
		if err := os.Remove(filepath.Join(n.Dir(), name)); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(mesh.CreateCA(other, "demo"), mesh.IssueHost(other, n.Dir(), mesh.HostID(n.Host.MachineID()), "h2", nil))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(other, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.Dir(), "ca.pem"), ca, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	create(t, c, 0, lab.VMOptions{Name: "probe", Demand: "constant:0.05"})
	waitReady(t, c.Nodes[0].Client)
	if _, err := c.Nodes[0].Client.Migrate(t.Context(), "probe", "h2"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("migrate to a stranger: %v, want a word on its certificate", err)
	}
}

// TestLibvirtdComesAndGoes kills libvirtd under the agent.
func TestLibvirtdComesAndGoes(t *testing.T) {
	c := need(t, "advise", nil)
	n := c.Nodes[0]
	if err := c.Lab.KillLibvirtd(t.Context(), n.Host); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "the status says that libvirtd is gone", func() bool {
		s, err := n.Client.Status(t.Context())
		return err == nil && !s.Hypervisor.Connected && !s.Ready && s.Hypervisor.Error != ""
	})
	if err := n.Host.StartLibvirtd(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the agent has reconnected", func() bool {
		s, err := n.Client.Status(t.Context())
		return err == nil && s.Hypervisor.Connected
	})
	took, err := n.Stop()
	if err != nil || took > 5*time.Second {
		t.Errorf("SIGTERM: %v after %v, at most 5 s", err, took)
	}
}

// TestWrongConfiguration: an unknown key is refused with its line.
func TestWrongConfiguration(t *testing.T) {
	c := need(t, "advise", nil)
	path := filepath.Join(t.TempDir(), "headroom.toml")
	if err := os.WriteFile(path, []byte("[agent]\nmode = \"advise\"\nmodus = \"auto\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := c.Nodes[0].Headroom(t.Context(), "config", "check", path)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(err.Error(), path+":3") || !strings.Contains(err.Error(), "modus") {
		t.Errorf("config check: %v, want %s:3 and the key", err, path)
	}
}

// withoutBPF takes the capabilities away that eBPF needs; root alone does not
// bring them back.
var withoutBPF = []string{"setpriv", "--bounding-set", "-bpf,-perfmon,-sys_admin", "--"}

// TestMissingCapability: without CAP_BPF an agent samples by procfs and says why;
// one that may not fall back does not start, and says what it needs.
func TestMissingCapability(t *testing.T) {
	c := need(t, "advise", nil)
	n := c.Nodes[0]
	if _, err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := n.StartUnder(t.Context(), withoutBPF...); err != nil {
		t.Fatal(err)
	}
	out, err := n.Headroom(t.Context(), "status")
	if err != nil || !strings.Contains(out, "procfs") || !strings.Contains(out, "CAP_BPF") {
		t.Errorf("status: %v, want procfs and CAP_BPF in\n%s", err, out)
	}
	if _, err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := c.Configure("advise", map[string]string{"sampling.tiers": `["syscall"]`}); err != nil {
		t.Fatal(err)
	}
	if err := n.StartUnder(t.Context(), withoutBPF...); err == nil || !strings.Contains(err.Error(), "CAP_BPF") {
		t.Errorf("start with the tier syscall alone: %v, want a refusal that names CAP_BPF", err)
	}
}

// TestSecondAgentIsRefused: two agents must not share data or socket.
func TestSecondAgentIsRefused(t *testing.T) {
	c := need(t, "advise", nil)
	out, err := c.Nodes[0].Headroom(t.Context(), "agent", "--config", filepath.Join(c.Nodes[0].Dir(), "headroom.toml"))
	if err == nil || !strings.Contains(err.Error(), "second agent") {
		t.Errorf("a second agent: %v, want a word on the first\n%s", err, out)
	}
	if _, err := c.Nodes[0].Client.Status(t.Context()); err != nil {
		t.Errorf("the first agent does not answer any more: %v", err)
	}
}

// TestEveryCommandAnswers runs each client command on a host that works.
func TestEveryCommandAnswers(t *testing.T) {
	c := need(t, "advise", nil)
	create(t, c, 0, lab.VMOptions{Name: "app", Demand: "constant:0.10"})
	n := c.Nodes[0]
	waitReady(t, n.Client)
	conf := filepath.Join(n.Dir(), "headroom.toml")
	for _, args := range [][]string{
		{"status"}, {"vms"}, {"forecast", "app"}, {"slots"}, {"members"}, {"offers"}, {"decisions"}, {"migrations"}, {"plan"}, {"explain", "app"},
		{"pause", "--for", "1h"}, {"drain", "--reason", "test"}, {"undrain"}, {"resume", "--wait"}, // paused: nothing leaves
		{"doctor", "--config", conf},
	} {
		table, err := n.Headroom(t.Context(), args...)
		if err != nil || strings.TrimSpace(table) == "" {
			t.Errorf("%v: %v, printed %q", args, err, table)
		}
		out, err := n.Headroom(t.Context(), append(args, "--json")...)
		if err != nil || !json.Valid([]byte(out)) {
			t.Errorf("%v --json: %v, printed %q", args, err, out)
		}
	}
	if out, err := n.Headroom(t.Context(), "config", "check", conf); err != nil || !strings.Contains(out, "no problem found") {
		t.Errorf("config check: %v, printed %q", err, out)
	}
	if _, err := n.Headroom(t.Context(), "forecast", "nobody"); exitCode(err) != 4 {
		t.Errorf("forecast of an unknown VM: %v, want exit code 4", err)
	}
	for args, code := range map[[2]string]int{{"explain", "nobody"}: 4, {"approve", "nothing"}: 4, {"reject", latestDecision(t, n)}: 5} {
		if _, err := n.Headroom(t.Context(), args[0], args[1]); exitCode(err) != code {
			t.Errorf("%v: %v, want exit code %d", args, err, code)
		}
	}
	event := make(chan string, 1)
	go func() {
		out, err := n.Headroom(t.Context(), "events", "--count", "1", "--json")
		if err != nil {
			out = err.Error()
		}
		event <- out
	}()
	eventually(t, 20*time.Second, "an event is told", func() bool {
		_ = c.Lab.DestroyVM(t.Context(), "app") // again until somebody listens
		select {
		case out := <-event:
			if !json.Valid([]byte(out)) {
				t.Errorf("events --json printed %q", out)
			}
			return true
		default:
			create(t, c, 0, lab.VMOptions{Name: "app", Demand: "constant:0.10"})
			return false
		}
	})
}

// latestDecision is the id of a decision that does not wait for approval.
func latestDecision(t *testing.T, n *cluster.Node) string {
	t.Helper()
	list, err := n.Client.Decisions(t.Context(), api.Query{Limit: 1})
	if err != nil || len(list) == 0 {
		t.Fatalf("decisions: %v, %v", list, err)
	}
	return list[0].ID
}

func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}
