package image

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

func TestArchiveIsReadByCpio(t *testing.T) {
	if _, err := exec.LookPath("cpio"); err != nil {
		t.Skip("no cpio to read it with")
	}
	var buf bytes.Buffer
	c := &cpioWriter{w: &buf}
	c.entry("dev", typeDir|0o755, [2]int{}, nil)
	c.entry("dev/console", typeChar|0o600, [2]int{5, 1}, nil)
	c.entry("init", typeFile|0o755, [2]int{}, []byte("hello"))
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	if buf.Len()%4 != 0 {
		t.Errorf("the archive has %d bytes, no multiple of four", buf.Len())
	}
	list := exec.Command("cpio", "-itv", "--quiet", "-n")
	list.Stdin = bytes.NewReader(buf.Bytes())
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]string{{"drwxr-xr-x", " dev"}, {"crw-------", "5,   1", "dev/console"}, {"-rwxr-xr-x", " 5 ", " init"}} {
		lines := strings.Split(string(out), "\n")
		for _, w := range want {
			if !strings.Contains(lines[i], w) {
				t.Errorf("cpio lists %q, want %q in it", lines[i], w)
			}
		}
	}
}
