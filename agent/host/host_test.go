package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// machine is a fixture: file name below the root -> content.
type machine map[string]string

// bare is a machine of 8 CPUs and 16 GiB without any cgroup limit.
func bare() machine {
	return machine{
		"sys/devices/system/cpu/online":  "0-7\n",
		"sys/devices/system/node/online": "0-1\n",
		"proc/meminfo":                   "MemTotal:       16777216 kB\nMemFree:  1 kB\nMemAvailable:    8388608 kB\nSwapTotal: 2048 kB\nSwapFree: 1024 kB\nHugePages_Total:       0\n",
		"proc/pressure/cpu":              "some avg10=12.50 avg60=1.00 avg300=0.10 total=1500000\n",
		"proc/pressure/memory":           "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n",
		"proc/pressure/io":               "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=50.00 avg60=0.00 avg300=0.00 total=0\n",
		"proc/loadavg":                   "0.20 0.18 0.12 3/80 11206\n",
		"proc/stat":                      "cpu  1 2 3 4\nintr 5 6\nctxt 987654\nbtime 7\n",
		"proc/self/stat":                 "42 (head) room) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 9 0 100 1000000 2560 18446744073709551615\n",
		"sys/class/net/eth0/speed":       "10000\n",
		"sys/class/net/eth0/operstate":   "up\n",
		"sys/class/net/eth0/device/x":    "",
		"sys/class/net/vnet3/speed":      "10\n",
	}
}

func (m machine) with(files machine) machine {
	for name, content := range files {
		m[name] = content
	}
	return m
}

func (m machine) without(name string) machine {
	delete(m, name)
	return m
}

