package lab

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// CutLink parts the host from the lab's switch. The host's interface keeps its
// carrier, so that nothing but silence tells.
func (l *Lab) CutLink(h *Host) error { return h.setPort(false) }

// HealLink joins the host to the switch again.
func (l *Lab) HealLink(h *Host) error { return h.setPort(true) }

// KillLibvirtd kills (-9) the host's libvirtd; its VMs run on. It is no error
// when none runs.
func (l *Lab) KillLibvirtd(ctx context.Context, h *Host) error {
	pid, err := h.LibvirtdPID()
	if err != nil || pid == 0 {
		return err
	}
	return h.killWait(ctx, pid)
}

// KillQEMU kills (-9) a VM's process, on every host that has one.
func (l *Lab) KillQEMU(ctx context.Context, vm string) error {
	found := false
	for _, h := range l.hosts {
		pid, err := h.VMPID(vm)
		if err != nil {
			return err
		}
		if pid == 0 {
			continue
		}
		found = true
		if err := h.killWait(ctx, pid); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("a process of VM %q: %w", vm, ErrNotFound)
	}
	return nil
}

// KillVM kills (-9) a VM's process on one host. It is no error when it has none
// there.
func (l *Lab) KillVM(ctx context.Context, h *Host, vm string) error {
	pid, err := h.VMPID(vm)
	if err != nil || pid == 0 {
		return err
	}
	return h.killWait(ctx, pid)
}

// libvirtPort is where a host's libvirtd answers the others.
const libvirtPort = "16509"

// finishReply is how the answer to a migration's last call, Finish, looks on the
// wire: libvirt's program and its version, the procedure of remote_protocol.x
// (306, DOMAIN_MIGRATE_FINISH3_PARAMS), and 1 for a reply.
const finishReply = "|200080860000000100000132 00000001|"

// LoseFinish has the host's network lose, until FindFinish, each packet in which its
// libvirtd answers Finish: the VM is whole here then, and the source does not know
// it. TCP sends the packet again in vain, and what comes after it waits for it.
func (l *Lab) LoseFinish(ctx context.Context, h *Host) error { return h.finishRule(ctx, "-A") }

// FindFinish ends LoseFinish.
func (l *Lab) FindFinish(ctx context.Context, h *Host) error { return h.finishRule(ctx, "-D") }

func (h *Host) finishRule(ctx context.Context, what string) error {
	_, err := h.Exec(ctx, "iptables", what, "OUTPUT", "-p", "tcp", "--sport", libvirtPort,
		"-m", "string", "--algo", "bm", "--hex-string", finishReply, "-j", "DROP")
	return err
}

// FinishesLost counts the packets that LoseFinish has lost.
func (l *Lab) FinishesLost(ctx context.Context, h *Host) (int, error) {
	text, err := h.Exec(ctx, "iptables", "-nvxL", "OUTPUT")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[2] == "DROP" {
			return strconv.Atoi(fields[0])
		}
	}
	return 0, fmt.Errorf("%s loses no answers of libvirtd: %w", h.name, ErrNotFound)
}

// ResetLibvirt breaks the connections of the host's libvirtd to the others', as a
// firewall does that has forgotten them.
func (l *Lab) ResetLibvirt(ctx context.Context, h *Host) error {
	_, err := h.Exec(ctx, "ss", "-K", "-t", "dport", "=", libvirtPort)
	return err
}
