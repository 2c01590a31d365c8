package traces

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestBitbrainsDropsRepeatsAndKeepsGaps(t *testing.T) {
	dir := t.TempDir()
	line := "%d;2;5000;%d;0;4194304;1048576;0;0;0;0\n"
	text := "header\n" + fmt.Sprintf(line, 1000, 2500) + fmt.Sprintf(line, 1000, 2500) + fmt.Sprintf(line, 1600, 5000)
	write(t, dir, "1.csv", text)
	write(t, dir, "2.csv", text)
	s, err := Read(dir, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	v := s.VMs[0]
	if s.Steps != 3 || v.VCPUs != 2 || v.Memory != 4096 || v.Demand[0] != 0.5 || v.Demand[1] == v.Demand[1] || v.Demand[2] != 1 || v.Resident[0] != 1024 {
		t.Errorf("steps %d, VM %+v", s.Steps, v)
	}
	if len(s.Start) != 2 || !s.EnforceMemory || !s.KeepIdle {
		t.Errorf("start %v, memory enforced %v, idle kept %v", s.Start, s.EnforceMemory, s.KeepIdle)
	}
}

// TestTrafficIsReadAndSized: reads and writes together, the busier direction of the
// network; hosts carry such a total at 65 %, and a VM asks for no more than a host
// carries.
func TestTrafficIsReadAndSized(t *testing.T) {
	dir := t.TempDir()
	line := "%d;2;5000;2500;0;4194304;1048576;30000;10000;1000;5000\n"
	text := "header\n" + fmt.Sprintf(line, 1000) + fmt.Sprintf(line, 1300)
	write(t, dir, "1.csv", text)
	write(t, dir, "2.csv", text)
	s, err := Read(dir, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(s.Hosts); n != 2 {
		t.Fatalf("%d hosts", n)
	}
	disk, network := 80/SizedShare/2, 10/SizedShare/2
	if h := s.Hosts[0]; math.Abs(h.Disk-disk) > 1e-6 || math.Abs(h.Network-network) > 1e-6 {
		t.Errorf("a host carries %.2f and %.2f MB/s, want %.2f and %.2f", h.Disk, h.Network, disk, network)
	}
	if v := s.VMs[0]; v.Disk[0] != 40 || v.Network[1] != 5 {
		t.Errorf("a VM asks for %v and %v MB/s, want 40 and 5", v.Disk[0], v.Network[1])
	}
}

func TestRefusals(t *testing.T) {
	for name, text := range map[string]string{
		"short": "1\n2\n", "words": strings.Repeat("a\n", 288), "above.txt": strings.Repeat("101\n", 288), "cut.csv": "h\n1;2;3\n", "empty.csv": "h\n",
	} {
		dir := t.TempDir()
		write(t, dir, name, text)
		if _, err := Read(dir, nil, 1); !errors.Is(err, ErrNoTrace) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Read(t.TempDir(), nil, 1); !errors.Is(err, ErrNoTrace) {
		t.Errorf("an empty folder: %v", err)
	}
	if _, err := parseHosts([]byte(`[{"name":"a","count":1000000}]`)); err == nil {
		t.Error("a million hosts were accepted")
	}
}

func FuzzSamples(f *testing.F) {
	f.Add("h\n1;2;3;4;5;6;7;8;9;10;11\n")
	f.Fuzz(func(t *testing.T, text string) {
		if xs, err := samples(text); err == nil && len(xs) == 0 {
			t.Error("no samples and no error")
		}
	})
}