// read builds the fixture and reads it.
func (m machine) read(t *testing.T, cgroup string) (Status, error) {
	t.Helper()
	root := t.TempDir()
	for name, content := range m {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return New(Options{ProcRoot: filepath.Join(root, "proc"), SysRoot: filepath.Join(root, "sys"), MachineCgroup: cgroup, DataDir: root}).Status()
}

func TestStatusOfABareMachine(t *testing.T) {
	got, err := bare().read(t, "machine.slice")
	if err != nil {
		t.Fatal(err)
	}
	if got.Disk == nil || got.Disk.TotalMiB < got.Disk.FreeMiB || got.Disk.TotalMiB <= 0 {
		t.Errorf("disk %+v", got.Disk)
	}
	got.Disk = nil // that of the machine that runs the test
	want := Status{
		CPU:            CPU{Online: 8, Cores: 8},
		Memory:         Memory{TotalMiB: 16384, AvailableMiB: 8192, CapacityMiB: 16384, SwapUsedMiB: 1},
		CPUPressure:    &Pressure{Some10: 0.125, Some60: 0.01, Some300: 0.001, SomeTotal: 1500 * time.Millisecond},
		MemoryPressure: &Pressure{FullTotal: 7 * time.Microsecond},
		IOPressure:     &Pressure{Full10: 0.5},
		Load:           &Load{One: 0.2, Five: 0.18, Fifteen: 0.12, Runnable: 3, Tasks: 80},
		Switches:       987654,
		NUMANodes:      2,
		Own:            &Own{CPU: 2 * time.Second, RSSMiB: 2560 * float64(os.Getpagesize()) / mib, Threads: 9},
		Links:          []Link{{Name: "eth0", Up: true, SpeedMb: 10000}},
		Absent: map[string]string{
			"cpu.quota": errNoController.Error(), "cpu.cpuset": errNoController.Error(), "memory.limit": errNoController.Error(),
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCapacityIsCutDownByTheVMCgroupAndItsAncestors(t *testing.T) {
	v2 := machine{"sys/fs/cgroup/cgroup.controllers": "cpu memory\n", "sys/fs/cgroup/cpuset.cpus.effective": "0-7\n"}
	v1 := machine{"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
		"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n", "sys/fs/cgroup/cpuset/cpuset.effective_cpus": "0-7\n"}
	tests := []struct {
		name, cgroup   string
		base, files    machine
		cores, mem     float64
		quotaAt, setAt string
	}{
		{"v2 without limits", "machine.slice", v2, machine{
			"sys/fs/cgroup/machine.slice/cpu.max": "max 100000\n", "sys/fs/cgroup/machine.slice/memory.max": "max\n"},
			8, 16384, "", "/"},
		{"v2 quota and limit", "machine.slice", v2, machine{
			"sys/fs/cgroup/machine.slice/cpu.max": "150000 100000\n", "sys/fs/cgroup/machine.slice/memory.max": "1073741824\n"},
			1.5, 1024, "/machine.slice", "/"},
		{"v2 quota of an ancestor is tighter", "/a.slice/b.slice/machine", v2, machine{
			"sys/fs/cgroup/a.slice/cpu.max": "100000 100000\n", "sys/fs/cgroup/a.slice/b.slice/cpu.max": "400000 100000\n"},
			1, 16384, "/a.slice", "/"},
		{"v2 cpuset is tighter than the quota", "machine.slice", v2, machine{
			"sys/fs/cgroup/machine.slice/cpu.max": "600000 100000\n", "sys/fs/cgroup/machine.slice/cpuset.cpus.effective": "2-3,6\n"},
			3, 16384, "/machine.slice", "/machine.slice"},
		{"v2 cgroup does not exist yet", "machine.slice", v2, nil, 8, 16384, "", "/"},
		{"v1 without limits", "machine.slice", v1, nil, 8, 16384, "", "/"},
		{"v1 quota and limit", "/lab/host1", v1, machine{
			"sys/fs/cgroup/cpu/lab/host1/cpu.cfs_quota_us": "50000\n", "sys/fs/cgroup/cpu/lab/host1/cpu.cfs_period_us": "100000\n",
			"sys/fs/cgroup/memory/lab/host1/memory.limit_in_bytes": "536870912\n"},
			0.5, 512, "/lab/host1", "/"},
		{"v1 mounted with cpuacct", "machine.slice", nil, machine{
			"sys/fs/cgroup/cpu,cpuacct/machine.slice/cpu.cfs_quota_us": "200000\n", "sys/fs/cgroup/cpu,cpuacct/machine.slice/cpu.cfs_period_us": "100000\n"},
			2, 16384, "/machine.slice", ""},
		{"hybrid: cpu is v1", "machine.slice", v1, machine{
			"sys/fs/cgroup/unified/cgroup.controllers": "", "sys/fs/cgroup/unified/machine.slice/cpu.max": "100000 100000\n",
			"sys/fs/cgroup/cpu/machine.slice/cpu.cfs_quota_us": "300000\n", "sys/fs/cgroup/cpu/machine.slice/cpu.cfs_period_us": "100000\n"},
			3, 16384, "/machine.slice", "/"},
		{"a quota above the machine", "machine.slice", v2, machine{"sys/fs/cgroup/machine.slice/cpu.max": "6400000 100000\n"},
			8, 16384, "/machine.slice", "/"},
		{"a limit above the machine", "machine.slice", v2, machine{"sys/fs/cgroup/machine.slice/memory.max": "109951162777600\n"},
			8, 16384, "", "/"},
		{"no way out of the root", "../../..", v2, machine{"sys/fs/cpu.max": "1000 100000\n"}, 8, 16384, "", "/"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := bare().with(tt.base).with(tt.files).read(t, tt.cgroup)
			if err != nil {
				t.Fatal(err)
			}
			if s.CPU.Cores != tt.cores || s.Memory.CapacityMiB != tt.mem || s.CPU.QuotaAt != tt.quotaAt || s.CPU.CPUSetAt != tt.setAt {
				t.Errorf("got %+v %+v, absent %v", s.CPU, s.Memory, s.Absent)
			}
		})
	}
}

// A limit that is there but not understood must show, not count as none.
func TestALimitThatCannotBeReadIsNamed(t *testing.T) {
	s, err := bare().with(machine{
		"sys/fs/cgroup/cgroup.controllers": "", "sys/fs/cgroup/machine.slice/cpu.max": "fast\n",
		"sys/fs/cgroup/machine.slice/memory.max": "lots\n", "sys/fs/cgroup/machine.slice/cpuset.cpus.effective": "all\n",
	}).read(t, "machine.slice")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"cpu.quota", "memory.limit"} {
		if !strings.Contains(s.Absent[part], "/machine.slice") {
			t.Errorf("absent %v", s.Absent)
		}
	}
	if s.Absent["cpu.cpuset"] == "" {
		t.Errorf("absent %v", s.Absent)
	}
}

func TestWhatCannotBeReadIsAbsentWithItsReason(t *testing.T) {
	for file, part := range map[string]string{
		"proc/pressure/cpu": "cpu_pressure", "proc/pressure/memory": "memory_pressure", "proc/pressure/io": "io_pressure",
		"proc/loadavg": "load", "proc/stat": "context_switches", "sys/devices/system/node/online": "numa_nodes", "proc/self/stat": "own",
		"sys/class/net/eth0/device/x": "",
	} {
		s, err := bare().without(file).read(t, "")
		if err != nil || (part != "" && s.Absent[part] == "") {
			t.Errorf("without %s: %v, absent %v", file, err, s.Absent)
		}
		s, err = bare().with(machine{file: "garbage"}).read(t, "")
		if err != nil || (part != "" && s.Absent[part] == "") {
			t.Errorf("garbage in %s: %v, absent %v", file, err, s.Absent)
		}
	}
	s, err := bare().without("sys/class/net/eth0/device/x").read(t, "")
	if err != nil || len(s.Links) > 1 {
		t.Errorf("%v %v", s.Links, err)
	}
	s, err = bare().with(machine{"sys/class/net/eth0/speed": "-1\n"}).read(t, "")
	if err != nil || len(s.Links) != 1 || s.Links[0].SpeedMb != 0 || s.Links[0].Why == "" {
		t.Errorf("a link without a speed: %+v %v", s.Links, err)
	}
}

// Without CPUs or memory a host must not plan, so these two are errors.
func TestMissingCapacityIsAnError(t *testing.T) {
	for _, file := range []string{"sys/devices/system/cpu/online", "proc/meminfo"} {
		for name, m := range map[string]machine{
			"without": bare().without(file), "empty": bare().with(machine{file: "\n"}), "garbage": bare().with(machine{file: "x"}),
			"huge": bare().with(machine{file: strings.Repeat("x", maxFile+1)}),
		} {
			s, err := m.read(t, "")
			if err == nil {
				t.Errorf("%s %s: %+v", name, file, s.CPU)
			}
			if s.Load == nil {
				t.Errorf("%s %s: the rest is not filled", name, file)
			}
		}
	}
}

func TestThisMachineCanBeRead(t *testing.T) {
	if _, err := os.Stat("/proc/meminfo"); err != nil {
		t.Skip("no procfs here")
	}
	s, err := New(Options{DataDir: t.TempDir()}).Status()
	if err != nil || s.CPU.Cores <= 0 || s.Memory.CapacityMiB <= 0 || s.Own == nil || s.Disk == nil {
		t.Errorf("%+v, %v", s, err)
	}
}
