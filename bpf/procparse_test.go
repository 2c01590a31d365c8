package bpf

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const statLine = "4242 (qemu) (x) S 1 4242 4242 0 -1 138412352 11 22 33 44 55 66 77 88 20 0 9 0 123456 8589934592 5000 18446744073709551615 1 1 0"

func TestParseStat(t *testing.T) {
	got, ok := parseStat([]byte(statLine))
	want := procStat{minorFaults: 11, majorFaults: 33, ticks: 121, threads: 9, start: 123456, rssPages: 5000}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(procStat{})); !ok || diff != "" {
		t.Errorf("ok %v, %s", ok, diff)
	}
	if z, ok := parseStat([]byte("1 (x) Z" + statLine[15:])); !ok || !z.zombie {
		t.Errorf("zombie is %+v, %v", z, ok)
	}
	own, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	if st, ok := parseStat(own); !ok || st.threads == 0 || st.rssPages == 0 || st.start == 0 {
		t.Errorf("own stat is %+v, %v", st, ok)
	}
	for cut := range len(statLine) - 30 {
		if _, ok := parseStat([]byte(statLine[:cut])); ok {
			t.Errorf("accepts what is cut after %d bytes", cut)
		}
	}
}

func TestParseSchedstat(t *testing.T) {
	cpu, wait, ok := parseSchedstat([]byte("123 456 7\n"))
	if cpu != 123 || wait != 456 || !ok {
		t.Error(cpu, wait, ok)
	}
	for _, bad := range []string{"", "1", "1 2", "a 2 3", "1 -2 3", "99999999999999999999 2 3"} {
		if _, _, ok := parseSchedstat([]byte(bad)); ok {
			t.Errorf("accepts %q", bad)
		}
	}
}

func TestParseIO(t *testing.T) {
	read, write, ok := parseIO([]byte("rchar: 1\nwchar: 2\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 3\n"))
	if read != 4096 || write != 8192 || !ok {
		t.Error(read, write, ok)
	}
	if _, _, ok := parseIO([]byte("rchar: 1\nread_bytes: 5\n")); ok {
		t.Error("accepts a file without write_bytes")
	}
}

func FuzzParseProc(f *testing.F) {
	f.Add([]byte(statLine))
	f.Add([]byte("123 456 7\n"))
	f.Add([]byte("read_bytes: 4096\nwrite_bytes: 8192\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if st, ok := parseStat(text); !ok && st.rssPages != 0 {
			t.Error("refused, yet complete")
		}
		parseSchedstat(text)
		parseIO(text)
	})
}
