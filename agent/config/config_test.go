package config

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

var sameConfig = cmp.Options{cmpopts.IgnoreUnexported(Config{})}

const example = "../../packaging/headroom.toml"

func TestDefaultPassesCheck(t *testing.T) {
	c := Default()
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
}

// The example is what operators read first: it must say every key, its default and
// what it means, and nothing else.
func TestExampleHoldsEveryKeyWithItsDefaultAndAComment(t *testing.T) {
	got, err := Load(example)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), got, sameConfig); diff != "" {
		t.Errorf("the example differs from the defaults (-default +example):\n%s", diff)
	}
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for _, key := range Keys() {
		if before, element, ok := strings.Cut(key, "[]."); ok {
			if !regexp.MustCompile(`\b` + element + ` = `).Match(text) {
				t.Errorf("the example does not show %s of %s", element, before)
			}
			continue
		}
		line, ok := got.origin.lines[key]
		if !ok {
			t.Errorf("the example lacks %s", key)
			continue
		}
		if !strings.HasPrefix(lines[line-2], "# ") {
			t.Errorf("the example does not explain %s", key)
		}
	}
}

func TestKeysAreSnakeCase(t *testing.T) {
	for _, k := range Keys() {
		if !regexp.MustCompile(`^[a-z]+\.[a-z0-9_]+(\[\]\.[a-z0-9_]+)?$`).MatchString(k) {
			t.Errorf("key %q", k)
		}
	}
}

// messages returns the problems of a joined error, in order.
func messages(err error) []string {
	if err == nil {
		return nil
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		var out []string
		for _, e := range j.Unwrap() {
			out = append(out, messages(e)...)
		}
		return out
	}
	return []string{err.Error()}
}

func TestEachMistakeIsReportedWithItsLineAndAdvice(t *testing.T) {
	tests := []struct {
		name, doc string
		want      []string
	}{
		{"nothing", "", nil},
		{"unknown key with a near one", "[sampling]\nwindw = \"1s\"",
			[]string{"f:2: sampling.windw: unknown key; did you mean sampling.window?"}},
		{"key of another section", "[agent]\ncooldown = \"1m\"",
			[]string{"f:2: agent.cooldown: unknown key; did you mean planner.cooldown?"}},
		{"unknown section", "[weather]\nrain = 1",
			[]string{"f:1: weather: unknown key; remove it"}},
		{"wrong type", "[agent]\ndata_dir = 3",
			[]string{"f:2: agent.data_dir: the value has the wrong type or form; give a text in quotes"}},
		{"number without a unit", "[sampling]\nwindow = 5",
			[]string{`f:2: sampling.window: the value has the wrong type or form; give a duration in quotes such as "250ms", "30s", "2h" or "90d"`}},
		{"bad duration", "[sampling]\n\nwindow = \"5 parsecs\"",
			[]string{`f:3: sampling.window: the value has the wrong type or form; give a duration in quotes such as "250ms", "30s", "2h" or "90d"`}},
		{"bad value", "[agent]\nmode = \"yolo\"",
			[]string{`f:2: agent.mode: "yolo" is not known; give one of advise, approve, auto`}},
		{"not a number", "[planner]\nhigh = nan\nlow = nan",
			[]string{"f:2: planner.high: NaN is out of range; give 0.3 to 1",
				"f:3: planner.low: NaN is not at least 0.15 below high NaN; give at most NaN"}},
		{"band too narrow", "[planner]\nhigh = 0.8\nlow = 0.7",
			[]string{"f:3: planner.low: 0.7 is not at least 0.15 below high 0.8; give at most 0.65"}},
		{"element of an inline list", "[history]\ntiers = [\n  { step = \"1s\", keep = \"1h\" },\n  { step = \"soon\", keep = \"24h\" },\n]",
			[]string{`f:4: history.tiers[1].step: the value has the wrong type or form; give a duration in quotes such as "250ms", "30s", "2h" or "90d"`}},
		{"element of a table list", "[[slots.classes]]\nname = \"a\"\nvcpu = 1\nmemory_mib = 1\n[[slots.classes]]\nname = \"A b\"\nvcpu = 0\nmemory_mib = 1",
			[]string{"f:6: slots.classes[1].name: \"A b\" is not a name; use a-z, 0-9, '-' and '.', at most 16 characters",
				"f:7: slots.classes[1].vcpu: 0 is out of range; give 0.01 to 1024"}},
		{"five classes", "[slots]\nclasses = [" + strings.Repeat(`{name="a",vcpu=1,memory_mib=1},`, 5) + "]",
			[]string{"f:2: slots.classes: 5 classes; give 1 to 4: a digest has room for four"}},
		{"syntax", "[agent]\nmode = \"advise",
			[]string{"f:2: not TOML: "}},
		{"too many windows", "[forecast]\nhorizon = 288\n[sampling]\nwindow = \"100ms\"",
			[]string{`f:2: forecast.horizon: 288 steps of "10s" are 28800 windows; give fewer steps, or a longer sampling.window: at most 4096 windows`}},
		{"more than a probe carries", "[forecast]\nhorizon = 145\n[planner]\nmemory_overcommit = 1.5\ndisk_bytes_per_s = 1e8\nnetwork_bytes_per_s = 1e8",
			[]string{"f:2: forecast.horizon: 145 steps of 4 demands are more than a probe carries; give at most 144 steps, or fewer limits"}},
		{"tiers out of order", "[history]\ntiers = [{step=\"10s\",keep=\"1h\"},{step=\"15s\",keep=\"30m\"}]",
			[]string{`f:2: history.tiers[1].step: "15s" is not a multiple of the finer tier's "10s"; order`,
				`f:2: history.tiers[1].keep: "30m" is shorter than the finer tier's "1h"; keep`}},
		{"several at once", "[agent]\nmode = 3\nlog_level = \"loud\"\nsoket = \"\"\n[planner]\nmax_rounds = \"x\"",
			[]string{"f:2: agent.mode: the value has", "f:6: planner.max_rounds: the value has the wrong type or form; give a whole number",
				"f:4: agent.soket: unknown key; did you mean agent.socket?", `f:3: agent.log_level: "loud" is not known`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("f", []byte(tt.doc))
			got := messages(err)
			// A duplicate name in "five classes" is beside the point of that row.
			got = slices.DeleteFunc(got, func(m string) bool { return strings.Contains(m, "stands twice") })
			if len(got) != len(tt.want) {
				t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
			for i := range got {
				if !strings.HasPrefix(got[i], tt.want[i]) {
					t.Errorf("got  %s\nwant %s", got[i], tt.want[i])
				}
			}
		})
	}
}

func TestMeshFilesAreCheckedOnlyInACluster(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, mode os.FileMode) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte("x"), mode); err != nil {
			t.Fatal(err)
		}
		return p
	}
	c := Default()
	c.Mesh.KeyFile = filepath.Join(dir, "absent")
	if err := c.Check(); err != nil {
		t.Errorf("a host that stands alone needs no key: %v", err)
	}
	c.Mesh.Bind = "10.0.0.1:7946"
	c.Mesh.KeyFile, c.Mesh.TLSKeyFile = write("key", 0o600), write("host.key", 0o640)
	c.Mesh.CAFile, c.Mesh.CertFile = write("ca.pem", 0o644), write("host.pem", 0o644)
	if err := c.Check(); err != nil {
		t.Errorf("group-readable keys are fine: %v", err)
	}
	if err := os.Chmod(c.Mesh.KeyFile, 0o604); err != nil {
		t.Fatal(err)
	}
	var p *Problem
	if err := c.Check(); !errors.As(err, &p) || p.Key != "mesh.key_file" || !strings.Contains(p.Do, "chmod 0600") {
		t.Errorf("a key that the world can read: %v", err)
	}
}

