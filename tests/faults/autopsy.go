package faults

import (
	"context"
	"os"
	"strings"
)

// autopsy asks both hosts what they know of the guest.
func (r *Rig) autopsy(ctx context.Context) string {
	var b strings.Builder
	for _, s := range r.sides {
		b.WriteString("== " + s.host.Name() + "\n")
		state, err := s.host.Virsh(ctx, "domstate", "--reason", guestName)
		if err != nil {
			state = err.Error()
		}
		b.WriteString("libvirt: " + strings.TrimSpace(state) + "\n")
		for name, path := range map[string]string{
			"agent": s.node.Log(), "libvirtd": s.host.Outside("/var/log/libvirt/libvirtd.log"),
			"QEMU": s.host.Outside("/var/log/libvirt/qemu/" + guestName + ".log"),
		} {
			b.WriteString(tail(name, path))
		}
	}
	return b.String()
}

// tail is the end of a log, each line with the name of who wrote it.
func tail(name, path string) string {
	const most = 25
	text, err := os.ReadFile(path)
	if err != nil {
		return name + ": " + err.Error() + "\n"
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return name + ": " + strings.Join(lines[max(0, len(lines)-most):], "\n"+name+": ") + "\n"
}
