package config

import "testing"

func TestDefaultPassesCheck(t *testing.T) {
	c := Default()
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
}

func TestScratch(t *testing.T) {
	_, err := Parse("x.toml", []byte(`
[agent]
mode = "foo"
data_dir = 3
[sampling]
windw = "1s"
window = 5
tiers = ["syscall",
 "nope"]
[[slots.classes]]
name = "A B"
vcpu = "x"
memory_mib = 1
[[slots.classes]]
name = "b"
vcpu = 0
memory_mib = 1
[history]
tiers = [ {step="1s", keep="1h"}, {step="10x", keep="24h"} ]
[mesh]
bind = "0.0.0.0:7946"
`))
	t.Logf("\n%v", err)
}
