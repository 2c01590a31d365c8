package lab

import (
	"context"
	"fmt"
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
