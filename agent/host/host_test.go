package host

import (
	"encoding/json"
	"testing"
)

func TestScratch(t *testing.T) {
	s, err := New(Options{MachineCgroup: "machine.slice", DataDir: "/"}).Status()
	b, _ := json.MarshalIndent(s, "", " ")
	t.Logf("%v\n%s", err, b)
}