func TestMeshAddresses(t *testing.T) {
	for _, tt := range []struct{ bind, rpc, want string }{
		{"", "", ""},
		{"10.0.0.1:7946", "", "10.0.0.1:7947"},
		{"[fd00::1]:7946", "", "[fd00::1]:7947"},
		{"10.0.0.1:7946", "10.1.0.1:80", "10.1.0.1:80"},
	} {
		if got := (Mesh{Bind: tt.bind, RPCBind: tt.rpc}).RPCAddress(); got != tt.want {
			t.Errorf("bind %q rpc %q: got %q, want %q", tt.bind, tt.rpc, got, tt.want)
		}
	}
	for bind, ok := range map[string]bool{"10.0.0.1:7946": true, "10.0.0.1": false, "host:7946": false, "10.0.0.1:0": false, "0.0.0.0:7946": false} {
		c := Default()
		c.Mesh.Bind = bind
		got := true
		for _, m := range messages(c.Check()) {
			got = got && !strings.HasPrefix(m, "mesh.bind")
		}
		if got != ok {
			t.Errorf("bind %q accepted: %v, want %v", bind, got, ok)
		}
	}
}

func TestLoadRefusesWhatIsNoConfiguration(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
	if _, err := Load("/dev/zero"); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("endless file: %v", err)
	}
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"250ms": 250 * time.Millisecond, "90d": 90 * day, "2d12h": 60 * time.Hour, "0s": 0, "1h30m": 90 * time.Minute,
	} {
		if d, err := ParseDuration(text); err != nil || d.Duration != want || d.String() != text && text != "2d12h" {
			t.Errorf("%q: %v (%v), want %v", text, d, err, want)
		}
	}
	for _, text := range []string{"", "5", "d", "-1d", "1.5d", "1d-1h", "999999999d", "106751d24h", "1h2d", "month"} {
		if d, err := ParseDuration(text); err == nil {
			t.Errorf("%q is read as %v", text, d)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		d := Of(time.Duration(rapid.Int64Range(0, 1<<62).Draw(t, "d")))
		if back, err := ParseDuration(d.String()); err != nil || back != d {
			t.Fatalf("%v is read back as %v, %v", d, back, err)
		}
	})
}

// FuzzParse: a broken file gives problems, never a panic, and never loops.
func FuzzParse(f *testing.F) {
	text, err := os.ReadFile(example)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("[sampling]\nwindow = 5\n[[slots.classes]]\nname = 1"))
	f.Add([]byte("a.b = {c = [{d = 1.5}]}\n[a]\n[[a.b]]"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		c, err := Parse("f", doc)
		if err == nil {
			if err := c.Check(); err != nil {
				t.Fatalf("accepted, then refused: %v", err)
			}
		}
	})
}
